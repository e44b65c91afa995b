"""Optimizers and learning-rate schedules by the names that recipes use."""

from __future__ import annotations

from collections.abc import Callable

from trifecta.optim import custom, keras, optimizers, schedules
from trifecta.optim.optimizers import Optimizers, Trainable
from trifecta.optim.schedules import Schedule, Span

OPTIMIZERS: dict[str, Callable[..., Optimizers]] = {
    "adamw": optimizers.adamw,
    "adam": optimizers.adam,
    "sgd": optimizers.sgd,
    "muon": optimizers.muon,
    "lion": optimizers.lion,
    "adafactor": optimizers.adafactor,
    "custom": custom.custom,
}
SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": schedules.constant,
    "linear": schedules.linear,
    "cosine": schedules.cosine,
    "step": schedules.step,
    "exponential": schedules.exponential,
    "piecewise": schedules.piecewise,
    "inverse_sqrt": schedules.inverse_sqrt,
    "one_cycle": schedules.one_cycle,
    "wsd": schedules.wsd,
    "exponential_decay": keras.exponential_decay,
    "cosine_decay": keras.cosine_decay,
    "piecewise_constant_decay": keras.piecewise_constant_decay,
}

__all__ = ["OPTIMIZERS", "SCHEDULES", "Optimizers", "Schedule", "Span", "Trainable"]
