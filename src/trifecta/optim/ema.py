"""A running average of the weights (Polyak and Juditsky, 1992)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Module


class Ema:
    """average <- d * average + (1 - d) * weight after each update.

    In the first updates d is smaller, min(decay, (1 + n) / (10 + n)) at update n, so that the average forgets the first
    weights (TensorFlow's ExponentialMovingAverage). Buffers and frozen weights aren't averaged.
    """

    def __init__(self, model: Module, decay: float):
        self.decay = decay
        self._weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.averages = {name: p.detach().clone() for name, p in self._weights.items()}

    @torch.no_grad()
    def update(self, number: int) -> None:
        """Once the weights of update `number` (from 1) are there."""
        decay = min(self.decay, (1 + number) / (10 + number))
        averages, weights = list(self.averages.values()), [p.detach() for p in self._weights.values()]
        torch._foreach_lerp_(averages, weights, 1.0 - decay)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over saved averages.

        Raises:
            KeyError: one is missing, or of another shape; its name.
        """
        for name, average in self.averages.items():
            if name not in tensors or tensors[name].shape != average.shape:
                raise KeyError(name)
            average.copy_(tensors[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averages for weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, weight in self._weights.items():
            weight.data, self.averages[name] = self.averages[name], weight.data
