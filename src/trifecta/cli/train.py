"""`trifecta train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from trifecta.cli import options

STOPPED = {"interrupted": 130, "terminated": 143}
_RUN, _OUTPUT = "Run", "Output"


def train(
    data: options.Arguments = None,
    config: options.Config = None,
    preset: options.Preset = None,
    arch: options.Arch = None,
    sequence_length: options.SequenceLength = None,
    epochs: options.Epochs = None,
    max_steps: options.MaxSteps = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    device: options.Device = None,
    seed: options.Seed = None,
    load_weights: options.LoadWeights = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FOLDER",
            help="The run's folder. Default: in runs/.",
            rich_help_panel=_RUN,
            parser=options.path_of,
        ),
    ] = None,
    resume: Annotated[
        Literal["auto", "must", "never"],
        typer.Option(
            help="auto continues a run that is there; must fails without one, never with one.", rich_help_panel=_RUN
        ),
    ] = "auto",
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", metavar="", help="Say nothing.", rich_help_panel=_OUTPUT)
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", metavar="", help="Name checkpoints too.", rich_help_panel=_OUTPUT)
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", metavar="", help="Events as JSON lines.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Train a model on your text; the same command again continues it.

    Example: trifecta train book.txt --preset small --epochs 5 training.save_every_n_steps=100
    """
    if json and quiet:
        raise typer.BadParameter("--json and --quiet contradict each other; give one of them")
    request = options.request(
        data, config=config, preset=preset, arch=arch, sequence_length=sequence_length, epochs=epochs,
        max_steps=max_steps, batch_size=batch_size, learning_rate=learning_rate, device=device, seed=seed,
        load_weights=load_weights,
    )  # fmt: skip
    from trifecta import run
    from trifecta.tracking.console import make_console
    from trifecta.tracking.terminal import visible

    with make_console(quiet=quiet, verbose=verbose, json=json) as console:
        result = run.train(request, out=out, resume=resume, hooks=[console], report=console.report)
    if result.status in STOPPED:
        print(visible(f"Saved. To go on: {result.resume_command}"), file=sys.stderr)
        raise typer.Exit(STOPPED[result.status])
