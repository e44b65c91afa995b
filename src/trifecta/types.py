"""What the parts hand to each other.

Tensors carry their shape as a suffix of the name:
B batch, T length, U decoder length, S key length, D model width, H heads, K head width, F feed-forward width,
V vocabulary, C classes, N supervised positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

IGNORE = -100
"""Target of a position that is not to be learned."""


@dataclass(frozen=True)
class Example:
    """One sample's ids and labels, as NumPy arrays by name (`tokens`, `targets`). cut: tokens that found no room."""

    arrays: Mapping[str, Any]
    cut: int = 0


@dataclass(frozen=True)
class Batch:
    """One type for every task.

    inputs: tensors by name (`tokens_BT`). targets: integer tensors prefilled with IGNORE (`targets_BT`).
    weights: the count by which each loss term's total will be divided (`{"next_token": 1536.0}`).
    samples: of the data set; rows may hold several. tokens: positions that aren't padding; patches of images.
    """

    inputs: Mapping[str, torch.Tensor]
    targets: Mapping[str, torch.Tensor]
    weights: Mapping[str, float]
    samples: int
    tokens: int

    @property
    def positions(self) -> int:
        """Positions computed, padding among them; images have none."""
        return sum(tensor.numel() for name, tensor in self.inputs.items() if "tokens_" in name) or self.tokens

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""

        def move(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}

        return replace(self, inputs=move(self.inputs), targets=move(self.targets))


@dataclass(frozen=True)
class Output:
    """What a model returns inside the step; it knows no loss. hidden_BTD: after the final norm."""

    hidden_BTD: torch.Tensor
    taps: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class LossSum:
    """Named terms of (total, weight) and metrics of (sum, count). Never a mean.

    totals: scalar tensors in nats, with gradient. weights: plain numbers. metrics: sums and counts as scalar
    tensors or numbers.
    """

    terms: Mapping[str, tuple[torch.Tensor, float]]
    metrics: Mapping[str, tuple[torch.Tensor, torch.Tensor | float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Spike:
    """Why an update was not made: its loss or its gradient norm was above its limit.

    returned_to: the step whose weights and moments are back; None if they stayed as they were.
    """

    loss_limit: float
    grad_norm_limit: float
    returned_to: int | None = None


@dataclass(frozen=True)
class StepReport:
    """All that a hook gets of one update.

    step: counted from 1. epoch: counted from 1, of the samples just seen. loss: nats per unit of weight, over all
    micro-batches. grad_norm: global L2 norm before clipping. learning_rate: of this update. tokens: positions
    that aren't padding. seconds: wall time of the step. metrics: what the objective counted, such as accuracy.
    skipped: a step that touched nothing, since it was not finite, or a spike.
    """

    step: int
    epoch: int
    loss: float
    grad_norm: float
    learning_rate: float
    tokens: int
    seconds: float
    skipped: bool = False
    spike: Spike | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
