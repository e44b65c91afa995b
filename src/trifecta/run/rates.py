"""Rates and batches by the model's size, as in the guide that trifecta follows: training.learning_rate: auto."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trifecta.recipe import components
from trifecta.recipe.schema import Recipe
from trifecta.run import build


@dataclass(frozen=True)
class Size:
    """A size of models, up to so many parameters.

    learning_rate: for Adam and AdamW. warm_learning_rate: after a warm-up of warmup_steps or more. least_batch,
    usual_batch, large_batch: sequences in an update; the last on many devices.
    """

    name: str
    most_parameters: float
    learning_rate: float
    warm_learning_rate: float
    warmup_steps: int
    least_batch: int
    usual_batch: tuple[int, int]
    large_batch: int


SIZES = (
    Size("small", 50e6, 1e-3, 1e-3, 4_000, 32, (64, 128), 256),
    Size("base", 200e6, 5e-4, 6e-4, 8_000, 16, (32, 64), 128),
    Size("large", 700e6, 1e-4, 2e-4, 10_000, 8, (16, 32), 64),
    Size("XL", math.inf, 5e-5, 1e-4, 15_000, 4, (8, 16), 32),
)
"""Figures are the guide's; the borders lie between the widths 512, 768, 1024 and 1600 that it speaks of."""

_MUON = ((128, 0.01), (256, 0.007), (math.inf, 0.005))
"""Width up to, rate: what the presets with Muon use."""

_ADAFACTOR = 0.01
"""A share of the weights' root mean square (Shazeer and Stern, 2018)."""

_LION_SHARE = 0.2
"""Lion wants a rate 3 to 10 times lower than AdamW (Chen et al., 2023)."""

_FINETUNING_SHARE = 0.1
_LONGEST_WARMUP = 0.1
"""Of all steps, where auto chooses the warm-up."""


def size_of(parameters: int) -> Size:
    """The smallest that holds so many."""
    return next(size for size in SIZES if parameters <= size.most_parameters)


def batch_note(recipe: Recipe, parameters: int) -> str | None:
    """Advice where an update learns from fewer sequences than the guide wants of a model of this size."""
    size, training = size_of(parameters), recipe.training
    batches = [p.training.batch_size * p.training.gradient_accumulation_steps for p in build.phases_of(recipe)]
    if training.init_from is not None or max(batches) >= size.least_batch:
        return None
    low, high = size.usual_batch
    return (
        f"an update learns from {max(batches)} sequences; a {size.name} model ({_count(parameters)} parameters) wants "
        f"{size.least_batch} at least, better {low} to {high}, and {size.large_batch} on many devices: raise "
        "training.batch_size or training.gradient_accumulation_steps"
    )


def automatic(recipe: Recipe, parameters: int, total_steps: int) -> tuple[Recipe, str]:
    """The recipe with a learning rate in place of `auto`, and with a warm-up where it goes with it; and why.

    Only where the run has ten times as many steps as the table's warm-up is that taken over, unless one is written.
    """
    training = recipe.training
    optimizer = training.optimizer
    update: dict[str, float | int] = {}
    if isinstance(optimizer, components.Muon):
        rate = next(rate for width, rate in _MUON if recipe.model.d_model <= width)
        why = f"Muon at width {recipe.model.d_model}, as in the presets (the table by size is for Adam)"
    elif isinstance(optimizer, components.Adafactor) and optimizer.scale_parameter:
        rate, why = _ADAFACTOR, "Adafactor, as a share of the weights' size (the table by size is for Adam)"
    else:
        size = size_of(parameters)
        warmup = build.warmup_steps_of(recipe, total_steps)
        if _may_warm_up(recipe) and size.warmup_steps <= _LONGEST_WARMUP * total_steps:
            warmup = update["warmup_steps"] = size.warmup_steps
        warm = warmup >= size.warmup_steps
        rate = size.warm_learning_rate if warm else size.learning_rate
        why = f"{_count(parameters)} parameters: {size.name}{f', after {warmup:,} steps of warm-up' if warm else ''}"
        if isinstance(optimizer, components.Lion):
            rate, why = rate * _LION_SHARE, f"{why}; a fifth of it for Lion"
    if training.init_from is not None:
        rate, why = rate * _FINETUNING_SHARE, f"{why}; a tenth of it to go on with trained weights"
    rate = float(f"{rate:.3g}")
    training = training.model_copy(update={**update, "learning_rate": rate})
    return recipe.model_copy(update={"training": training}), f"learning rate {rate:g}: {why}"


def kept(recipe: Recipe, old: Recipe) -> Recipe:
    """On resume `auto` is what it was at the start, however long the run is now."""
    training, before = recipe.training, old.training
    if training.learning_rate is not None:
        return recipe
    update = {"learning_rate": before.learning_rate}
    if training.warmup_steps is None:
        update["warmup_steps"] = before.warmup_steps
    return recipe.model_copy(update={"training": training.model_copy(update=update)})


def _may_warm_up(recipe: Recipe) -> bool:
    """Whether the warm-up is left to us: schedules of Keras and one_cycle have none but their own."""
    training = recipe.training
    return (
        training.warmup_steps is None
        and training.init_from is None
        and training.scheduler.type not in build.NO_WARMUP
    )  # fmt: skip


def _count(number: int) -> str:
    return f"{number / 1e6:.0f} million" if number >= 10_000_000 else f"{number:,}"
