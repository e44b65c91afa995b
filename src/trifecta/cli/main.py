"""`trifecta`: the commands, and how each kind of failure ends.

Nothing heavy is imported here or by the command files themselves, so that `--help` answers at once.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from itertools import takewhile
from typing import Annotated

import typer

from trifecta.cli import check, demo, evaluate, generate, plot, presets, runs, tokenizer, train
from trifecta.errors import TrifectaError

EXIT_CODES = (
    "Exit codes: 0 done; 1 internal error; 2 recipe or usage; 3 data; 4 checkpoint; 5 numerical; 6 resources; "
    "7 refused as unsafe; 130 interrupted (Ctrl-C); 143 terminated (SIGTERM)."
)

# The base of typer's own complaints about the command line; typer shows it under a private name only.
UsageError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="trifecta",
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"trifecta {version('trifecta')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    debug: Annotated[  # noqa: ARG001  (read from the arguments, since it matters after the command has failed)
        bool, typer.Option("--debug", metavar="", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train transformers on your own data.

    Begin with: trifecta demo
    Your own text: trifecta train book.txt
    """
    if context.invoked_subcommand is None:
        print(context.get_help(), end="")


app.command(rich_help_panel="Train")(train.train)
app.command(rich_help_panel="Train")(check.check)
app.command(rich_help_panel="Train")(demo.demo)
app.command(rich_help_panel="Use")(generate.generate)
app.command(rich_help_panel="Use")(evaluate.evaluate)
app.command(rich_help_panel="Look")(runs.runs)
app.command(rich_help_panel="Look")(plot.plot)
app.command(rich_help_panel="Prepare")(presets.presets)
app.add_typer(tokenizer.app, rich_help_panel="Prepare")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns its exit code. Errors are one message on standard error, without a traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in takewhile(lambda argument: argument.startswith("-"), arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if "_TRIFECTA_COMPLETE" in os.environ:  # the shell asks for completions
        app(prog_name="trifecta")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return _run(arguments)
    except BrokenPipeError:
        return _reader_gone()
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130, debug)
    except TrifectaError as error:
        return _fail(f"error: {error}", error.exit_code, debug)
    except MemoryError:
        return _fail("error: out of memory\n  fix: use a smaller batch size or a smaller model", 6, debug)
    except OSError as error:
        place = f"{error.filename}: " if error.filename is not None else ""
        return _fail(f"error: {place}{error.strerror or error}", 6, debug)
    except Exception as error:
        again = shlex.join(["trifecta", "--debug", *arguments])
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return _fail(f"error: internal error, {what}; rerun with --debug for the traceback: {again}", 1, debug)


def _run(arguments: Sequence[str]) -> int:
    try:
        command = typer.main.get_command(app)
        with command.make_context("trifecta", list(arguments)) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as leaving:
        sys.stdout.flush()
        return leaving.exit_code
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # rich leaves like this
            return _reader_gone()
        raise
    except UsageError as error:
        return _fail(_usage(error), 2, debug=False)
    return 0


def _usage(error: Exception) -> str:
    """What is wrong with the command line, how the command is used, and where its help is."""
    lines = [f"error: {error.format_message()}"]  # type: ignore[attr-defined]
    context: typer.Context | None = getattr(error, "ctx", None)
    if context is not None:
        usage = " ".join(context.get_usage().split()).removeprefix("Usage: ")
        lines += [f"  usage: {usage}", f"  help: {context.command_path} --help"]
    return "\n".join(lines)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _fail(message: str, exit_code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(message, file=sys.stderr)
    return exit_code


def _reader_gone() -> int:
    """Whoever read the output has had enough: no error. Python must not complain when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
