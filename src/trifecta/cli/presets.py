"""`trifecta presets`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trifecta.cli import options


def presets(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Print this one as YAML.", autocompletion=options.complete_preset),
    ] = None,
    write: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it to a new file instead.")] = None,
    json_schema: Annotated[
        bool, typer.Option("--json-schema", metavar="", help="Every recipe key as a JSON Schema, for editors.")
    ] = False,
) -> None:
    """List the recipes that come along, or write one out to change it.

    Example: trifecta presets small --write small.yaml
    """
    from trifecta.recipe.presets import preset_names, preset_summary, preset_text

    if json_schema:
        import json

        from trifecta.recipe.json_schema import json_schema as schema

        text = json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
    elif name is not None:
        text = preset_text(name)
    elif write is not None:
        raise typer.BadParameter("name the preset to write, as in: trifecta presets small --write small.yaml")
    else:
        width = max(map(len, preset_names()))
        text = "".join(
            f"{preset:{width}}  {preset_summary(preset).removeprefix(f'{preset}: ')}\n" for preset in preset_names()
        )
    if write is None:
        print(text, end="")
    else:
        options.write_new(write, text)
        print(f"wrote {write}")
