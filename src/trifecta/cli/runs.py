"""`trifecta runs`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

COLUMNS = ("run", "status", "step", "best loss", "updated")


def runs(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the runs lie.")] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON array.")] = False,
) -> None:
    """List the runs: status, steps, best validation loss.

    Example: trifecta runs
    """
    from trifecta import run
    from trifecta.tracking.journal import to_json

    found = run.list_runs(root)
    if json:
        print(to_json(found, indent=2))
    elif not found:
        print(f"No runs in the folder {str(root)!r}. Begin one with: trifecta train book.txt")
    else:
        print("\n".join(table([row(item, time.time()) for item in found])))


def row(item: Mapping[str, Any], now: float) -> tuple[str, ...]:
    """One run as the texts of its columns."""
    from trifecta.tracking.terminal import duration, fixed, visible

    step, total = item.get("step"), item.get("total_steps")
    steps = "" if step is None else f"{step:,}/{total:,}" if total else f"{step:,}"
    best = "" if item.get("best_loss") is None else fixed(item["best_loss"])
    updated = "" if item.get("updated") is None else f"{duration(max(0.0, now - item['updated']))} ago"
    return visible(str(item["name"])), visible(str(item["status"])), steps, best, updated


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest text, under their names; steps and losses flush right."""
    everything = [COLUMNS, *rows]
    widths = [max(len(line[column]) for line in everything) for column in range(len(COLUMNS))]
    right = {"step", "best loss"}
    return [
        "  ".join(
            text.rjust(width) if name in right else text.ljust(width)
            for text, width, name in zip(line, widths, COLUMNS, strict=True)
        ).rstrip()
        for line in everything
    ]
