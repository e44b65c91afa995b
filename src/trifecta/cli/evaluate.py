"""`trifecta evaluate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from trifecta.cli import options


def evaluate(
    run: options.Run,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Text to judge by, or labelled data for its task; may be given again. Default: the run's own split.",
            callback=options.not_empty,
        ),
    ] = None,
    attack: Annotated[
        float | None,
        typer.Option(
            "--attack",
            metavar="LENGTH",
            help="Also measure under the change of each row's embeddings, this long, that hurts most.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON object.")] = False,
) -> None:
    """Measure a trained model: loss, perplexity, bits per byte, over every token once; or its task's figures.

    Example: trifecta evaluate runs/book --data other.txt --json
    """
    from trifecta import run as runner
    from trifecta.cli.check import shown
    from trifecta.tracking.journal import to_json

    with options.progress_line() as progress:
        result = runner.evaluate(run, tuple(data or ()), progress, attack)
    if json:
        print(to_json(result))
    else:
        counts = ("bits_per_byte", "bytes")  # not sizes
        for name, value in result.items():
            if isinstance(value, dict):
                print(_table(name.replace("_", " "), value))
            else:
                print(f"{name.replace('_', ' '):16} {shown('' if name in counts else name, value)}")


def _table(name: str, rows: dict[str, dict[str, Any]]) -> str:
    """Rows and columns of figures, aligned; in a confusion a row is the truth and a column what was predicted."""
    from trifecta.cli.check import shown

    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [[name, *(shown("", column) for column in columns)]]
    for label, row in rows.items():
        cells = (shown("", row.get(column)) for column in columns)
        lines.append([f"  {shown('', label)}", *cells])
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )  # fmt: skip
