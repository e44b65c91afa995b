"""Documents of files: the whole text, or one field of each record of .jsonl, .csv, .tsv and .parquet."""

from __future__ import annotations

import csv
import io
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from trifecta.data.files import InputFile, read_chunks
from trifecta.errors import DataError, did_you_mean

Document = tuple[str, Iterable[str]]
"""Its place, and its text in chunks."""

_OBJECT_FIX = 'each line should be one object, such as {"text": "..."}'
_PARQUET_ROWS = 256
_SHOWN, _COMPARED, _LONGEST_NAME = 20, 1_000, 60
"""Names in a message: how many it lists, how many it looks for a near one in, and characters of each."""


def read_jsonl(texts: Iterable[str], place: str, field: str) -> Iterator[Document]:
    """One document for each line that isn't blank.

    Raises:
        DataError: with the line: no JSON, no object, no such field, or not a text.
    """
    for number, line in enumerate(_lines(texts, "\n"), 1):
        if not line.strip():
            continue
        where = f"{place}:{number}"
        try:
            record = json.loads(line, object_pairs_hook=_unique)
        except _TwiceError as error:
            raise DataError(
                f"the key {_short(error.key)} is there twice in one object", where=where, fix="remove or rename one",
            ) from error  # fmt: skip
        except json.JSONDecodeError as error:
            raise DataError(
                f"no valid JSON: {error.msg} (column {error.colno})", where=where,
                fix=_OBJECT_FIX,
            ) from error  # fmt: skip
        except (ValueError, RecursionError) as error:
            raise DataError(f"no usable JSON: {error}", where=where, fix=_OBJECT_FIX) from error
        if not isinstance(record, dict):
            found = {list: "a list", str: "a text", type(None): "null"}.get(type(record), "a number or truth value")
            raise DataError(f"an object was wanted, {found} was found", where=where, fix=_OBJECT_FIX)
        yield where, [_text_of(record, field, where)]


def read_csv(texts: Iterable[str], place: str, field: str, delimiter: str) -> Iterator[Document]:
    """One document for each row after the header.

    Raises:
        DataError: with the line: no such column, a row with more or fewer columns than the header, or broken quotes.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    rows = csv.reader(_lines(texts, ""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    line, column = 1, 0
    try:
        for row in rows:
            where, line = f"{place}:{line}", rows.line_num + 1
            if not row:
                continue
            if header is None:
                header = row
                column = _column(field, header, where)
            elif len(row) != len(header):
                raise DataError(
                    f"{len(row)} columns, but the header has {len(header)}", where=where,
                    fix='put text that holds the delimiter or a quote in quotes: "a, ""b"""',
                )  # fmt: skip
            else:
                yield where, [row[column]]
    except csv.Error as error:
        raise DataError(f"broken CSV: {error}", where=f"{place}:{line}", fix="check its quotes") from error


def read_parquet(file: InputFile, field: str) -> Iterator[Document]:
    """One document for each row.

    Raises:
        DataError: pyarrow is missing, the file is damaged, there is no such column, or it holds something but text.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            "a .parquet file needs the package pyarrow", where=file.place, fix="pip install 'trifecta[parquet]'"
        ) from error
    # Parquet is read from its end, so it is unpacked into a file of its own.
    with tempfile.TemporaryFile() as unpacked:
        for chunk in read_chunks(file):
            unpacked.write(chunk)
        unpacked.seek(0)
        try:
            table = parquet.ParquetFile(unpacked)
            _column(field, table.schema_arrow.names, file.place)
            kind = table.schema_arrow.field(field).type
            if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
                raise DataError(
                    f"column {field!r} holds {kind}, not text", where=file.place, fix="set data.text_field to another"
                )
            row = 0
            for batch in table.iter_batches(batch_size=_PARQUET_ROWS, columns=[field]):
                for value in batch.column(0).to_pylist():
                    row += 1
                    where = f"{file.place}:{row}"
                    yield where, [_text_of({field: value}, field, where)]
        except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
            raise DataError(f"damaged Parquet data: {error}", where=file.place, fix="write the file again") from error


def _text_of(record: dict[str, Any], field: str, where: str) -> str:
    _require_field(field, record, where, "field")
    text = record[field]
    if not isinstance(text, str):
        found = json.dumps(text, default=str)[:60]
        raise DataError(
            f"field {field!r} should be a text, but is {found}", where=where,
            fix="mend or remove this record, or set data.text_field to the field that holds the text",
        )  # fmt: skip
    return text


class _TwiceError(ValueError):
    def __init__(self, key: str):
        super().__init__(key)
        self.key = key


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of its keys and values, each key once: of two values JSON says not which one counts."""
    record = dict(pairs)
    if len(record) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _TwiceError(key)
            seen.add(key)
    return record


def _column(field: str, header: list[str], where: str) -> int:
    """Number of the column with this name."""
    _require_field(field, header, where, "column")
    if (times := header.count(field)) > 1:
        raise DataError(
            f"{times} columns have the name {_short(field)}", where=where, fix="rename all but one of them",
        )  # fmt: skip
    return header.index(field)


def _short(name: str) -> str:
    return repr(name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "...")


def _require_field(field: str, names: Iterable[str], where: str, kind: str) -> None:
    names = list(names)
    if field not in names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        shown = ", ".join(map(_short, names[:_SHOWN])) + more or "none"
        # Comparing a name takes a while, and a record can have a million.
        near = did_you_mean(field, [name for name in names[:_COMPARED] if len(name) <= _LONGEST_NAME])
        raise DataError(
            f"no {kind} {field!r}; there are: {shown}{'; ' + near if near else ''}", where=where,
            fix=f"set data.text_field to the {kind} that holds the text",
        )  # fmt: skip


def _lines(texts: Iterable[str], ending: Literal["", "\n"]) -> Iterator[str]:
    r"""Lines with their ends. ending: `\n`, or empty for any of `\n`, `\r\n`, `\r` (never U+2028 or the like)."""
    parts: list[str] = []
    for text in filter(None, texts):
        after_return = not ending and bool(parts) and parts[-1].endswith("\r")
        parts.append(text)
        # Joining only when a line end has come keeps a very long line linear.
        if not (after_return or "\n" in text or (not ending and "\r" in text[:-1])):
            continue
        buffer = "".join(parts)
        # A carriage return at the very end waits: a line feed may follow.
        end = 1 + max(buffer.rfind("\n"), -1 if ending else buffer.rfind("\r", 0, -1))
        yield from io.StringIO(buffer[:end], newline=ending)
        parts = [buffer[end:]]
    yield from io.StringIO("".join(parts), newline=ending)
