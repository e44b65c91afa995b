"""`trifecta generate`."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from trifecta.cli import options
from trifecta.cli.repl import Chat, Repl, Settings, first_seed
from trifecta.errors import RecipeError

if TYPE_CHECKING:
    from trifecta.run.opened import Run as TrainedRun

_SAMPLING = "Sampling"


def generate(
    run: options.Run,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="What the text begins with.")] = None,
    max_tokens: Annotated[int, typer.Option(metavar="N", help="Tokens to write.")] = 100,
    num_samples: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Texts to write.")] = 1,
    interactive: Annotated[
        bool, typer.Option("-i", "--interactive", metavar="", help="Take turns with the model; /help there.")
    ] = False,
    temperature: Annotated[
        float, typer.Option(metavar="X", help="Bolder above 1; 0 takes the likeliest token.", rich_help_panel=_SAMPLING)
    ] = 0.8,
    top_k: Annotated[
        int | None, typer.Option(metavar="N", help="Only the N likeliest tokens.", rich_help_panel=_SAMPLING)
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(metavar="P", help="Only the likeliest that make up P.", rich_help_panel=_SAMPLING)
    ] = None,
    repetition_penalty: Annotated[
        float, typer.Option(metavar="X", help="Above 1 avoids what was written.", rich_help_panel=_SAMPLING)
    ] = 1.0,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The same seed writes the same text. Default: another.", rich_help_panel=_SAMPLING
        ),
    ] = None,
) -> None:
    """Let a trained model write, token by token.

    Example: trifecta generate runs/book --prompt "Once" --temperature 1.0 --top-p 0.95
    """
    settings = Settings.checked(
        "--",
        max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p,
        repetition_penalty=repetition_penalty, seed=seed,
    )  # fmt: skip
    from trifecta import run as runner

    trained: TrainedRun = runner.load(run)
    if interactive:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (lets the reader edit his line and go back to earlier ones)
        (Chat if trained.answers else Repl)(trained, settings).loop()
        return
    if prompt is None and trained.answers:
        raise RecipeError("this model answers what it is asked", where="--prompt", fix="give a --prompt, or -i to talk")
    if prompt is None:
        prompt = trained.recipe.tracking.sample.prompt
    if num_samples > 1:
        _write_samples(trained, prompt, num_samples, settings)
    else:
        _write_one(trained, prompt, settings)


def _write_one(trained: TrainedRun, prompt: str, settings: Settings) -> None:
    """The prompt, and the text as it comes; a prompt that can't be encoded is found out before anything is printed."""
    pieces = trained.stream(prompt, **settings.options(first_seed(settings)))
    first = next(pieces, "")
    _say(first if trained.answers else prompt + first)
    for piece in pieces:
        _say(piece)
    print()


def _write_samples(trained: TrainedRun, prompt: str, number: int, settings: Settings) -> None:
    texts = trained.samples(prompt, number, **settings.options(first_seed(settings)))
    for index, text in enumerate(texts, 1):
        print(f"--- {index}/{number} ---")
        _say(text)
        print()


def _say(text: str) -> None:
    """Into a file or a pipe exactly; onto a terminal with control characters made visible."""
    from trifecta.tracking.terminal import visible

    print(visible(text) if sys.stdout.isatty() else text, end="", flush=True)
