"""What a technique does to a recipe: runs in pairs with equal seeds, and the effect with its interval."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from trifecta.errors import CheckpointError, NumericsError, RecipeError, RecipeErrors, ResourceError
from trifecta.experiments.effects import Effect, paired
from trifecta.experiments.processes import apart, peak_bytes
from trifecta.experiments.techniques import Toggle

if TYPE_CHECKING:
    from trifecta.run.request import Request
    from trifecta.run.resolution import Resolution

BASELINE = "baseline"
_NOT_METRICS = ("event", "step", "epoch", "split", "loss", "perplexity", "bits_per_byte", "tokens", "seconds", "best",
                "time")  # fmt: skip


@dataclass(frozen=True)
class Planned:
    """A run that is to be. digest: of its recipe and its text."""

    name: str
    seed: int
    request: Request
    digest: str
    out: Path


@dataclass(frozen=True)
class Measured:
    """A run that was. seconds_per_step and tokens_per_second: medians. memory_bytes: the most that training took beyond
    the loaded program, None where the run was cut in two. loss: of validation. metrics: where that was best.
    final_metrics: those of the last one. error: why it has no loss.
    """

    name: str
    seed: int
    steps: int = 0
    seconds_per_step: float | None = None
    tokens_per_second: float | None = None
    memory_bytes: int | None = None
    best_loss: float | None = None
    final_loss: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    final_metrics: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Found:
    """What a toggle did. loss: None where too few pairs of runs ended. failed: runs of its that didn't."""

    name: str
    keys: list[str]
    loss: Effect | None
    metrics: Mapping[str, Effect]
    time_ratio: float | None
    memory_ratio: float | None
    tokens_per_second: float | None
    failed: int


_CHOSEN_HERE = {"training.seed"}
_OTHER_TEXT = {"data.paths", "data.builtin"}


def plan(request: Request, toggles: Sequence[Toggle], seeds: int, out: Path | None) -> list[Planned]:
    """Every run, in an order in which baseline and toggles take turns, so that all share what disturbs the machine.

    Raises:
        RecipeError: one seed; a technique that can't act in this recipe, or is on in it already.
    """
    from trifecta.run.resolution import resolve, run_name

    if seeds < 2:
        raise RecipeError(f"{seeds} seed gives no interval: what chance does can't be told from what the technique "
                          "does", where="--seeds", fix="use 3 or more")  # fmt: skip
    for toggle in toggles:
        if chosen := _CHOSEN_HERE & set(toggle.keys):
            raise RecipeError(f"{toggle.name} sets {min(chosen)}, which ablate chooses for each pair of runs",
                              where="--toggle", fix="remove it; --seeds says how many")  # fmt: skip
    if out is not None and (out / "recipe.yaml").is_file():
        raise RecipeError("a run lives here, and the runs of an ablation would lie among its files", where=str(out),
                          fix="choose another folder with -o")  # fmt: skip
    baseline = resolve(request)
    for toggle in toggles:
        if (others := _OTHER_TEXT & set(toggle.keys)) and not baseline.recipe.data.validation_paths:
            raise RecipeError(f"{toggle.name} sets {min(others)}, of which a part is held out, and losses on other "
                              "texts can't be compared", where="--toggle",
                              fix="validate both on data.validation_paths=[FILE]")  # fmt: skip
    place = out or Path("runs") / f"ablate-{run_name(baseline)}"
    sides = [(BASELINE, request, baseline)]
    sides += [(toggle.name, *_toggled(request, toggle, baseline)) for toggle in toggles]
    first = baseline.recipe.training.seed
    return [
        _planned(name, seed, asked, resolution, place)
        for seed in range(first, first + seeds)
        for name, asked, resolution in sides
    ]


