"""Lion: the sign of an interpolated momentum (Chen et al., Symbolic Discovery of Optimization Algorithms, 2023)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch


class Lion:
    """p <- p - lr * (sign(beta_1 * m + (1 - beta_1) * g) + weight_decay * p); then m <- beta_2 * m + (1 - beta_2) * g.

    State of a parameter: momentum.

    Args:
        groups: dicts with params and weight_decay; lr is given to each.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], *, lr: float, betas: tuple[float, float]):
        self.param_groups: list[dict[str, Any]] = [{"lr": lr} | group for group in groups]
        self.state: defaultdict[torch.Tensor, Any] = defaultdict(dict)
        self._betas = betas

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            for p in parameters:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            gradients = [p.grad for p in parameters]
            momenta = [self.state[p]["momentum"] for p in parameters]
            updates = torch._foreach_lerp(momenta, gradients, 1 - self._betas[0])
            torch._foreach_sign_(updates)
            if group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, updates, alpha=-group["lr"])
            torch._foreach_lerp_(momenta, gradients, 1 - self._betas[1])
