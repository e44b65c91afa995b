"""`trifecta check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from trifecta.cli import options


def check(
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
    schema_only: Annotated[
        bool, typer.Option("--schema-only", metavar="", help="Only the recipe's keys and values; at once.")
    ] = False,
    show_batch: Annotated[
        bool, typer.Option("--show-batch", metavar="", help="Decode three samples, their targets and masks.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON object.")] = False,
) -> None:
    """Say what a run would be, without a step: recipe, parameters, memory, time, conflicts.

    Example: trifecta check recipe.yaml book.txt --show-batch
    """
    if show_batch and schema_only:
        raise typer.BadParameter("--show-batch reads the data, --schema-only doesn't; give one of them")
    request = options.request(
        data, config=config, preset=preset, arch=arch, sequence_length=sequence_length, epochs=epochs,
        max_steps=max_steps, batch_size=batch_size, learning_rate=learning_rate, device=device, seed=seed,
    )  # fmt: skip
    from trifecta import run
    from trifecta.tracking.journal import to_json

    with options.progress_line() as progress:
        facts = run.check(request, schema_only=schema_only, show_batch=show_batch, report=progress)
    print(to_json(facts, indent=2) if json else "\n".join(report(facts)))


def report(facts: Mapping[str, Any]) -> Iterator[str]:
    """The recipe as YAML, then every other fact under its name. Conflicts are raised before this, all at once."""
    import yaml

    yield yaml.safe_dump(dict(facts["recipe"]), sort_keys=False, allow_unicode=True, width=100).rstrip()
    for name, value in facts.items():
        if name != "recipe":
            yield ""
            yield from _lines(name, value, indent="")
    yield ""
    yield "No conflicts."


def _lines(name: str, value: Any, indent: str) -> Iterator[str]:
    """One fact: what holds others as a heading with them below it; text of several lines below its name too."""
    title = name.removesuffix("_bytes").removesuffix("_seconds").replace("_", " ")
    below = indent + "  "
    if isinstance(value, Mapping):
        yield f"{indent}{title}:"
        for key, item in value.items():
            yield from _lines(str(key), item, below)
    elif isinstance(value, list | tuple):
        if value:
            yield f"{indent}{title}:"
        for number, item in enumerate(value, 1):
            yield from _lines(str(number), item, below)
    else:
        first, *more = shown(name, value).split("\n")
        if more:
            yield f"{indent}{title}:"
            yield from (below + line for line in (first, *more))
        else:
            yield f"{indent}{title}: {first}"


def shown(name: str, value: Any) -> str:
    """A fact for a reader: bytes and seconds in fitting units, whole numbers with commas, text made safe."""
    from trifecta.tracking import terminal

    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "unknown"}[value]
    if isinstance(value, int | float) and name.endswith("bytes"):
        return terminal.size(value)
    if isinstance(value, int | float) and name.endswith("seconds"):
        return terminal.duration(value)
    if isinstance(value, int):
        return terminal.count(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return terminal.visible(str(value))
