"""A torch.optim.Optimizer that trifecta doesn't know, as one part of `Optimizers`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch

_OURS = frozenset({"params", "lr", "lr_ratio"})
"""What a group has from trifecta at each update."""


class Foreign:
    """An optimizer of any class, whose groups' settings count as state once they change.

    keeps_state_of_each: whether it keeps something for each parameter, so that a saved state without it is incomplete.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, keeps_state_of_each: bool):
        self._optimizer = optimizer
        self.param_groups: list[dict[str, Any]] = optimizer.param_groups
        self.state: defaultdict[torch.Tensor, Any] = optimizer.state
        self.keeps_state_of_each = keeps_state_of_each
        self._first = [deepcopy(_settings(group)) for group in self.param_groups]

    @property
    def steps_on_cpu(self) -> bool:
        """torch's own keep `step` on the CPU unless they are fused or capturable."""
        return not any(group.get("fused") or group.get("capturable") for group in self.param_groups)

    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        self._optimizer.step()

    def named_groups(self) -> dict[str, dict[str, Any]]:
        """Its groups by the names that their settings are saved under."""
        return {f"group {number}": group for number, group in enumerate(self.param_groups)}

    def changed_settings(self) -> Iterator[tuple[str, str, Any]]:
        """Group, name and value of each setting that isn't what it was at the start, such as a count of steps."""
        for (owner, group), first in zip(self.named_groups().items(), self._first, strict=True):
            for name, value in _settings(group).items():
                if name not in first or not _same(first[name], value):
                    yield owner, name, value


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in _OURS}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)
