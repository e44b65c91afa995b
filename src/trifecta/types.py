"""What the parts hand to each other.

Tensors carry their shape as a suffix of the name:
B batch, T length, U decoder length, S key length, D model width, H heads, K head width, F feed-forward width,
V vocabulary, C classes, N supervised positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

IGNORE = -100
"""Target of a position that is not to be learned."""


@dataclass(frozen=True)
class Example:
    """One sample's ids and labels, as NumPy arrays by name (`tokens`, `targets`)."""

    arrays: Mapping[str, Any]


@dataclass(frozen=True)
class Batch:
    """One type for every task.

    inputs: tensors by name (`tokens_BT`). targets: integer tensors prefilled with IGNORE (`targets_BT`).
    weights: the count by which each loss term's total will be divided (`{"next_token": 1536.0}`).
    """

    inputs: Mapping[str, torch.Tensor]
    targets: Mapping[str, torch.Tensor]
    weights: Mapping[str, float]

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""

        def move(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}

        return Batch(move(self.inputs), move(self.targets), self.weights)


@dataclass(frozen=True)
class Output:
    """What a model returns inside the step; it knows no loss. hidden_BTD: after the final norm."""

    hidden_BTD: torch.Tensor
    taps: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class LossSum:
    """Named terms of (total, weight) and metrics of (sum, count). Never a mean.

    totals: scalar tensors in nats, with gradient. weights and metrics: plain numbers.
    """

    terms: Mapping[str, tuple[torch.Tensor, float]]
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class StepReport:
    """All that a hook gets of one update.

    step: counted from 1. epoch: counted from 1, of the samples just seen. loss: nats per unit of weight, over all
    micro-batches. grad_norm: global L2 norm before clipping. learning_rate: of this update. tokens: positions
    processed. seconds: wall time of the step. skipped: a non-finite step that touched nothing.
    """

    step: int
    epoch: int
    loss: float
    grad_norm: float
    learning_rate: float
    tokens: int
    seconds: float
    skipped: bool = False
    terms: Mapping[str, float] = field(default_factory=dict)
