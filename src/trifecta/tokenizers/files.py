"""Reads a tokenizer.json: ours (char, byte) or Hugging Face's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from trifecta.errors import CheckpointError, DataError, did_you_mean
from trifecta.tokenizers.base import Tokenizer
from trifecta.tokenizers.byte import FORMAT, byte_from_fields
from trifecta.tokenizers.char import char_from_fields
from trifecta.tokenizers.extended import extended_from_fields
from trifecta.tokenizers.nothing import none_from_fields
from trifecta.tokenizers.subword import subword_from_json

_EXTENDED = "extended"
_READERS: dict[str, Callable[[dict[str, Any]], Tokenizer]] = {
    "char": char_from_fields,
    "byte": byte_from_fields,
    "none": none_from_fields,
}

_FIX = "give a tokenizer.json; `trifecta tokenizer train TEXT` makes one from a text"


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, or of a folder that holds one.

    Raises:
        DataError: there is no such file.
        CheckpointError: it isn't a tokenizer.
    """
    path = Path(path)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        near = did_you_mean(file.name, [p.name for p in file.parent.iterdir()]) if file.parent.is_dir() else ""
        raise DataError("there is no such tokenizer file", where=str(file), fix=near or "give a tokenizer.json")
    try:
        return from_json(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise CheckpointError("this isn't a tokenizer.json: it isn't UTF-8 text", where=str(file), fix=_FIX) from error
    except OSError as error:
        raise DataError(
            f"it can't be read: {error.strerror or error}", where=str(file), fix="check that you may read it"
        ) from error
    except CheckpointError as error:
        error.where, error.fix = str(file), error.fix or _FIX
        raise


def from_json(text: str) -> Tokenizer:
    """The tokenizer of which `text` is the to_json().

    Raises:
        CheckpointError: it isn't one.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        found = "it is empty" if not text.strip() else f"it isn't JSON ({error})"
        raise CheckpointError(f"this isn't a tokenizer.json: {found}", fix=_FIX) from error
    if not isinstance(fields, dict):
        raise CheckpointError("this isn't a tokenizer.json: it should be an object { ... }", fix=_FIX)
    if fields.get("format") != FORMAT:
        return subword_from_json(text)
    if fields.get("version") == 1 and fields.get("type") == _EXTENDED:
        return extended_from_fields(fields, from_json)
    if fields.get("version") != 1 or str(fields.get("type")) not in _READERS:
        found = f"version {fields.get('version')!r}, type {fields.get('type')!r}"
        raise CheckpointError(f"an unknown kind of tokenizer ({found}); this trifecta knows version 1, char and byte")
    return _READERS[str(fields["type"])](fields)


def file(texts: Iterable[str], *, path: str) -> Tokenizer:  # noqa: ARG001 - every factory takes the texts
    """A trained tokenizer; no text is read."""
    return load_tokenizer(path)
