"""`trifecta finetune`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from trifecta.cli import options
from trifecta.cli.train import STOPPED

_RUN, _OUTPUT = "Run", "Output"


def finetune(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A trained run, one of its checkpoints, or a Hugging Face folder.",
            show_default=False, callback=options.not_empty,
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA", help="Labelled files; key=value sets a recipe key, data.builtin=NAME takes a built-in task."
        ),
    ] = None,
    task: Annotated[
        str,
        typer.Option(metavar="TASK", help="classify, tag, answer, translate, summarize, generate, text, chat, images."),
    ] = "classify",
    epochs: options.Epochs = None,
    max_steps: options.MaxSteps = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    sequence_length: options.SequenceLength = None,
    device: options.Device = None,
    seed: options.Seed = None,
    strict: Annotated[
        bool, typer.Option("--strict", metavar="", help="Refuse texts that are too long instead of cutting them.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FOLDER", help="The new run's folder. Default: in runs/.",
                     rich_help_panel=_RUN, parser=options.path_of),
    ] = None,
    resume: Annotated[
        Literal["auto", "must", "never"], typer.Option(help="As for train.", rich_help_panel=_RUN)
    ] = "auto",
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", metavar="", help="Say nothing.", rich_help_panel=_OUTPUT)
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", metavar="", help="Events as JSON lines.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:  # fmt: skip
    """Teach a trained model a task with labelled data; the same command again continues it.

    Example: trifecta finetune runs/book reviews.csv --task classify
    """
    request = options.request(
        data, config=None, preset=None, arch=None, sequence_length=sequence_length, epochs=epochs,
        max_steps=max_steps, batch_size=batch_size, learning_rate=learning_rate, device=device, seed=seed,
        strict="refuse" if strict else None,
    )  # fmt: skip
    from trifecta import run
    from trifecta.tracking.console import make_console
    from trifecta.tracking.terminal import visible

    with make_console(quiet=quiet, json=json) as console:
        final, place, warnings = run.finetune(request, source, task, out)
        for warning in warnings:
            print(f"warning: {visible(warning)}", file=sys.stderr)
        result = run.train(final, out=place, resume=resume, hooks=[console], report=console.report)
    if result.status in STOPPED:
        print(visible(f"Saved. To go on: {result.resume_command}"), file=sys.stderr)
        raise typer.Exit(STOPPED[result.status])
