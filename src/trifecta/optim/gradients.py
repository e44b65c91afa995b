"""What happens to gradients between backward and update."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def global_norm(parameters: Iterable[torch.nn.Parameter]) -> torch.Tensor:
    """The L2 norm of all gradients as one vector; a scalar tensor, not finite if any gradient isn't."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)


def clip_by_global_norm(parameters: Iterable[torch.nn.Parameter], norm: float, limit: float) -> None:
    """Scales all gradients by limit / norm when norm > limit (Pascanu et al., 2013); else touches nothing."""
    if norm > limit:
        torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], limit / norm)
