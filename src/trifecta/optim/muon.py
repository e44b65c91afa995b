"""Muon: momentum, orthogonalised by Newton-Schulz iterations (Jordan et al., 2024)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch

from trifecta.hardware import has_fast_bf16

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(updates_NRC: torch.Tensor, steps: int) -> torch.Tensor:
    """Moves the singular values of each matrix of a stack to about 1 (0.7 to 1.2).

    X <- a X + (b X X^T + c (X X^T)^2) X, a quintic whose coefficients grow small singular values fastest.

    In bf16 where the processor computes it fast: the coefficients aim at a range, not at exactly 1.

    Args:
        updates_NRC: N matrices of R rows and C columns. steps: iterations.
    """
    a, b, c = _COEFFICIENTS
    tall = updates_NRC.size(1) > updates_NRC.size(2)
    x = updates_NRC.mT if tall else updates_NRC
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    if has_fast_bf16(x.device):
        x = x.bfloat16()
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    x = x.to(updates_NRC.dtype)
    return x.mT if tall else x


class Muon:
    """Muon for 2-D parameters; matrices of one shape are orthogonalised as one stack.

    buffer <- momentum * buffer + (1 - momentum) * gradient; the (Nesterov) buffer, orthogonalised and scaled by
    0.2 * sqrt(max(rows, columns)) so that it is as long as a typical AdamW update (Liu et al., Muon is scalable, 2025),
    is the update; weight decay is decoupled.

    Args:
        groups: dicts with params, all of them matrices, and weight_decay; lr is given to each.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        newton_schulz_steps: int,
    ):
        self.param_groups: list[dict[str, Any]] = [{"lr": lr} | group for group in groups]
        self.state: defaultdict[torch.Tensor, Any] = defaultdict(dict)
        self._momentum, self._nesterov, self._iterations = momentum, nesterov, newton_schulz_steps

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            self._step_group(group)

    def _step_group(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        for p in parameters:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        gradients = [p.grad for p in parameters]
        buffers = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - self._momentum)
        updates = torch._foreach_lerp(gradients, buffers, self._momentum) if self._nesterov else buffers
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        by_shape: dict[tuple[int, ...], list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)
        for p, update in zip(parameters, updates, strict=True):
            by_shape[tuple(p.shape)].append((p, update))
        for shape, pairs in by_shape.items():
            stacked = torch.stack([update for _, update in pairs])
            directions = orthogonalise(stacked, self._iterations)
            scale = -group["lr"] * 0.2 * max(shape) ** 0.5
            torch._foreach_add_([p for p, _ in pairs], list(directions.unbind()), alpha=scale)
