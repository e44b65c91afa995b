"""What a recipe asks for that its run is too short for: known once the data is cut into samples."""

from __future__ import annotations

from trifecta.errors import RecipeError
from trifecta.recipe import Resolved
from trifecta.recipe.schema import Recipe
from trifecta.run import build
from trifecta.run.feed import Feeds
from trifecta.run.resolution import Resolution

STEPWISE = {"step": "step_size", "exponential": "decay_steps", "exponential_decay": "decay_steps",
            "piecewise": "boundaries", "piecewise_constant_decay": "boundaries"}  # fmt: skip
"""Schedules that may leave the rate as it is for long -> the key that says how long."""


def check_length(recipe: Recipe, resolved: Resolved, total_steps: int, steps_per_epoch: int) -> None:
    """Holds everything that takes a number of updates against the whole run.

    Raises:
        RecipeError: it comes after the end, so it can't act.
    """
    _check_warmup(recipe, resolved, total_steps)
    _check_schedule(recipe, resolved, total_steps, steps_per_epoch)
    _check_patience(recipe, resolved, total_steps)
    _check_nonfinite(recipe, resolved, total_steps)
    _check_watch(recipe, resolved, total_steps)


def require_length(resolution: Resolution) -> None:
    """The same for a run that hasn't begun: reads its data, from the cache where that is there already.

    Raises:
        RecipeError: something comes after the end. DataError: the data can't be read.
    """
    recipe = resolution.recipe
    data = build.data_of(recipe, resolution.text, None)
    feeds = Feeds.of(recipe, build.objective_of(recipe, data.tokenizer), data.train, data.tokenizer).phases
    plan = build.course_of(recipe, [len(feed.samples) for feed in feeds])
    check_length(recipe, resolution.resolved, plan.total_steps(0, 0), plan.steps_per_epoch)


def _refuse(resolved: Resolved, keys: tuple[str, ...], what: str, fix: str) -> None:
    """At the first of the keys that is written anywhere."""
    origin = next((resolved.origins[key] for key in keys if key in resolved.origins), None)
    raise RecipeError(what, where=origin.where if origin else None, excerpt=origin.excerpt if origin else None, fix=fix)


def _longer(recipe: Recipe) -> str:
    return "lengthen the phases" if recipe.training.phases else "raise training.epochs or training.max_steps"


def _check_warmup(recipe: Recipe, resolved: Resolved, total_steps: int) -> None:
    warmup, key = recipe.training.warmup_steps, "training.warmup_steps"
    if warmup is not None and warmup > total_steps:
        _refuse(resolved, (key,), f"{key} is {warmup}, but the whole run has {total_steps} steps",
                f"lower {key}, or {_longer(recipe)}")  # fmt: skip


def _check_schedule(recipe: Recipe, resolved: Resolved, total_steps: int, steps_per_epoch: int) -> None:
    """Whether the rate after warm-up is ever another one."""
    section, key = recipe.training.scheduler, "training.scheduler"
    first = build.warmup_steps_of(recipe, total_steps) + 1
    if section.type not in STEPWISE or first >= total_steps:
        return
    keys = (f"{key}.{STEPWISE[section.type]}", f"{key}.type")
    if resolved.written.isdisjoint(keys):  # a preset's, over which another length was written
        return
    factor = build.schedule_of(recipe, total_steps, steps_per_epoch)
    if factor(first) == factor(total_steps):
        name, _ = keys
        value = getattr(section, STEPWISE[section.type])
        epochs = f" ({total_steps / steps_per_epoch:.3g} epochs)" if section.type == "step" else ""
        _refuse(resolved, keys,
                f"{key}.type is {section.type}, which never changes the rate in this run of {total_steps} "
                f"steps{epochs}: {name} is {value}",
                f"lower {name}, {_longer(recipe)}, or set {key}.type to constant")  # fmt: skip


def _check_patience(recipe: Recipe, resolved: Resolved, total_steps: int) -> None:
    """As many validations as these are needed without a gain, after a first one that is always the best."""
    patience, every = recipe.training.early_stopping_patience, recipe.training.evaluate_every_n_steps
    key = "training.early_stopping_patience"
    if patience is None or every is None or key not in resolved.written:
        return
    validations = -(-total_steps // every)
    if patience >= validations:
        _refuse(resolved, (key,), f"{key} is {patience}, but the whole run has {validations} validations",
                f"lower {key} or training.evaluate_every_n_steps, or {_longer(recipe)}")  # fmt: skip


def _check_nonfinite(recipe: Recipe, resolved: Resolved, total_steps: int) -> None:
    most, key = recipe.training.max_nonfinite_steps, "training.max_nonfinite_steps"
    if key in resolved.written and most > total_steps:
        _refuse(resolved, (key,), f"{key} is {most}, but the whole run has {total_steps} steps", f"lower {key}")


def _check_watch(recipe: Recipe, resolved: Resolved, total_steps: int) -> None:
    """Spikes are looked for once half a window is known, and rolled back where there is a place to go back to."""
    watch, key = build.watch_of(recipe), "training.spikes"
    if watch is None:
        return
    late = []
    if watch.begins_after >= total_steps:
        late.append(("window", f"looks for spikes after {watch.begins_after} updates (half of {key}.window)"))
    if (watch.every_n_steps or 0) >= total_steps:
        late.append(("every_n_steps", f"first has a place to go back to at step {watch.every_n_steps}"))
    if late:
        names = [f"{key}.{name}" for name, _ in late]
        _refuse(resolved, (*names, f"{key}.type"),
                f"{key}.type is {recipe.training.spikes.type}, which {' and '.join(what for _, what in late)}, and the "
                f"whole run has {total_steps}", f"lower {' and '.join(names)}, or remove {key}")  # fmt: skip
