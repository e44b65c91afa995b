"""`trifecta ablate`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from trifecta.cli import options


def ablate(
    data: options.Arguments = None,
    toggle: Annotated[
        list[str] | None,
        typer.Option(
            "--toggle", metavar="NAME,...", help="Techniques such as ema, or key=value; a+b is both at once. May be "
            "given again.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Pairs of runs; 2 at least.")] = 3,
    judge: Annotated[
        Literal["best", "final"], typer.Option(help="Which validation loss counts.")
    ] = "best",
    preset: options.Preset = None,
    arch: options.Arch = None,
    max_steps: options.MaxSteps = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FOLDER", help="Where the runs live. Default: in runs/.",
                     parser=options.path_of),
    ] = None,
    one_process: Annotated[
        bool, typer.Option("--one-process", metavar="", help="Start no process for each run: quicker, but memory isn't "
                           "measured.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON object.")] = False,
) -> None:  # fmt: skip
    """Measure what techniques do to your recipe: paired runs, effects with intervals, time and memory.

    Example: trifecta ablate recipe.yaml --toggle label_smoothing,ema,training.learning_rate=1e-3 --seeds 3
    """
    from trifecta.experiments import ablate as experiment
    from trifecta.experiments.techniques import parse

    request = options.request(data, config=None, preset=preset, arch=arch, max_steps=max_steps)
    toggles = parse(toggle or [])
    planned = experiment.plan(request, toggles, seeds, out)

    def tell(number: int, run: Any, was_there: bool) -> None:
        loss = run.error or f"validation loss {run.best_loss:.4f}"
        what = "was there" if was_there else "done"
        print(f"[{number}/{len(planned)}] {run.name}, seed {run.seed}: {loss} ({what})", file=sys.stderr, flush=True)

    runs = experiment.run_all(planned, tell, experiment.train_here if one_process else None)
    found = experiment.compare(toggles, runs, judge)
    if json:
        print(_json(request, planned, runs, found, judge))
        return
    for line in report(runs, found, judge):
        print(line)


def report(runs: Sequence[Any], found: Sequence[Any], judge: str) -> Iterator[str]:
    """A table of what was measured, and what it means."""
    from trifecta.experiments.ablate import BASELINE, average, judged
    from trifecta.tracking.terminal import size

    base = [run for run in runs if run.name == BASELINE]
    metrics = list(dict.fromkeys(name for row in found for name in row.metrics))
    rows = [("", "loss", "95 % interval", "", *metrics, "time", "memory", "tokens/s")]
    loss, speed, memory = (average(getattr(run, name) for run in base)
                           for name in (f"{judge}_loss", "tokens_per_second", "memory_bytes"))  # fmt: skip
    rows.append((BASELINE, _number(loss), "", "", *(_number(average(judged(run, judge).get(name) for run in base))
                 for name in metrics), "", size(int(memory)) if memory else "?", _speed(speed)))  # fmt: skip
    for row in found:
        effects = [f"{_change(row.metrics[name])}" if name in row.metrics else "" for name in metrics]
        interval = f"{row.loss.low:+.4f} to {row.loss.high:+.4f}" if row.loss else ""
        rows.append((row.name, f"{row.loss.mean:+.4f}" if row.loss else "?", interval, verdict(row), *effects,
                     _times(row.time_ratio), _times(row.memory_ratio), _speed(row.tokens_per_second)))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    yield from ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    yield ""
    yield f"{len(base)} pairs of runs with equal seeds; loss is the {judge} one of validation, less is better."
    yield "Of twenty techniques that do nothing, one in the mean shows an effect at this level by chance."


def verdict(row: Any) -> str:
    """What the interval says, in words."""
    failed = f", {row.failed} failed" if row.failed else ""
    if row.loss is None:
        return f"no interval{failed}"
    if not row.loss.seen:
        return f"no effect seen{failed}"
    return ("better" if row.loss.mean < 0 else "worse") + failed


def _change(effect: Any) -> str:
    margin = (effect.high - effect.low) / 2
    return f"{effect.mean:+.4f} +- {margin:.4f}" + ("" if effect.seen else " (not seen)")


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4f}"


def _times(ratio: float | None) -> str:
    return "?" if ratio is None else f"{ratio:.2f}x"


def _speed(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"


def _json(request: Any, planned: Sequence[Any], runs: Sequence[Any], found: Sequence[Any], judge: str) -> str:
    from dataclasses import asdict

    from trifecta.tracking.journal import to_json

    rows = []
    for row in found:
        loss = asdict(row.loss) | {"seen": row.loss.seen} if row.loss else None
        metrics = {name: asdict(effect) | {"seen": effect.seen} for name, effect in row.metrics.items()}
        rows.append(asdict(row) | {"loss": loss, "metrics": metrics, "verdict": verdict(row)})
    words = [*request.data, *([request.config] if request.config else []), *request.overrides]
    return to_json({
        "recipe": shlex.join(words), "preset": request.preset, "judge": judge,
        "seeds": sorted({run.seed for run in planned}), "toggles": rows, "runs": [asdict(run) for run in runs],
    })  # fmt: skip
