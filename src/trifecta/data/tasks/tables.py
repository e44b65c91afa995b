"""Rows of .csv, .tsv, .jsonl and .json files with their columns, and which column holds what."""

from __future__ import annotations

import contextlib
import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trifecta.data.files import InputFile, find_files
from trifecta.data.tasks.objects import kind_of, list_names, read_objects, short, text_of_file
from trifecta.errors import DataError, did_you_mean

Cells = tuple[str, list[str]]
"""Place and cells of one row of a .csv or .tsv file."""


@dataclass(frozen=True)
class Row:
    """One record: its values by column, and `file:line`."""

    fields: Mapping[str, Any]
    place: str


@dataclass(frozen=True)
class Table:
    """The records of one file.

    columns: of JSON, every key of any record, in the order in which they come. place: of the header.
    """

    columns: tuple[str, ...]
    rows: list[Row]
    place: str


def input_files(paths: Sequence[str | Path]) -> list[InputFile]:
    """Files meant by the paths.

    Raises:
        DataError: there is no path, or one means nothing.
    """
    if not paths:
        raise DataError("no file is given", fix="name the files that hold the data")
    return find_files([str(path) for path in paths])


def read_table(file: InputFile) -> Table:
    """The whole file.

    Raises:
        DataError: broken JSON or CSV, with the line; no records; a name of another kind.
    """
    kind = kind_of(file)
    if kind in ("jsonl", "json"):
        return objects_table([Row(record, where) for where, record in read_objects(file)], file.place)
    if kind in ("csv", "tsv"):
        return headed_table(read_cells(file), file.place)
    raise DataError(
        "this kind of file can't be read here", where=file.place, fix="give a .csv, .tsv, .jsonl or .json file"
    )


def objects_table(rows: list[Row], place: str) -> Table:
    """A table of records whose columns are their keys."""
    if not rows:
        raise DataError("there are no records", where=place, fix="give a file with records in it")
    return Table(tuple(dict.fromkeys(name for row in rows for name in row.fields)), rows, f"{place}:1")


def headed_table(cells: list[Cells], place: str) -> Table:
    """A table whose first row names the columns."""
    if len(cells) < 2:
        found = "only a header, without records" if cells else "nothing: it is empty"
        raise DataError(f"there is {found}", where=place, fix="give a file with records in it")
    where, header = cells[0][0], [name.strip() for name in cells[0][1]]
    if twice := next((name for name in header if name and header.count(name) > 1), ""):
        raise DataError(
            f"{header.count(twice)} columns have the name {short(twice)}", where=where,
            fix="rename all but one of them; if this line is data, put a header above it",
        )  # fmt: skip
    rows = [Row(dict(zip(header, row, strict=True)), place) for place, row in cells[1:]]
    return Table(tuple(header), rows, where)


def read_cells(file: InputFile) -> list[Cells]:
    """Every row of a .csv or .tsv file that isn't empty, the header among them.

    Many .tsv files know no quoting: where a file is broken when read with it and regular without, a quote is a sign
    like any other.

    Raises:
        DataError: with the line: a row with more or fewer columns than the first, or broken quotes.
    """
    text = text_of_file(file)
    if kind_of(file) == "csv":
        return _cells(text, file.place, ",", quoted=True)
    try:
        return _cells(text, file.place, "\t", quoted=True)
    except DataError:
        with contextlib.suppress(DataError):
            return _cells(text, file.place, "\t", quoted=False)
        raise


def _cells(text: str, place: str, delimiter: str, *, quoted: bool) -> list[Cells]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    cells: list[Cells] = []
    line = 1
    try:
        for row in reader:
            where, line = f"{place}:{line}", reader.line_num + 1
            if row and cells and len(row) != len(cells[0][1]):
                raise DataError(
                    f"{len(row)} columns, but the first row has {len(cells[0][1])}", where=where,
                    fix='put text that holds the delimiter or a quote in quotes: "a, ""b"""',
                )  # fmt: skip
            if row:
                cells.append((where, row))
    except csv.Error as error:
        raise DataError(f"broken CSV: {error}", where=f"{place}:{line}", fix="check its quotes") from error
    return cells


def find_column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The column with the first of these names that is there; small and capital letters are one."""
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in names if name in by_name), None)


def require_column(name: str, table: Table, key: str) -> str:
    """The name, which the user gave for the recipe's key, as a column of the table.

    Raises:
        DataError: there is no such column; the message lists those there are.
    """
    if name not in table.columns:
        near = did_you_mean(name, table.columns[:1000])
        raise DataError(
            f"no column {name!r}; there are: {list_names(table.columns)}{'; ' + near if near else ''}",
            where=table.place, fix=f"set {key} to a column that is there",
        )  # fmt: skip
    return name


def value_of(row: Row, column: str) -> Any:
    """The row's value.

    Raises:
        DataError: this record lacks the column, as JSON's can.
    """
    if column not in row.fields:
        raise DataError(
            f"no field {column!r}, which other records have; there are: {list_names(list(row.fields))}",
            where=row.place, fix="mend or remove this record",
        )  # fmt: skip
    return row.fields[column]
