"""torch's fused AdamW without the class around it: making one imports torch's compiler, 1.8 s and 75 MB."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch.optim.adamw import adamw


class Optimizer(Protocol):
    """What is needed of an optimizer; torch's own have it too.

    param_groups: dicts with params, lr and more. state: tensors by parameter and name.
    """

    param_groups: list[dict[str, Any]]
    state: defaultdict[torch.Tensor, Any]

    def step(self) -> object:
        """One update of every parameter that has a gradient."""


class AdamW:
    """p <- p - lr * (m / (sqrt(v) + epsilon) + weight_decay * p), moments corrected (Loshchilov and Hutter, 2017).

    State of a parameter, as in torch: step, exp_avg, exp_avg_sq.

    Args:
        groups: dicts with params and weight_decay; lr is given to each.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float):
        self.param_groups: list[dict[str, Any]] = [{"lr": lr} | group for group in groups]
        self.state: defaultdict[torch.Tensor, Any] = defaultdict(dict)
        self._betas, self._eps = betas, eps

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for p in parameters:
                if not self.state[p]:
                    self.state[p] |= {
                        "step": torch.zeros((), device=p.device),
                        "exp_avg": torch.zeros_like(p),
                        "exp_avg_sq": torch.zeros_like(p),
                    }
            steps, means, squares = (
                [self.state[p][name] for p in parameters] for name in ("step", "exp_avg", "exp_avg_sq")
            )
            adamw(
                parameters, [p.grad for p in parameters], means, squares, [], steps, fused=True, amsgrad=False,
                beta1=self._betas[0], beta2=self._betas[1], lr=group["lr"], weight_decay=group["weight_decay"],
                eps=self._eps, maximize=False,
            )  # fmt: skip
