"""`trifecta compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from trifecta.cli import options


def compare(
    data: options.Arguments = None,
    max_steps: Annotated[int, typer.Option(metavar="N", min=10, help="Updates of each training.")] = 200,
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="What it is for, such as classify or translate: gives advice.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="All random choices follow from it.")] = 42,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="Where the three runs live.", parser=options.path_of)
    ] = Path("runs/compare"),
    json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON object.")] = False,
) -> None:
    """Train a GPT, a BERT and a T5 of one size on a text: time, memory, loss, and which is for what.

    Example: trifecta compare book.txt --task translate
    """
    recipes, overrides, files = options.split(data or [])
    if recipes:
        raise typer.BadParameter("a recipe is of one architecture; give data, and what differs as key=value")
    from trifecta.experiments import compare as experiment
    from trifecta.tracking.journal import to_json

    advised = experiment.recommend(task) if task is not None else None
    with options.progress_line() as progress:
        found = experiment.compare(
            tuple(files), max_steps=max_steps, seed=seed, out=out, overrides=overrides, report=progress
        )
    if json:
        rows = [vars(row) | {"for": experiment.PURPOSES[row.arch]} for row in found]
        print(to_json({"architectures": rows, "task": task, "advice": advised}))
        return
    for line in report(found, task, advised):
        print(line)


def report(found: list[Any], task: str | None, advised: str | None) -> list[str]:
    """A table of what was measured, what each is for, and the advice."""
    from trifecta.experiments.compare import CHECKLISTS, DEMOS, PURPOSES
    from trifecta.tracking.terminal import count, duration, size

    first = found[0]
    header = ("", "parameters", "a step", "time", "memory", "held-out loss", "guessed")
    rows = [header]
    for row in found:
        rows.append((
            row.arch, count(row.parameters), duration(row.seconds_per_step),
            f"{row.seconds_per_step / first.seconds_per_step:.1f}x", size(row.peak_bytes), f"{row.loss:.3f}",
            "" if row.accuracy is None else f"{row.accuracy:.1%}",
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines += [
        "",
        f"{first.steps} steps each on {first.tokens_per_step:,.0f} tokens of the same text. Losses don't compare: "
        "a GPT's is of every",
        "next token, a BERT's of masked ones, a T5's of what it writes for gaps.",
        "",
    ]
    for row in found:
        lines += [f"{row.arch:4} {PURPOSES[row.arch]}", f"     look at: {CHECKLISTS[row.arch]}",
                  f"     try: {DEMOS[row.arch].format(run=row.run)}"]  # fmt: skip
    if advised:
        lines += ["", f"For {task}: {advised}. Begin with: trifecta train --arch {advised} DATA"]
    else:
        lines += ["", "For advice on a task: --task classify, translate, chat ..."]
    return lines
