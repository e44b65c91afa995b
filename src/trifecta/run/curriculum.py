"""Which samples are easy: the order of a recipe's curriculum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from trifecta import registry
from trifecta.data.cache import read_summed, summed, write_beside
from trifecta.data.sampler import PACING, Curriculum, Order, Sampler
from trifecta.errors import CheckpointError, RecipeError
from trifecta.recipe.schema import Recipe
from trifecta.run import build
from trifecta.run.feed import Feed
from trifecta.run.opened import Run, load
from trifecta.tokenizers import Tokenizer, fingerprint
from trifecta.training.files import disk_errors
from trifecta.types import Example

ORDER = "curriculum.json"
"""File in a run's folder: samples, the easiest first, where finding that out took a model."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """What is to be ordered. place: the run's folder, which keeps an order that took a model."""

    feed: Feed
    tokenizer: Tokenizer
    place: Path
    report: build.Report | None = None


def with_curriculum(samples: Samples, recipe: Recipe) -> Feed:
    """The feed with easy samples first, where the recipe asks for it.

    Raises:
        RecipeError, CheckpointError: the reference isn't a run, or has another objective or tokenizer.
    """
    section = recipe.data.curriculum
    order: Order = registry.build(CURRICULA, section.type, "curriculum", samples, **build.fields(section))
    return replace(samples.feed, sampler=order)


def unseen(feed: Feed, samples: int) -> str | None:
    """In words, what a run of so many samples never comes to; None where it sees everything."""
    order = feed.sampler
    if not isinstance(order, Curriculum) or samples >= order.samples:
        return None
    share = order.allowed(max(0, samples - 1)) / len(order)
    return (
        f"the curriculum grows for {order.samples / len(order):.3g} epochs, and the run ends after "
        f"{samples / len(order):.3g}: the hardest {1 - share:.0%} of the samples are never seen"
    )


def _grown(
    samples: Samples, order: npt.NDArray[np.int64], *, pacing: str, start_ratio: float, epochs: float
) -> Curriculum:
    after = samples.feed.sampler
    assert isinstance(after, Sampler)
    return Curriculum(order, partial(PACING[pacing], start_ratio), round(epochs * len(order)), after=after)


def at_once(samples: Samples) -> Order:
    """No curriculum."""
    return samples.feed.sampler


def by_length(samples: Samples, *, pacing: str, start_ratio: float, epochs: float) -> Order:
    """The shortest first."""
    order = easiest_first(_lengths(samples.feed))
    return _grown(samples, order, pacing=pacing, start_ratio=start_ratio, epochs=epochs)


def by_rarity(samples: Samples, *, pacing: str, start_ratio: float, epochs: float) -> Order:
    """Those of frequent tokens first."""
    order = easiest_first(_rarities(samples.feed, samples.tokenizer))
    return _grown(samples, order, pacing=pacing, start_ratio=start_ratio, epochs=epochs)


def by_loss(samples: Samples, *, pacing: str, start_ratio: float, epochs: float, reference: str) -> Order:
    """Those first that a reference finds easy. A resume needs the reference no more."""
    file = samples.place / ORDER
    if file.exists():
        order = _read(file)
        if len(order) != len(samples.feed.samples):
            raise CheckpointError(
                "the curriculum's order is damaged", where=str(file), fix="remove it: it is made anew"
            )
    else:
        order = easiest_first(_losses(samples, reference))
        with disk_errors(samples.place, 0, "the curriculum's order"):
            write_beside(file, summed({"order": order.tolist()}))
    return _grown(samples, order, pacing=pacing, start_ratio=start_ratio, epochs=epochs)


CURRICULA: dict[str, Callable[..., Order]] = {
    "none": at_once, "length": by_length, "rarity": by_rarity, "reference_loss": by_loss,
}  # fmt: skip
"""Type -> order of a feed's samples."""


def _read(file: Path) -> npt.NDArray[np.int64]:
    try:
        return np.array(read_summed(file)["order"], dtype=np.int64)
    except (OSError, ValueError, KeyError, TypeError):
        return np.empty(0, dtype=np.int64)


def easiest_first(difficulty: Floats) -> npt.NDArray[np.int64]:
    """Samples in the order of their difficulty; equally hard ones as they come."""
    return np.argsort(difficulty, kind="stable").astype(np.int64)


def _tokens(feed: Feed, index: int) -> npt.NDArray[np.int64]:
    sample = feed.samples[index]
    return np.asarray(sample.arrays["tokens"] if isinstance(sample, Example) else sample)


def _lengths(feed: Feed) -> Floats:
    """Tokens of each sample."""
    return np.array([len(_tokens(feed, index)) for index in range(len(feed.samples))], dtype=np.float64)


def _rarities(feed: Feed, tokenizer: Tokenizer) -> Floats:
    """Sum of -log p(token) of each sample, p being the token's share of all samples."""
    size = max(tokenizer.vocab_size, feed.objective.vocabulary.size)
    counts = np.zeros(size)
    for index in range(len(feed.samples)):
        counts += np.bincount(_tokens(feed, index), minlength=size)
    surprise = -np.log(np.maximum(counts, 1) / counts.sum())
    return np.array([surprise[_tokens(feed, index)].sum() for index in range(len(feed.samples))])


def _losses(samples: Samples, reference: str) -> Floats:
    """Mean loss of each sample in nats, as the reference run finds it."""
    feed = samples.feed
    run = load(reference)
    _require_same(run, feed, samples.tokenizer, reference)
    judge = replace(feed, part="validation")
    module = build.module_of(run.recipe, run.model, run.objective).eval()
    found = np.zeros(len(feed.samples))
    with torch.no_grad():
        for index in range(len(found)):
            batch = judge.batch((np.zeros(1, np.int64), np.array([index])))
            terms = module(batch.to(run.device)).terms.values()
            found[index] = sum(float(total) / weight for total, weight in terms if weight)
            if samples.report and index % 64 == 0:
                samples.report("ordering by the reference's loss", index / len(found))
    return found


def _require_same(run: Run, feed: Feed, tokenizer: Tokenizer, reference: str) -> None:
    key = "data.curriculum.reference"
    if type(run.objective) is not type(feed.objective):
        raise RecipeError(
            f"{key} {reference} has objective.type {run.recipe.objective.type}, which isn't this run's",
            fix="name a run of the same objective",
        )
    if fingerprint(run.tokenizer) != fingerprint(tokenizer):
        raise RecipeError(
            f"{key} {reference} has another tokenizer, so its losses are of other tokens",
            fix=f"train with its tokenizer: tokenizer={reference}/tokenizer.json",
        )
    labels, known = getattr(feed.objective, "labels", None), getattr(run.objective, "labels", None)
    if labels and known and list(labels) != list(known):
        raise RecipeError(f"{key} {reference} knows other labels", fix="name a run of the same labels")
