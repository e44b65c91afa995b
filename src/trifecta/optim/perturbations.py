"""Training against those small changes of the embeddings that hurt most (adversarial training).

Each way is a sequence of passes over one micro-batch; whatever it does, one gradient comes out, whose size is that of
the plain loss: shares of several passes add up to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trifecta.types import LossSum


@dataclass(frozen=True)
class Micro:
    """One micro-batch.

    forward: its sums and counts, with the same dropout each time. share: what it adds to the mean loss of the update, a
    scalar with gradient. backward: adds a share's gradient, times a factor, to those of the parameters.
    """

    forward: Callable[[], LossSum]
    share: Callable[[LossSum], Tensor]
    backward: Callable[[Tensor, float], None]


Passes = Callable[[Micro], LossSum]
"""Does all passes over a micro-batch, and returns what is reported of it."""


def plain(micro: Micro) -> LossSum:
    """One pass."""
    result = micro.forward()
    micro.backward(micro.share(result), 1.0)
    return result


class Tap:
    """What an embedding gives, (B, T, D), in the first call of each forward pass, with something added to it."""

    def __init__(self, embedding: nn.Module):
        self._embedding = embedding
        self._delta: Tensor | None = None
        self._output: Tensor | None = None

    @contextmanager
    def open(self, delta: Tensor | None = None) -> Iterator[None]:
        """Inside, delta is added, and the gradient of the sum is kept."""
        self._delta, self._output = delta, None
        handle = self._embedding.register_forward_hook(self._watch)
        try:
            yield
        finally:
            handle.remove()

    def _watch(self, _module: nn.Module, _arguments: object, output: Tensor) -> Tensor:
        if self._output is not None:
            return output  # a decoder that shares the embedding
        self._output = output if self._delta is None else output + self._delta
        if not self._output.requires_grad:
            self._output.requires_grad_()
        self._output.retain_grad()
        return self._output

    @property
    def output(self) -> Tensor:
        """What the embedding gave, with delta."""
        assert self._output is not None, "no forward pass has used this embedding"
        return self._output

    @property
    def gradient(self) -> Tensor:
        """Of what was done backward since `open`, (B, T, D)."""
        gradient = self.output.grad
        return torch.zeros_like(self.output) if gradient is None else gradient


def ascent(gradient: Tensor, length: float) -> Tensor:
    """The gradient of each row, made this long; rows without a gradient stay 0."""
    return (gradient.float() * (length / _norms(gradient))).to(gradient.dtype)


def within(delta: Tensor, radius: float) -> Tensor:
    """Each row of delta, shortened to the radius where it is longer."""
    return (delta.float() * (radius / _norms(delta)).clamp(max=1.0)).to(delta.dtype)


def _norms(x: Tensor) -> Tensor:
    """Length of each row, (B, 1, ...), in fp32; never 0, so that it can divide."""
    norms: Tensor = torch.linalg.vector_norm(x.float(), dim=tuple(range(1, x.dim())), keepdim=True)
    return norms.clamp(min=1e-30)


def fgm(embedding: nn.Module, *, epsilon: float, weight: float) -> Passes:
    """Fast gradient method (Miyato et al., 2017): (1 - weight) L(x) + weight L(x + epsilon g / |g|), g = dL/dx."""
    tap = Tap(embedding)

    def passes(micro: Micro) -> LossSum:
        with tap.open():
            result = micro.forward()
            micro.backward(micro.share(result), 1 - weight)
        with tap.open(ascent(tap.gradient.detach(), epsilon)):
            micro.backward(micro.share(micro.forward()), weight)
        return result

    return passes


def pgd(embedding: nn.Module, *, epsilon: float, weight: float, steps: int, step_size: float) -> Passes:
    """Projected gradient descent (Madry et al., 2018): as `fgm`, with the worst of `steps` steps within epsilon.

    delta <- within(delta + step_size g / |g|, epsilon); the steps on the way leave the parameters' gradients alone.
    """
    tap = Tap(embedding)

    def passes(micro: Micro) -> LossSum:
        with tap.open():
            result = micro.forward()
            micro.backward(micro.share(result), 1 - weight)
        delta = within(ascent(tap.gradient.detach(), step_size), epsilon)
        for _ in range(steps - 1):
            with tap.open(delta):
                (gradient,) = torch.autograd.grad(micro.share(micro.forward()), [tap.output])
            delta = within(delta + ascent(gradient, step_size), epsilon)
        with tap.open(delta):
            micro.backward(micro.share(micro.forward()), weight)
        return result

    return passes


def freelb(embedding: nn.Module, *, epsilon: float, steps: int, step_size: float) -> Passes:
    """FreeLB (Zhu et al., 2020): the mean of the gradients along `steps` steps of ascent from a random place.

    What is reported is the loss at the first place, which is drawn evenly from within epsilon / sqrt(T D) of each
    feature.
    """
    tap = Tap(embedding)

    def passes(micro: Micro) -> LossSum:
        with tap.open(), torch.no_grad():
            micro.forward()
        size = tap.output.shape
        drawn = torch.rand(size, device=tap.output.device, dtype=tap.output.dtype) * 2 - 1
        delta = drawn * (epsilon / (size[1] * size[2]) ** 0.5)
        first: LossSum | None = None
        for _ in range(steps):
            with tap.open(delta):
                result = micro.forward()
                micro.backward(micro.share(result), 1 / steps)
            delta = within(delta + ascent(tap.gradient.detach(), step_size), epsilon)
            first = first or result
        assert first is not None
        return first

    return passes


def none(embedding: nn.Module) -> Passes:
    """No adversary."""
    del embedding
    return plain


ADVERSARIES: dict[str, Callable[..., Passes]] = {"none": none, "fgm": fgm, "pgd": pgd, "freelb": freelb}
