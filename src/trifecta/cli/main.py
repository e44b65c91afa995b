"""`trifecta`: the commands, and how each kind of failure ends.

Nothing heavy is imported here or by the command files themselves, so that `--help` answers at once.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from errno import EACCES, EDQUOT, ENOSPC, EPERM, EROFS
from itertools import takewhile
from typing import Annotated, Any

import typer

from trifecta.cli import (
    ablate,
    augment,
    check,
    compare,
    convert,
    demo,
    evaluate,
    finetune,
    generate,
    plot,
    predict,
    presets,
    runs,
    tokenizer,
    train,
)
from trifecta.errors import TrifectaError, is_out_of_memory
from trifecta.tracking.terminal import visible

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
app.command(rich_help_panel="Train")(finetune.finetune)
app.command(rich_help_panel="Train")(check.check)
app.command(rich_help_panel="Train")(compare.compare)
app.command(rich_help_panel="Train")(ablate.ablate)
app.command(rich_help_panel="Train")(demo.demo)
app.command(rich_help_panel="Use")(generate.generate)
app.command(rich_help_panel="Use")(predict.predict)
app.command(rich_help_panel="Use")(evaluate.evaluate)
app.command(rich_help_panel="Use")(convert.export)
app.command(rich_help_panel="Look")(runs.runs)
app.command(rich_help_panel="Look")(plot.plot)
app.command("import", rich_help_panel="Prepare")(convert.import_)
app.command(rich_help_panel="Prepare")(augment.augment)
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
    except OSError as error:
        return _fail(_system_error(error), 6, debug)
    except Exception as error:
        if is_out_of_memory(error):
            return _fail(_out_of_memory(error), 6, debug)
        return _fail(_internal(error, arguments, debug), 1, debug)
    except BaseException as error:  # a panic in a library written in Rust isn't an Exception
        if type(error).__name__ != "PanicException":
            raise
        return _fail(_internal(error, arguments, debug), 1, debug)


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


def _out_of_memory(error: Exception) -> str:
    asked = re.search(r"allocate ([\d.]+ ?\w+)", str(error))
    return (
        f"error: out of memory{f': {asked[1]} more were wanted' if asked else ''}\n"
        "  fix: in training use a smaller training.batch_size, data.sequence_length or model (`trifecta check` "
        "estimates it), elsewhere a smaller --batch-size or fewer --beams"
    )


def _system_error(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename is not None else ""
    if error.errno in (ENOSPC, EDQUOT):
        fix = "free some space, or use another folder"
    elif error.errno in (EACCES, EPERM, EROFS):
        fix = "see that you may read and write there, or use another folder"
    else:
        fix = "see that this file or folder is there and can be used, or name another"
    return f"error: {place}{error.strerror or error}\n  fix: {fix}"


def _internal(error: BaseException, arguments: Sequence[str], debug: bool) -> str:
    again = shlex.join(["trifecta", "--debug", *arguments])
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"error: internal error, {what}" + ("" if debug else f"; rerun with --debug for the traceback: {again}")


def _usage(error: Exception) -> str:
    """What is wrong with the command line, how the command is used, and where its help is."""
    lines = [f"error: {_wrong_value(error) or error.format_message()}"]  # type: ignore[attr-defined]
    context: typer.Context | None = getattr(error, "ctx", None)
    if context is not None:
        usage = " ".join(context.get_usage().split()).removeprefix("Usage: ")
        lines += [f"  usage: {usage}", f"  help: {context.command_path} --help"]
    return "\n".join(lines)


def _wrong_value(error: Exception) -> str:
    """A value that an option can't take, in plain words; empty for any other complaint."""
    if type(error) is not typer.BadParameter:
        return ""
    parameter: Any = getattr(error, "param", None)
    names = [] if parameter is None else parameter.opts
    is_option = any(name.startswith("-") for name in names)
    flag = max(names, key=len) if is_option else getattr(parameter, "metavar", None) or ""
    said = str(getattr(error, "message", ""))
    detail: Any = error.__cause__
    if hasattr(detail, "errors"):  # pydantic's
        first = detail.errors()[0]
        limits = first.get("ctx", {})
        plain = {
            "int_parsing": "must be a whole number", "int_from_float": "must be a whole number",
            "float_parsing": "must be a number", "greater_than_equal": f"must be at least {limits.get('ge')}",
            "less_than_equal": f"must be at most {limits.get('le')}",
        }  # fmt: skip
        if first["type"] in plain:
            said = f"{plain[first['type']]}, not {str(first['input'])!r}"
        else:
            said = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be").rstrip(".")
    return f"{flag} {said}" if flag and said.startswith("must") else f"{flag}: {said}" if flag else said


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    print(visible(f"warning: {' '.join(str(message).split())}"), file=sys.stderr)


def _fail(message: str, exit_code: int, debug: bool) -> int:
    """Prints the message, its control characters made visible: paths and arguments are foreign text."""
    if debug:
        print(visible(traceback.format_exc()), end="", file=sys.stderr)
    print(visible(message), file=sys.stderr)
    return exit_code


def _reader_gone() -> int:
    """Whoever read the output has had enough: no error. Python must not complain when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
