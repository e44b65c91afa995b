"""Arguments that several commands share, and the run request they make."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from trifecta.errors import RecipeError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trifecta.run.request import Request

FLAGS = {
    "--epochs": "training.epochs",
    "--batch-size": "training.batch_size",
    "--learning-rate": "training.learning_rate",
    "--sequence-length": "data.sequence_length",
    "--max-steps": "training.max_steps",
    "--device": "execution.device",
    "--seed": "training.seed",
    "--strict": "data.too_long",
    "--load-weights": "training.init_from",
}
"""The familiar flags and the recipe keys that they set."""

_OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.\w+)*=")


def complete_key(incomplete: str) -> list[tuple[str, str]]:
    """Recipe keys, and values after the `=` where only some are allowed. Files are completed by the shell itself."""
    from trifecta.recipe.keys import known_keys

    if not incomplete:
        return []
    key, equals, _ = incomplete.partition("=")
    if equals:
        return [(f"{key}={choice}", "") for known in known_keys() if known.key == key for choice in known.choices]
    return list({known.key: (f"{known.key}=", known.help) for known in known_keys()}.values())


def complete_preset() -> list[str]:
    from trifecta.recipe.presets import preset_names

    return list(preset_names())


_RECIPE, _TRAINING = "Model and data", "Training"

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA",
        help="Files, folders, globs or -; a .yaml is a recipe; key=value sets a recipe key. Default: built-in text.",
        autocompletion=complete_key,
    ),
]
Config = Annotated[
    str | None, typer.Option(metavar="RECIPE", help="A recipe in YAML, or a preset.", rich_help_panel=_RECIPE)
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="What the recipe builds on; see `trifecta presets`.", rich_help_panel=_RECIPE,
        autocompletion=complete_preset,
    ),
]  # fmt: skip
Arch = Annotated[
    str | None, typer.Option(metavar="NAME", help="Architecture: gpt, bert, t5 or vit.", rich_help_panel=_RECIPE)
]
SequenceLength = Annotated[
    int | None, typer.Option(metavar="TOKENS", help="Tokens in a training sequence.", rich_help_panel=_RECIPE)
]
Epochs = Annotated[int | None, typer.Option(metavar="N", help="Passes over the text.", rich_help_panel=_TRAINING)]
MaxSteps = Annotated[int | None, typer.Option(metavar="N", help="Updates at most.", rich_help_panel=_TRAINING)]


def whole_or_auto(text: str) -> Any:
    """A whole number, or auto."""
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a whole number nor auto") from None


BatchSize = Annotated[
    Any,
    typer.Option(
        metavar="N", help="Sequences in a batch; auto: as many at once as fit.", parser=whole_or_auto,
        rich_help_panel=_TRAINING,
    ),
]  # fmt: skip
LearningRate = Annotated[
    float | None, typer.Option(metavar="RATE", help="Peak learning rate.", rich_help_panel=_TRAINING)
]
Device = Annotated[
    str | None, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_TRAINING)
]
Seed = Annotated[
    int | None, typer.Option(metavar="N", help="All random choices follow from it.", rich_help_panel=_TRAINING)
]


def not_empty(value: Any) -> Any:
    """Refuses an empty name, or one among several: it would mean the current folder."""
    if value == "" or (isinstance(value, list | tuple) and "" in value):
        raise typer.BadParameter("must not be empty")
    return value


def path_of(text: str) -> Path:
    """A path that was written out; `Path` by itself takes an empty text for the current folder."""
    return Path(not_empty(text))


LoadWeights = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", help="Begin with the weights of a run, a Hugging Face folder, or a BERT's .h5 file.",
        rich_help_panel=_TRAINING, callback=not_empty,
    ),
]  # fmt: skip
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run, which means its newest checkpoint; RUN/checkpoints/best is its best.",
        show_default=False, callback=not_empty,
    ),
]  # fmt: skip


def _is_file(name: str) -> bool:
    """Whether there is such a file; a long value is no file's name."""
    try:
        return Path(name).exists()
    except OSError:
        return False


def split(arguments: Sequence[str]) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    """Recipes (.yaml, .yml), overrides (key.path=value, unless a file has that very name), and the rest: data."""
    recipes, overrides, data = [], [], []
    for argument in arguments:
        if argument.lower().endswith((".yaml", ".yml")) and not _OVERRIDE.match(argument):
            recipes.append(argument)
        elif _OVERRIDE.match(argument) and not _is_file(argument):
            overrides.append(argument)
        else:
            data.append(argument)
    return recipes, tuple(overrides), tuple(data)


def request(
    arguments: Sequence[str] | None, *, config: str | None, preset: str | None, arch: str | None, **flags: Any
) -> Request:
    """What the user asked for, as `trifecta.run` takes it. Flags by parameter name; None where not given.

    Raises:
        RecipeError: more than one recipe.
    """
    from trifecta.run.request import Request

    recipes, overrides, data = split(arguments or [])
    recipes = [*([config] if config is not None else []), *recipes]
    if len(recipes) > 1:
        raise RecipeError(
            f"more than one recipe: {', '.join(recipes)}",
            where="command line",
            fix="give one recipe, and what differs as key=value",
        )
    given = {
        key: (flag, flags[name])
        for flag, key in FLAGS.items()
        if flags.get(name := flag.removeprefix("--").replace("-", "_")) is not None
    }
    return Request(
        config=recipes[0] if recipes else None, preset=preset, overrides=overrides, flags=given, data=data, arch=arch
    )


@contextmanager
def progress_line(stream: TextIO | None = None) -> Iterator[Callable[[str, float | None], None]]:
    """A function (what, share done) that keeps one line of a terminal up to date; elsewhere a line in ten seconds."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield _rare_lines(stream)
        return

    def show(what: str, ratio: float | None) -> None:
        print(f"\r\x1b[K{_progress(what, ratio)} ...", end="", file=stream, flush=True)

    try:
        yield show
    finally:
        print("\r\x1b[K", end="", file=stream, flush=True)


def _rare_lines(stream: TextIO, every: float = 10.0) -> Callable[[str, float | None], None]:
    last = time.monotonic()

    def show(what: str, ratio: float | None) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= every:
            last = now
            print(_progress(what, ratio), file=stream, flush=True)

    return show


def _progress(what: str, ratio: float | None) -> str:
    return what if ratio is None else f"{what} {ratio:.0%}"


def refuse_existing(path: Path) -> None:
    """Nothing of the user's is overwritten.

    Raises:
        RecipeError: there is something at this path.
    """
    if os.path.lexists(path):
        raise RecipeError("this file exists already", where=str(path), fix="choose another name, or delete it first")


def write_new(path: Path, text: str) -> None:
    """Writes a file that doesn't exist yet; it appears whole or not at all.

    Raises:
        RecipeError: it exists. ResourceError: it can't be written.
    """
    refuse_existing(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(
            f"can't write this file: {error.strerror or error}", where=str(path),
            fix="free some space, or choose another place",
        ) from error  # fmt: skip
