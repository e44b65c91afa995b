"""Adafactor: second moments kept as one row and one column of each matrix (Shazeer and Stern, 2018)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Adafactor:
    """Adam without a mean of gradients, whose second moments take rows + columns numbers instead of rows * columns.

    At a parameter's update t, with gradient G, b = 1 - t ** -decay_exponent and S = G^2 + epsilon:
    row <- b * row + (1 - b) * mean of S over columns, column likewise over rows, V = row * column / mean(row);
    vectors keep V itself. U = G / sqrt(V), divided by max(1, RMS(U) / clip_threshold); p <- p - lr * weight_decay * p
    - a * U, where a = r * max(minimal_scale, RMS(p)) with scale_parameter, else r; r = min(lr, 1 / sqrt(t)) with
    relative_step, else lr. Decay is decoupled and uses lr itself, as torch's does.

    State of a parameter: step, and row and column (with a dimension of 1 where they are means) or variance.
    """

    def __init__(
        self, groups: Sequence[dict[str, Any]], *, lr: float, decay_exponent: float, epsilon: float,
        minimal_scale: float, clip_threshold: float, scale_parameter: bool, relative_step: bool,
    ):  # fmt: skip
        self.param_groups: list[dict[str, Any]] = [{"lr": lr} | group for group in groups]
        self.state: defaultdict[Tensor, Any] = defaultdict(dict)
        self._decay_exponent, self._epsilon, self._minimal_scale = decay_exponent, epsilon, minimal_scale
        self._clip_threshold = clip_threshold
        self._scale_parameter, self._relative_step = scale_parameter, relative_step

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group["lr"], group["weight_decay"])

    def _update(self, parameter: Tensor, gradient: Tensor, rate: float, weight_decay: float) -> None:
        state = self.state[parameter]
        if not state:
            zeros = {name: gradient.new_zeros(shape) for name, shape in self.state_shapes(parameter).items()}
            state |= zeros | {"step": torch.zeros(())}
        state["step"] += 1
        number = float(state["step"])
        length = min(rate, number**-0.5) if self._relative_step else rate
        update = self._direction(gradient, state, number**-self._decay_exponent)
        update.div_((_rms(update) / self._clip_threshold).clamp_(min=1.0))
        if self._scale_parameter:
            update.mul_(_rms(parameter).clamp_(min=self._minimal_scale))
        if weight_decay:
            parameter.mul_(1 - rate * weight_decay)
        parameter.add_(update, alpha=-length)

    def _direction(self, gradient: Tensor, state: dict[str, Tensor], share: float) -> Tensor:
        """G / sqrt(V). Row and column are divided by one after the other, so that no product is too small for fp32."""
        square = gradient.square().add_(self._epsilon)
        if "variance" in state:
            return gradient * state["variance"].lerp_(square, share).rsqrt()
        row = state["row"].lerp_(square.mean(dim=-1, keepdim=True), share)
        column = state["column"].lerp_(square.mean(dim=-2, keepdim=True), share)
        return gradient * (row / row.mean(dim=-2, keepdim=True)).rsqrt_() * column.rsqrt()

    @staticmethod
    def state_shapes(parameter: Tensor) -> dict[str, tuple[int, ...]]:
        """The shapes of what is kept for a parameter, its step left out."""
        shape = tuple(parameter.shape)
        if len(shape) < 2:
            return {"variance": shape}
        return {"row": (*shape[:-1], 1), "column": (*shape[:-2], 1, shape[-1])}


def _rms(tensor: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tensor)
    return norm / math.sqrt(tensor.numel())
