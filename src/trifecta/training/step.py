"""One update: micro-batches to gradients to weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import torch

from trifecta.errors import RecipeError, is_out_of_memory
from trifecta.evaluation.metrics import Means
from trifecta.execution.precision import LossScaler
from trifecta.optim import Optimizers
from trifecta.optim.gradients import Transform, global_norm
from trifecta.optim.perturbations import Micro, Passes, plain
from trifecta.randomness import seed_dropout
from trifecta.types import Batch, LossSum


@dataclass(frozen=True)
class Limits:
    """The most that loss (nats) and gradient norm may be for an update to be made."""

    loss: float
    grad_norm: float


UNLIMITED = Limits(math.inf, math.inf)


@dataclass(frozen=True)
class Update:
    """What one update was: mean loss in nats, its weight, gradient norm before clipping, and whether it was skipped.

    beyond_limits: skipped though finite. terms, metrics: means over all micro-batches, by name.
    """

    loss: float
    weight: float
    grad_norm: float
    tokens: int
    samples: int
    skipped: bool
    beyond_limits: bool = False
    terms: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def update(
    module: torch.nn.Module,
    optimizers: Optimizers,
    batches: Sequence[Batch],
    *,
    number: int,
    learning_rate: float,
    transforms: Sequence[Transform],
    seed: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
    scaler: LossScaler | None = None,
    passes: Passes = plain,
    limits: Limits = UNLIMITED,
) -> Update:
    """Forward and backward of each micro-batch, then one update of the weights.

    Each term's total is divided by its weight summed over all micro-batches, once, so that unequal micro-batches give
    the gradient of the one big batch. If the loss or the gradient is not finite or above its limit, weights and moments
    stay untouched.

    Args:
        module: batch -> LossSum. number: of this update, from 1. transforms: what is done to the gradients, in order.
            passes: forward and backward of a micro-batch, as often as is wanted.
    """
    summed: dict[str, float] = defaultdict(float)
    for batch in batches:
        for name, weight in batch.weights.items():
            summed[name] += weight
    weights = dict(summed)
    optimizers.zero_grad()
    scale = scaler.scale if scaler else 1.0
    totals: dict[str, torch.Tensor] = {}
    metrics = Means()
    for micro_step, batch in enumerate(batches):
        result = _fitting(
            passes,
            batch,
            Micro(
                forward=partial(
                    _forward, module, batch.to(device), autocast, partial(seed_dropout, seed, number, micro_step)
                ),
                share=partial(_share, weights),
                backward=partial(_backward, scale if scaler else None),
            ),
        )
        shares = _shares(weights, result)
        for name, share in shares.items():
            totals[name] = totals[name] + share.detach() if name in totals else share.detach()
        metrics.add(result)
    terms = {name: float(total) for name, total in totals.items()}
    loss = sum(terms.values())
    parameters = optimizers.parameters
    if scaler:
        torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], 1.0 / scale)
    norm = float(global_norm(parameters))
    finite = math.isfinite(loss) and math.isfinite(norm)
    beyond_limits = loss > limits.loss or norm > limits.grad_norm
    made = finite and not beyond_limits
    if made:
        for transform in transforms:
            transform(parameters, norm, number)
        optimizers.set_learning_rate(learning_rate)
        optimizers.step()
    optimizers.zero_grad()
    if scaler:
        scaler.update(finite)
    return Update(
        loss=loss,
        weight=sum(weights.values()),
        grad_norm=norm,
        tokens=sum(batch.tokens for batch in batches),
        samples=sum(batch.samples for batch in batches),
        skipped=not made,
        beyond_limits=finite and beyond_limits,
        terms=terms,
        metrics=metrics.means(),
    )


class OutOfMemory(Exception):
    """A micro-batch of so many samples didn't fit; neither weights nor moments were touched."""

    def __init__(self, samples: int, what: str):
        super().__init__(what)
        self.samples = samples


def _fitting(passes: Passes, batch: Batch, micro: Micro) -> LossSum:
    try:
        return passes(micro)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        what = str(error) or type(error).__name__
    raise OutOfMemory(batch.samples, what)  # out here the failed pass and its tensors are gone


def _forward(
    module: torch.nn.Module, batch: Batch, autocast: Callable[[], AbstractContextManager[object]],
    reseed: Callable[[], None],
) -> LossSum:  # fmt: skip
    reseed()
    with autocast():
        result: LossSum = module(batch)
    return result


def _shares(weights: Mapping[str, float], result: LossSum) -> dict[str, torch.Tensor]:
    """What each term adds to the mean over all micro-batches."""
    _require_weights(weights, result)
    return {name: total / (weights[name] or 1.0) for name, (total, _) in result.terms.items()}


def _require_weights(weights: Mapping[str, float], result: LossSum) -> None:
    """A term without a weight would be divided by nothing.

    Raises:
        RecipeError: a loss of the user's own has a term that his batches don't know.
    """
    if unknown := sorted(result.terms.keys() - weights.keys()):
        raise RecipeError(
            f"the loss has a term {unknown[0]!r}, of which its batch has no weight (it has {', '.join(weights)})",
            fix="give a LossSum's terms and a Batch's weights the same names",
        )


def _share(weights: Mapping[str, float], result: LossSum) -> torch.Tensor:
    return torch.stack(list(_shares(weights, result).values())).sum()


def _backward(scale: float | None, share: torch.Tensor, factor: float) -> None:
    if not share.requires_grad:
        return  # with a frozen body a batch without targets has nothing to give
    if scale is not None:
        share = share * scale
    (share if factor == 1 else share * factor).backward()  # type: ignore[no-untyped-call]
