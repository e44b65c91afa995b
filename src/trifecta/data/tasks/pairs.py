"""Texts to be turned into other texts: translations, summaries, answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trifecta.data.files import InputFile
from trifecta.data.tasks.objects import kind_of, list_names, read_objects, require_text
from trifecta.data.tasks.tables import (
    Row,
    Table,
    headed_table,
    input_files,
    objects_table,
    read_cells,
    read_table,
    require_column,
    value_of,
)
from trifecta.errors import DataError

_NAMES = (
    ("source", "target"), ("src", "tgt"), ("input", "output"), ("instruction", "output"), ("text", "summary"),
    ("document", "summary"), ("article", "summary"), ("dialogue", "summary"), ("article", "highlights"),
    ("question", "answer"), ("prompt", "response"), ("prompt", "completion"), ("instruction", "response"),
    ("input_text", "target_text"),
)  # fmt: skip
_CODES = """
ar bg bn ca cs cy da de el en eo es et eu fa fi fr ga gl gu he hi hr hu hy is it ja ka kk km kn ko lt lv mk ml mn mr ms
mt nb ne nl nn no pl ps pt ro ru si sk sl sq sr sv sw ta te th tl tr uk ur vi zh
"""
_LANGUAGES = frozenset(_CODES.split())
"""Codes of ISO 639-1 that name a column; not id (Indonesian), which more often is a number."""
_NAME_THEM = "name them: data.source_field=COLUMN data.target_field=COLUMN"


@dataclass(frozen=True)
class Pair:
    """A text and what is to be made of it. place: `file:line`."""

    source: str
    target: str
    place: str


def read_pairs(
    paths: Sequence[str | Path], *, source_field: str | None = None, target_field: str | None = None
) -> list[Pair]:
    """Every pair of the files, which may be packed (.gz, .zst).

    Args:
        paths: .tsv files, with a header or two columns; .csv files with a header; .jsonl and .json files, whose objects
            may hold `{"translation": {"en": ..., "fr": ...}}`.
        source_field, target_field: columns; found by their usual names where not given. Of two languages the first
            column is the source.

    Raises:
        DataError: broken files, columns that can't be told, or an empty side.
    """
    pairs: list[Pair] = []
    for file in input_files(paths):
        table = read_pair_table(file, headed=bool(source_field or target_field))
        source, target = find_sides(table, source_field, target_field)
        for row in table.rows:
            texts = [require_text(value_of(row, name), f"the side {name!r}", row.place) for name in (source, target)]
            pairs.append(Pair(texts[0], texts[1], row.place))
    return pairs


def read_pair_table(file: InputFile, headed: bool = False) -> Table:
    """A file's rows. headed: a .tsv has a header, though none of its names is a known one."""
    kind = kind_of(file)
    if kind in ("jsonl", "json"):
        rows = [Row(record, where) for where, record in read_objects(file)]
        if rows and all(isinstance(row.fields.get("translation"), dict) for row in rows):
            rows = [Row(row.fields["translation"], row.place) for row in rows]
        return objects_table(rows, file.place)
    if kind != "tsv" or headed:
        return read_table(file)
    cells = read_cells(file)
    header = tuple(name.strip() for name in cells[0][1]) if cells else ()
    if not cells or _candidates(header, None, None):
        return headed_table(cells, file.place)
    if len(header) != 2:
        raise DataError(
            f"{len(header)} columns, of which none has a known name; two were wanted", where=cells[0][0],
            fix=f"leave two columns, or put a header above them and {_NAME_THEM}",
        )  # fmt: skip
    rows = [Row({"source": row[0], "target": row[1]}, where) for where, row in cells]
    return Table(("source", "target"), rows, cells[0][0])


def find_sides(table: Table, source_field: str | None = None, target_field: str | None = None) -> tuple[str, str]:
    """Columns of the source and of the target."""
    source = require_column(source_field, table, "data.source_field") if source_field else None
    target = require_column(target_field, table, "data.target_field") if target_field else None
    if source and target:
        return source, target
    found = _candidates(table.columns, source, target)
    if len(found) == 1:
        return found[0]
    several = "; ".join(f"{first} and {second}" for first, second in found)
    what = f"several pairs could be meant, {several}" if found else "which columns hold the pair can't be told"
    raise DataError(
        f"{what}; there are: {list_names(table.columns)}", where=table.place,
        fix=f"{_NAME_THEM}; if a table has no header, put one above it",
    )  # fmt: skip


def _candidates(columns: Sequence[str], source: str | None, target: str | None) -> list[tuple[str, str]]:
    """Pairs of columns with names that belong together, or, beside a given one, with a name of that side."""
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    languages = [name for name in (column.strip().lower() for column in columns) if name in _LANGUAGES]
    known = [*_NAMES, *([(languages[0], languages[1])] if len(languages) == 2 else [])]
    if source or target:
        given = (source or target or "").strip().lower()
        if given in languages:
            known = [(given, name) if source else (name, given) for name in languages]
        known = [names for names in known if names[0 if source else 1] == given] or known
    pairs = [(source or by_name.get(a, ""), target or by_name.get(b, "")) for a, b in known]
    return [pair for pair in dict.fromkeys(pairs) if all(pair) and pair[0] != pair[1]]
