"""What happens to gradients between backward and update."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import Parameter

from trifecta.randomness import key

Transform = Callable[[Sequence[Parameter], float, int], None]
"""Changes the gradients of parameters in place; gets the global norm that they came with, and the update's number."""

_SMALLEST_WEIGHT_NORM = 1e-3
"""Weights that are still 0 could else never move (Brock et al., 2021)."""


def global_norm(parameters: Iterable[Parameter]) -> Tensor:
    """The L2 norm of all gradients as one vector; a scalar tensor, not finite if any gradient isn't."""
    return torch.nn.utils.get_total_norm(_gradients(parameters), foreach=True)


def clip_norm(limit: float) -> Transform:
    """Scales all gradients by limit / norm when norm > limit (Pascanu et al., 2013); else touches nothing."""

    def clip(parameters: Sequence[Parameter], norm: float, number: int) -> None:
        del number
        if norm > limit:
            torch._foreach_mul_(_gradients(parameters), limit / norm)

    return clip


def clip_value(limit: float) -> Transform:
    """Limits each element to -limit..limit."""

    def clip(parameters: Sequence[Parameter], norm: float, number: int) -> None:
        del norm, number
        gradients = _gradients(parameters)
        torch._foreach_clamp_min_(gradients, -limit)
        torch._foreach_clamp_max_(gradients, limit)

    return clip


def clip_adaptive(ratio: float) -> Transform:
    """Limits the gradient of each unit (row of a matrix; else the whole) to `ratio` times the norm of its weights.

    g <- g * ratio * max(|w|, 0.001) / |g| where |g| is more (Brock et al., High-Performance Large-Scale Image
    Recognition Without Normalization, 2021).
    """

    @torch.no_grad()
    def clip(parameters: Sequence[Parameter], norm: float, number: int) -> None:
        del norm, number
        for parameter in parameters:
            if parameter.grad is not None:
                most = _unit_norms(parameter).clamp_(min=_SMALLEST_WEIGHT_NORM).mul_(ratio)
                parameter.grad.mul_((most / _unit_norms(parameter.grad).clamp_(min=1e-30)).clamp_(max=1.0))

    return clip


def add_noise(scale: float, decay: float, seed: int) -> Transform:
    """Adds Gaussian noise of variance scale / (1 + n) ** decay at update n (Neelakantan et al., 2015).

    What is drawn follows from the seed and the update's number alone.
    """

    def add(parameters: Sequence[Parameter], norm: float, number: int) -> None:
        del norm
        deviation = (scale / (1 + number) ** decay) ** 0.5
        generators: dict[torch.device, torch.Generator] = {}
        for gradient in _gradients(parameters):
            generator = generators.get(gradient.device)
            if generator is None:
                generator = torch.Generator(gradient.device).manual_seed(key(seed, "gradient noise", number))
                generators[gradient.device] = generator
            noise = torch.empty_like(gradient).normal_(0.0, deviation, generator=generator)
            gradient.add_(noise)

    return add


def _gradients(parameters: Iterable[Parameter]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _unit_norms(tensor: Tensor) -> Tensor:
    """Norms that divide the tensor: of each first index of a matrix, else of all of it."""
    if tensor.dim() < 2:
        return cast(Tensor, torch.linalg.vector_norm(tensor))
    return cast(Tensor, torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.dim())), keepdim=True))
