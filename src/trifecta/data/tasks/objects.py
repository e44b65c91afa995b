"""JSON objects of .jsonl files and of .json files that hold a list, each with its line."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

from trifecta.data.decoding import TextDecoder
from trifecta.data.files import InputFile, read_chunks
from trifecta.data.records import _short, _TwiceError, _unique
from trifecta.errors import DataError

_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
_SPACE = re.compile(r"[ \t\n\r]*")
_PACKED = re.compile(r"\.(?:gz|zst|zstd)$")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN = 20
_OBJECTS_FIX = "a .jsonl file holds one object on each line, a .json file a list of objects"
_KINDS_OF_VALUES = {list: "a list", dict: "an object", str: "a text", bool: "a truth value", type(None): "null"}


def kind_of(file: InputFile) -> str:
    """What the file's name says it is: jsonl, json, csv, tsv, parquet or text."""
    return "json" if plain_name(file).endswith(".json") else file.kind


def plain_name(file: InputFile) -> str:
    """The file's name in small letters, without the ending that says how it is packed."""
    return _PACKED.sub("", file.path.name.lower())


def text_of_file(file: InputFile) -> str:
    """Everything in the file.

    Raises:
        DataError: it can't be read, or isn't UTF-8 text.
    """
    decoder = TextDecoder(file.place, invalid_utf8="refuse", allow_nul=False, folder=file.folder)
    return "".join(decoder.decode(read_chunks(file)))


def read_objects(file: InputFile) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and object of each line, or of each item of the list.

    Raises:
        DataError: with the line: no JSON, or no object; or the file is of another kind.
    """
    kind = kind_of(file)
    if kind not in ("jsonl", "json"):
        raise DataError("JSON is wanted here, and the name ends otherwise", where=file.place, fix=_OBJECTS_FIX)
    text = text_of_file(file)
    is_list = kind == "json" and text.lstrip().startswith("[")
    for where, value in _items(text, file.place) if is_list else _lines(text, file.place):
        if not isinstance(value, dict):
            raise DataError(f"an object was wanted, {name_kind(value)} was found", where=where, fix=_OBJECTS_FIX)
        yield where, value


def parse_json(text: str, place: str) -> Any:
    """The one value that the text holds.

    Raises:
        DataError: it is no JSON, or an object has a key twice.
    """
    with _explained(place, 1):
        return _DECODER.decode(text)


def name_kind(value: object) -> str:
    """What a JSON value is, for messages."""
    return _KINDS_OF_VALUES.get(type(value), "a number")


def short(value: object) -> str:
    """A value as messages show it."""
    return _short(value) if isinstance(value, str) else json.dumps(value, default=str)[:60]


def list_names(names: Iterator[str] | tuple[str, ...] | list[str]) -> str:
    """Names as messages list them: the first ones, and how many there are more."""
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(_short, names[:_SHOWN])) + more or "none"


def require_text(value: object, what: str, where: str) -> str:
    """The value, which must be a text with more than white space, as it is.

    Raises:
        DataError: something else, nothing but white space, NUL, or half of a surrogate pair.
    """
    fix = "mend or remove this record"
    if not isinstance(value, str):
        found = name_kind(value) if value is None or isinstance(value, dict) else f"{name_kind(value)}: {short(value)}"
        raise DataError(f"{what} should be a text, but is {found}", where=where, fix=fix)
    if not value or value.isspace():
        raise DataError(f"{what} is empty", where=where, fix=fix)
    if "\x00" in value:
        raise DataError(f"a NUL character in {what}", where=where, fix=fix)
    if not value.isascii() and _SURROGATE.search(value):
        raise DataError(
            f"half of a surrogate pair (\\ud800 to \\udfff) in {what}, which isn't a character", where=where, fix=fix
        )
    return value


def _lines(text: str, place: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            with _explained(place, number):
                value = _DECODER.decode(line)
            yield f"{place}:{number}", value


def _items(text: str, place: str) -> Iterator[tuple[str, Any]]:
    """The list's items are decoded one by one, since only so their lines are known.

    An item's place has its column too when another begins on the same line: places tell records apart.
    """
    position = _after_space(text, _after_space(text, 0) + 1)
    counted, line, line_before, line_end = 0, 1, 0, -1
    while text[position : position + 1] != "]":
        line += text.count("\n", counted, position)
        line_end = max(line_end, text.rfind("\n", counted, position))
        where = f"{place}:{line}:{position - line_end}" if line == line_before else f"{place}:{line}"
        counted, line_before = position, line
        with _explained(place, 1, line):
            value, position = _DECODER.raw_decode(text, position)
        yield where, value
        position = _after_space(text, position)
        if text[position : position + 1] == ",":
            position = _after_space(text, position + 1)
            wanted = "a value" if text[position : position + 1] in ("]", "") else ""
        else:
            wanted = "" if text[position : position + 1] == "]" else "a comma or ]"
        if wanted:
            where = f"{place}:{1 + text.count(chr(10), 0, position)}"
            raise DataError(f"no valid JSON: {wanted} was wanted after an item", where=where, fix=_OBJECTS_FIX)
    if rest := text[position + 1 :].strip():
        where = f"{place}:{1 + text.count(chr(10), 0, text.index(rest, position + 1))}"
        raise DataError("no valid JSON: more text after the end of the list", where=where, fix=_OBJECTS_FIX)


def _after_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


@contextlib.contextmanager
def _explained(place: str, first_line: int, item_line: int | None = None) -> Iterator[None]:
    """Turns errors of the decoder into DataErrors.

    first_line: line of the file where the decoder's text begins. item_line: where the item begins, for errors that
    don't tell a position.
    """
    try:
        yield
    except _TwiceError as error:
        raise DataError(
            f"the key {_short(error.key)} is there twice in one object", where=f"{place}:{item_line or first_line}",
            fix="remove or rename one",
        ) from error  # fmt: skip
    except json.JSONDecodeError as error:
        raise DataError(
            f"no valid JSON: {error.msg} (column {error.colno})", where=f"{place}:{first_line + error.lineno - 1}",
            fix=_OBJECTS_FIX,
        ) from error  # fmt: skip
    except (ValueError, RecursionError) as error:
        where = f"{place}:{item_line or first_line}"
        raise DataError(f"no usable JSON: {error}", where=where, fix=_OBJECTS_FIX) from error
