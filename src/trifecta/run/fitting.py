"""How many sequences are computed at once: what fits and pays, measured once; half of it where memory ran out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from trifecta.errors import ResourceError, is_out_of_memory
from trifecta.execution.memory import free_memory, release
from trifecta.optim import Optimizers
from trifecta.recipe.schema import Recipe
from trifecta.run import build
from trifecta.run.feed import Feed

SHARE = 0.8
"""Of free memory, that a micro-batch may take: rows that come later may be longer."""
_AS_FAST = 0.95
"""A larger micro-batch is taken if it has this share of the best one's speed."""
_SECONDS = 5.0
"""Longest that sizes are tried out, the one that is being tried aside."""

Bytes = Callable[[int], int]


@dataclass(frozen=True)
class Trial:
    """A micro-batch that fitted: how many samples, in how many seconds, forward and backward, in how many bytes."""

    samples: int
    seconds: float
    bytes: int

    @property
    def rate(self) -> float:
        """Samples in a second."""
        return self.samples / self.seconds


def choose(most: int, room: int | None, expected: Bytes, attempt: Callable[[int], Trial]) -> tuple[int, list[Trial]]:
    """Doubles the micro-batch while it fits and isn't slower; the largest of about the best speed, and all trials.

    Args:
        most: samples of an update. room: bytes that may be taken; None for unknown. expected: bytes before it is tried.

    Raises:
        ResourceError: not even one sample fits.
    """
    trials: list[Trial] = []
    for samples in _doubled(most):
        if room is not None and expected(samples) > room:
            break
        try:
            trial = attempt(samples)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            break
        if room is not None and trial.bytes > room:
            break
        trials.append(trial)
        best = max(trial.rate for trial in trials)
        if trial.rate < _AS_FAST * best or sum(3 * trial.seconds for trial in trials) > _SECONDS:
            break
    if not trials:
        raise ResourceError(
            f"not even one sequence fits: about {_size(expected(1))} are needed, {_size(room or 0)} may be taken",
            fix="lower data.sequence_length or the model, or set execution.gradient_checkpointing to true",
        )
    best = max(trial.rate for trial in trials)
    return max(trial.samples for trial in trials if trial.rate >= _AS_FAST * best), trials


def _doubled(most: int) -> Iterator[int]:
    samples = 1
    while samples < most:
        yield samples
        samples *= 2
    yield most


def measured(
    recipe: Recipe, feed: Feed, module: torch.nn.Module, optimizers: Optimizers, device: torch.device
) -> tuple[Recipe, str]:
    """The recipe with what fits as its micro-batch, and the reason; weights, moments and random state stay."""
    update = recipe.training.batch_size * recipe.training.gradient_accumulation_steps
    most = min(update, len(feed.samples))
    free = free_memory(device)
    room = None if free is None else int(SHARE * free)
    module.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        attempt = _attempts(feed, module, optimizers, device, build.autocast_of(recipe, device))
        expected = _expected(recipe, feed, most, device)
        found, trials = choose(most, room, expected, attempt)
    release(device)
    figures = ", ".join(f"{trial.samples}: {trial.rate:,.0f}" for trial in trials)
    taken = expected(found) or next(trial.bytes for trial in trials if trial.samples == found)
    why = (
        f"batch size auto: {found} of the {update} sequences of an update at once; about {_size(taken)}"
        f"{'' if room is None else f' of the {_size(room)} that may be taken'}; sequences a second by size: {figures}"
    )
    return with_micro_batch(recipe, found), why


def with_micro_batch(recipe: Recipe, size: int) -> Recipe:
    """The recipe with micro-batches of this size."""
    update = {"micro_batch_size": size, "fit_batch": False}
    return recipe.model_copy(update={"execution": recipe.execution.model_copy(update=update)})


def kept(recipe: Recipe, old: Recipe) -> Recipe:
    """On resume what was measured, or what memory has taught, stays."""
    size = old.execution.micro_batch_size
    if size is None or (recipe.execution.micro_batch_size is not None and not recipe.execution.fit_batch):
        return recipe
    return with_micro_batch(recipe, size)


def halved(recipe: Recipe, update: int, samples: int, reason: str, estimate: Callable[[], str]) -> tuple[Recipe, str]:
    """The recipe after so many samples at once didn't fit, and what is to be said of it.

    Args:
        update: samples of an update. estimate: in words, what would be needed.

    Raises:
        ResourceError: a single sample didn't fit.
    """
    if samples <= 1:
        raise ResourceError(
            f"out of memory with one sequence at a time; {estimate()}",
            fix="lower data.sequence_length or the model, or set execution.gradient_checkpointing to true",
        )
    size = samples // 2
    return with_micro_batch(recipe, size), (
        f"out of memory with {samples} sequences at once ({reason.splitlines()[0][:120]}): from here on {size}, in "
        f"{-(-update // size)} micro-batches an update (execution.micro_batch_size {size}); the update begins again"
    )


def estimated(recipe: Recipe, feed: Feed, device: torch.device) -> str:
    """In words, what one update is expected to take."""
    from trifecta.run.preview import expected_of

    found, _ = expected_of(recipe, feed, feed.objective.vocabulary.size, str(device))
    state = found.weight_bytes + found.gradient_bytes + found.optimizer_bytes
    return (
        f"about {_size(found.total_bytes)} are needed, {_size(state)} of them for weights, gradients and moments"
    )  # fmt: skip


def _expected(recipe: Recipe, feed: Feed, most: int, device: torch.device) -> Bytes:
    """Bytes of a micro-batch on a CPU, by size, from estimates at both ends; a GPU is asked afterwards."""
    if device.type == "cuda":
        return lambda _: 0
    from trifecta.run.preview import expected_of

    def at(samples: int) -> int:
        found, _ = expected_of(with_micro_batch(recipe, samples), feed, feed.objective.vocabulary.size, str(device))
        return found.total_bytes - found.weight_bytes

    one, all_ = at(1), at(most)
    return lambda samples: int(one + (all_ - one) * (samples - 1) / max(1, most - 1))


def _attempts(
    feed: Feed, module: torch.nn.Module, optimizers: Optimizers, device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> Callable[[int], Trial]:  # fmt: skip
    """Forward and backward of the first samples, twice; the faster one counts."""
    trained = sum(parameter.numel() for parameter in optimizers.parameters)

    def once(samples: int) -> float:
        batch = feed.at(0, 0, samples).to(device)
        began = time.perf_counter()
        with autocast():
            result = module(batch)
        loss = torch.stack([total for total, _ in result.terms.values()]).sum()
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    def attempt(samples: int) -> Trial:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        try:
            seconds = min(once(samples), once(samples))
        finally:
            optimizers.zero_grad()
        moments = 0 if optimizers.state_tensors() else 8 * trained
        peak = torch.cuda.max_memory_allocated(device) + moments if device.type == "cuda" else 0
        return Trial(samples, seconds, peak)

    return attempt


def _size(bytes_: int) -> str:
    return f"{bytes_ / 2**30:.1f} GiB" if bytes_ >= 2**30 else f"{bytes_ / 2**20:.0f} MiB"
