"""Loss over a whole split, by counted tokens, in constant memory."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch

from trifecta.evaluation.metrics import Means, bits_per_byte, perplexity
from trifecta.types import Batch, LossSum


@dataclass(frozen=True)
class Evaluation:
    """Loss in nats per counted target, exp of it, bits per UTF-8 byte of the split's text, and what was counted.

    metrics: what the objective counts besides, such as accuracy.
    """

    loss: float
    perplexity: float
    bits_per_byte: float | None
    tokens: int
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)


def evaluate(
    module: torch.nn.Module,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
    text_bytes: int | None,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda _: None,
) -> Evaluation | None:
    """Sums losses and counts over all batches, then divides once; None if asked to stop on the way.

    Leaves the module's mode and torch's random state as they were.

    Args:
        module: batch -> LossSum. text_bytes: UTF-8 bytes of the text that the batches hold; None where
            the losses don't cover it.
        progress: called with the number of samples done so far.
    """
    started = time.perf_counter()
    totals: dict[str, float] = defaultdict(float)
    weights: dict[str, float] = defaultdict(float)
    metrics, samples = Means(), 0
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            for batch in batches:
                if should_stop():
                    return None
                with autocast():
                    result: LossSum = module(batch.to(device))
                for name, (total, weight) in result.terms.items():
                    totals[name] += float(total)
                    weights[name] += weight
                metrics.add(result)
                samples += batch.samples
                progress(samples)
    finally:
        module.train(was_training)
    judged = [totals[name] / weights[name] for name in totals if weights[name]]
    loss = sum(judged) if judged else math.nan  # nothing was judged, so nothing is good
    return Evaluation(
        loss=loss,
        perplexity=perplexity(loss),
        bits_per_byte=None if text_bytes is None else bits_per_byte(sum(totals.values()), text_bytes),
        tokens=int(sum(weights.values())),
        seconds=time.perf_counter() - started,
        metrics=metrics.means(),
    )