def _toggled(request: Request, toggle: Toggle, baseline: Resolution) -> tuple[Request, Resolution]:
    from trifecta.recipe.dump import flat
    from trifecta.run.length import require_length
    from trifecta.run.resolution import resolve

    kept = tuple(text for text in request.overrides if text.partition("=")[0].strip() not in toggle.keys)
    flags = {key: value for key, value in request.flags.items() if key not in toggle.keys}
    flags |= {key: (f"--toggle {toggle.name}: {key}", value) for key, value in toggle.settings.items()}
    asked = replace(request, overrides=(*kept, *toggle.overrides), flags=flags)
    recipe = request.config or request.preset or "the automatic recipe"
    try:
        resolution = resolve(asked)
        require_length(resolution)
    except (RecipeError, ResourceError) as error:
        errors = error.errors if isinstance(error, RecipeErrors) else [error]
        what = "; ".join(one.what for one in errors)
        raise RecipeError(f"{toggle.name} can't act in {recipe}: {what}", where="--toggle",
                          fix=errors[0].fix or "leave it out") from error  # fmt: skip
    before, after = flat(baseline.recipe), flat(resolution.recipe)
    if before == after:
        values = ", ".join(f"{key} is {before[key]}" for key in toggle.keys if key in before)
        raise RecipeError(f"{toggle.name} changes nothing in {recipe}: {values or 'it is so already'}",
                          where="--toggle", fix="leave it out, or switch it off in the recipe")  # fmt: skip
    return asked, resolution


def _planned(name: str, seed: int, request: Request, resolution: Resolution, place: Path) -> Planned:
    from trifecta.recipe.dump import dump

    recipe = resolution.recipe
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"seed": seed})})
    digest = hashlib.sha256((dump(recipe) + resolution.text.scan().fingerprint).encode()).hexdigest()
    overrides = tuple(text for text in request.overrides if text.partition("=")[0].strip() != "training.seed")
    asked = replace(request, overrides=overrides, flags={**request.flags, "training.seed": ("--seeds", seed)})
    return Planned(name, seed, asked, digest, place / _folder(name) / f"seed-{seed}")


def _folder(name: str) -> str:
    """A toggle's name as a folder: itself where it can be one."""
    if re.fullmatch(r"[\w.=+-]{1,60}", name):
        return name
    plain = re.sub(r"[^\w.=+-]+", "-", name)[:40]
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def run_all(
    planned: Sequence[Planned],
    report: Callable[[int, Measured, bool], None] = lambda *_: None,
    measure: Callable[[Planned], Measured | None] | None = None,
) -> list[Measured]:
    """Trains what isn't trained yet, one run after another, each in a process of its own unless `measure` does it.

    Args:
        report: told the number of each run from 1, its figures, and whether it was there already.

    Raises:
        CheckpointError: a run's folder is another recipe's.
        KeyboardInterrupt: a signal stopped a run, which has saved; the same command goes on.
    """
    done = []
    for number, run in enumerate(planned, 1):
        kept = _kept(run)
        measured = kept or _measured(run, measure)
        report(number, measured, kept is not None)
        done.append(measured)
    return done


def _measured(run: Planned, measure: Callable[[Planned], Measured | None] | None) -> Measured:
    _note(run, None)
    try:
        found = measure(run) if measure else apart(f"{run.name}, seed {run.seed}", train_and_measure, run)
    except NumericsError as error:
        found = Measured(run.name, run.seed, error=error.what)
    if found is None:
        raise KeyboardInterrupt  # the same command goes on
    _note(run, found)
    return found


def _kept(run: Planned) -> Measured | None:
    """The figures of a run that is over."""
    path = run.out.with_suffix(".json")
    if not path.is_file():
        return None
    noted = json.loads(path.read_text(encoding="utf-8"))
    if noted["digest"] != run.digest:
        raise CheckpointError(
            "a run of another recipe or another text is here", where=str(run.out),
            fix="choose another folder with -o, or remove this one",
        )  # fmt: skip
    return Measured(**noted["measured"]) if noted["measured"] else None


def _note(run: Planned, measured: Measured | None) -> None:
    from trifecta.training.files import replace_text

    run.out.parent.mkdir(parents=True, exist_ok=True)
    noted = {"digest": run.digest, "measured": asdict(measured) if measured else None}
    replace_text(run.out.with_suffix(".json"), json.dumps(noted))


