"""`trifecta plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trifecta.cli import options


def plot(
    run: options.Run,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="PNG", help="Default: plots/training.png in the run.", parser=options.path_of
        ),
    ] = None,
) -> None:
    """Draw a run: loss, learning rate and gradient norm over the steps.

    Example: trifecta plot runs/book -o book.png
    """
    from trifecta.tracking.journal import find_run
    from trifecta.tracking.plots import plot_run

    folder = find_run(run)
    print(plot_run(folder, out or folder / "plots" / "training.png"))
