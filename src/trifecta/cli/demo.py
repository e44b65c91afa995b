"""`trifecta demo`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trifecta.cli import options
from trifecta.cli.train import STOPPED


def demo(
    arch: Annotated[str, typer.Option(metavar="NAME", help="Architecture: gpt, bert or t5.")] = "gpt",
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FOLDER", help="The run's folder. Default: runs/demo, runs/demo-bert, runs/demo-t5.",
            parser=options.path_of,
        ),
    ] = None,
) -> None:  # fmt: skip
    """Train a small model on the built-in text, see what it can do, draw its curves; minutes on a laptop.

    A GPT goes on with a text, a BERT fills gaps, a T5 writes what stood in gaps.

    Example: trifecta demo --arch bert
    """
    from trifecta import run
    from trifecta.tracking.console import make_console
    from trifecta.tracking.terminal import duration, visible

    with make_console() as console:
        shown = run.demo(out, arch=arch, hooks=[console], report=console.report)
    if shown.result.status in STOPPED:
        print(f"Saved. To go on: trifecta demo --arch {arch} -o {shown.result.folder}", file=sys.stderr)
        raise typer.Exit(STOPPED[shown.result.status])
    for number, text in enumerate(shown.samples, 1):
        print(f"\n--- {number} ---\n{visible(text)}")
    for figure in shown.figures:
        print(f"\n{visible(figure)}")
    print(f"\nTrained for {duration(shown.result.seconds)} in all. The curves: {shown.picture}")
    print(f"Try it: {shown.next_step}")
