"""`trifecta evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from trifecta.cli import options


def evaluate(
    run: options.Run,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Text to judge by; may be given again. Default: the run's own split.",
            callback=options.not_empty,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON object.")] = False,
) -> None:
    """Measure a trained model: loss, perplexity, bits per byte, over every token once.

    Example: trifecta evaluate runs/book --data other.txt --json
    """
    from trifecta import run as runner
    from trifecta.cli.check import shown
    from trifecta.tracking.journal import to_json

    with options.progress_line() as progress:
        result = runner.evaluate(run, tuple(data or ()), progress)
    if json:
        print(to_json(result))
    else:
        counts = ("bits_per_byte", "bytes")  # not sizes
        for name, value in result.items():
            print(f"{name.replace('_', ' '):16} {shown('' if name in counts else name, value)}")
