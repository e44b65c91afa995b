"""`trifecta demo`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trifecta.cli import options
from trifecta.cli.train import STOPPED


def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="The run's folder.", parser=options.path_of)
    ] = Path("runs/demo"),
) -> None:
    """Train a small GPT on the built-in text, read what it writes, draw its curves; minutes on a laptop.

    Example: trifecta demo
    """
    from trifecta import run
    from trifecta.tracking.console import make_console
    from trifecta.tracking.terminal import duration, visible

    with make_console() as console:
        shown = run.demo(out, hooks=[console], report=console.report)
    if shown.result.status in STOPPED:
        print(f"Saved. To go on: trifecta demo -o {out}", file=sys.stderr)
        raise typer.Exit(STOPPED[shown.result.status])
    for number, text in enumerate(shown.samples, 1):
        print(f"\n--- {number} ---\n{visible(text)}")
    print(f"\nTrained for {duration(shown.result.seconds)} in all. The curves: {shown.picture}")
    print(f"Let it write: trifecta generate {shown.result.folder} --interactive")