def train_and_measure(run: Planned) -> Measured | None:
    """One training; its figures are those of its journal, so that one that was cut in two has all of them.

    None where a signal stopped it.
    """
    import torch

    from trifecta.run import folder
    from trifecta.run.trainer import train
    from trifecta.tracking.journal import read

    before, seen = peak_bytes(), []
    result = train(run.request, out=run.out, hooks=[lambda event: seen.append(event["event"])])
    if result.status in ("interrupted", "terminated"):
        return None
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    events = list(read(run.out / folder.JOURNAL))
    steps = [event for event in events if event["event"] == "step"]
    evaluations = [event for event in events if event["event"] == "evaluation" and event["loss"] is not None]
    if not evaluations:
        return Measured(run.name, run.seed, len(steps), error="no validation had a finite loss")
    best = min(evaluations, key=lambda event: float(event["loss"]))
    steady = steps[len(steps) // 5 :]
    return Measured(
        run.name, run.seed, len(steps),
        seconds_per_step=median(step["seconds"] for step in steady),
        tokens_per_second=median(step["tokens"] / step["seconds"] for step in steady),
        memory_bytes=memory or peak_bytes() - before if seen.count("step") == len(steps) else None,
        best_loss=best["loss"], final_loss=evaluations[-1]["loss"],
        metrics=_metrics(best), final_metrics=_metrics(evaluations[-1]),
    )  # fmt: skip


def _metrics(evaluation: Mapping[str, Any]) -> dict[str, float]:
    return {k: v for k, v in evaluation.items() if k not in _NOT_METRICS and isinstance(v, int | float)}


def train_here(run: Planned) -> Measured | None:
    """The same in this process: quicker, but what an earlier run took can't be told from what this one takes."""
    measured = train_and_measure(run)
    return measured and replace(measured, memory_bytes=None)


def compare(toggles: Sequence[Toggle], runs: Sequence[Measured], judge: str = "best") -> list[Found]:
    """Each toggle's effect on validation: on its best loss, or on the final one, and on the task's metrics there."""
    base = {run.seed: run for run in runs if run.name == BASELINE}
    found = []
    for toggle in toggles:
        own = [run for run in runs if run.name == toggle.name]
        pairs = [(run, base[run.seed]) for run in own if run.error is None and base[run.seed].error is None]
        names = [judged(run, judge) for run in pairs[0]] if pairs else [{}, {}]
        metrics = {name: _effect(pairs, _metric(name, judge)) for name in names[0] if name in names[1]}
        found.append(Found(
            toggle.name, toggle.keys, _effect(pairs, lambda run: run.best_loss if judge == "best" else run.final_loss),
            {name: effect for name, effect in metrics.items() if effect},
            _ratio(pairs, lambda run: run.seconds_per_step), _ratio(pairs, lambda run: run.memory_bytes),
            average(run.tokens_per_second for run, _ in pairs), sum(run.error is not None for run in own),
        ))  # fmt: skip
    return found


Pairs = Sequence[tuple[Measured, Measured]]


def judged(run: Measured, judge: str) -> Mapping[str, float]:
    """The task's metrics where the loss was best, or at the end."""
    return run.metrics if judge == "best" else run.final_metrics


def _metric(name: str, judge: str) -> Callable[[Measured], float | None]:
    return lambda run: judged(run, judge).get(name)


def _effect(pairs: Pairs, value: Callable[[Measured], float | None]) -> Effect | None:
    both = [(value(run), value(base)) for run, base in pairs]
    known = [(one, other) for one, other in both if one is not None and other is not None]
    return paired([one for one, _ in known], [other for _, other in known]) if len(known) >= 2 else None


def _ratio(pairs: Pairs, value: Callable[[Measured], float | None]) -> float | None:
    """The median of the pairs' ratios: one run that the machine disturbed doesn't count."""
    both = [(value(run), value(base)) for run, base in pairs]
    ratios = [one / other for one, other in both if one and other]
    return median(ratios) if ratios else None


def average(values: Any) -> float | None:
    """The mean of those that are known."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
