"""What a run is at one moment: exactly what a checkpoint holds."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from torch import nn

from trifecta.optim import Optimizers
from trifecta.optim.ema import Ema

Count = Annotated[int, Field(ge=0)]


@dataclass
class Progress:
    """Everything of a run that isn't a tensor; saved as JSON, whose floats come back bit for bit.

    step: updates done, skipped ones included. samples_seen: the data cursor. epoch_nats, epoch_weight: training loss of
    the epoch so far, as sum and count. evaluated_step, sampled_step, saved_step: the last step at which that was done,
    so that a resumed run neither repeats nor forgets it. journal_offset: bytes of the journal that belong to it.
    recent_losses, recent_grad_norms: of the last updates, where spikes are watched for.
    """

    step: Count = 0
    samples_seen: Count = 0
    tokens_seen: Count = 0
    seconds: float = 0.0
    loss: float | None = None
    epoch_nats: float = 0.0
    epoch_weight: float = 0.0
    nonfinite_in_a_row: Count = 0
    recent_losses: list[float] = field(default_factory=list)
    recent_grad_norms: list[float] = field(default_factory=list)
    loss_scale: float | None = None
    loss_scale_good_steps: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    evaluations_without_gain: Count = 0
    evaluated_step: int = -1
    reported_epoch: int = 0
    sampled_step: int = -1
    saved_step: int = -1
    status: str = "running"
    journal_offset: Count = 0
    fingerprints: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Progress:
        """The reverse of `to_json`.

        Raises:
            KeyError, ValueError: a field is missing, or of another type or range.
        """
        names = {f.name for f in fields(cls)}
        values = {name: [] for name in _ADDED} | values
        if names != values.keys():
            raise KeyError(", ".join(sorted(names ^ values.keys())))
        try:
            return TypeAdapter(cls).validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            raise ValueError("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())) from None


_ADDED = ("recent_losses", "recent_grad_norms")
"""Fields that the first checkpoints of format 1 lack."""


@dataclass
class TrainState:
    """Model, optimizer, progress, and where the recipe wants one the running average of the weights."""

    model: nn.Module
    optimizers: Optimizers
    progress: Progress
    ema: Ema | None = None

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the model has the weights that are validated and used: their average, where there is one."""
        return nullcontext() if self.ema is None else self.ema.applied()
