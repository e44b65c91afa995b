"""Texts, or pairs of texts, with labels: of .csv, .tsv, .jsonl and .json files, and of a folder for each class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trifecta.data.files import InputFile
from trifecta.data.tasks.labels import (
    Kind,
    Label,
    RawLabel,
    as_class,
    as_classes,
    as_number,
    find_kind,
    require_known,
    require_label,
)
from trifecta.data.tasks.objects import kind_of, list_names, plain_name, require_text, text_of_file
from trifecta.data.tasks.tables import Table, find_column, input_files, read_table, require_column, value_of
from trifecta.errors import DataError

_PAIRS = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"), ("text_a", "text_b"),
    ("text1", "text2"), ("question", "sentence"), ("question", "passage"),
)  # fmt: skip
"""Columns that belong together. They come before single names: of question and sentence both are meant."""
_TEXT_NAMES = (
    "text", "sentence", "content", "review", "document", "premise", "question", "sentence1", "text_a", "question1",
    "text1", "body", "comment", "message", "tweet",
)  # fmt: skip
_PAIR_NAMES = ("hypothesis", "sentence2", "text_b", "pair", "text_pair", "question2", "text2")
_LABEL_NAMES = ("label", "labels", "class", "category", "target", "score", "rating", "sentiment")
_NAME_THEM = "name them: data.text_field=COLUMN data.label_field=COLUMN"


@dataclass(frozen=True)
class Labelled:
    """A text, maybe a second one, and the label: a class, any number of classes, or a number. place: `file:line`."""

    text: str
    pair: str | None
    label: Label
    place: str


@dataclass(frozen=True)
class LabelledSet:
    """What was read.

    kind: single, multi or regression, for every record alike. labels: the classes, sorted, or as they were allowed;
    empty for regression.
    """

    records: list[Labelled]
    kind: Kind
    labels: tuple[str, ...]


@dataclass(frozen=True)
class _Raw:
    text: str
    pair: str | None
    label: RawLabel


def read_labelled(
    paths: Sequence[str | Path],
    *,
    text_field: str | None = None,
    pair_field: str | None = None,
    label_field: str | None = None,
    kind: Literal["auto", "single", "multi", "regression"] = "auto",
    allowed: Sequence[str] | None = None,
) -> LabelledSet:
    """Every record of the files.

    Args:
        paths: .csv, .tsv, .jsonl and .json files; .txt files, whose label is the name of their folder; and folders of
            either. Any may be packed (.gz, .zst).
        text_field, pair_field, label_field: columns; found by their usual names where not given. An empty pair_field
            says that there is none.
        kind: auto takes lists, and `a|b` or `a;b` in a column named labels, for multi, numbers that aren't all whole
            for regression, and all else for single: whole numbers are names of classes.
        allowed: the classes of the training data, for data that must have no others; it may have fewer. With them
            auto never takes numbers for regression.

    Raises:
        DataError: broken files; columns that can't be found; an empty text; a label that is blank, null, no finite
            number, or not allowed; only one class.
    """
    raws = [raw for file in input_files(paths) for raw in _read_file(file, text_field, pair_field, label_field)]
    _require_alike(raws)
    found = _kind_of(raws, kind, bool(allowed))
    records = [Labelled(raw.text, raw.pair, _convert(raw.label, found), raw.label.place) for raw in raws]
    if found == "regression":
        return LabelledSet(records, found, ())
    if allowed:
        known = frozenset(allowed)
        for record in records:
            for name in classes_of(record):
                if name not in known:
                    require_known(name, allowed, record.place)
        return LabelledSet(records, found, tuple(allowed))
    labels = tuple(sorted({name for record in records for name in classes_of(record)}))
    _require_classes(records, labels, ", ".join(map(str, paths)))
    return LabelledSet(records, found, labels)


def classes_of(record: Labelled) -> tuple[str, ...]:
    """The record's classes, however many; none for regression."""
    if isinstance(record.label, tuple):
        return record.label
    return (record.label,) if isinstance(record.label, str) else ()


def _kind_of(raws: list[_Raw], kind: Literal["auto", "single", "multi", "regression"], classes_known: bool) -> Kind:
    labels = [raw.label for raw in raws]
    for label in labels:
        require_label(label)
    if kind != "auto":
        return kind
    found = find_kind(labels)
    return "single" if classes_known and found == "regression" else found


def _convert(label: RawLabel, kind: Kind) -> Label:
    if kind == "single":
        return as_class(label)
    return as_classes(label) if kind == "multi" else as_number(label)


def _require_alike(raws: list[_Raw]) -> None:
    """Either every record has a second text or none has."""
    for raw in raws:
        if (raw.pair is None) != (raws[0].pair is None):
            has, lacks = (raws[0], raw) if raw.pair is None else (raw, raws[0])
            raise DataError(
                f"there is no second text, but {has.label.place} has one", where=lacks.label.place,
                fix="give all files a column for it, or none, and name it: data.pair_field=COLUMN",
            )  # fmt: skip


def _require_classes(records: list[Labelled], labels: tuple[str, ...], where: str) -> None:
    if len(labels) > 1 or (labels and not all(classes_of(record) for record in records)):
        return
    found = f"every record has the label {labels[0]!r}" if labels else "no record has a label"
    raise DataError(
        f"{found}, so there is nothing to tell apart: two classes are needed", where=where,
        fix="give records of other classes too (of a .txt file, the label is the name of its folder)",
    )  # fmt: skip


def _read_file(
    file: InputFile, text_field: str | None, pair_field: str | None, label_field: str | None
) -> Iterator[_Raw]:
    if kind_of(file) == "text":
        text = require_text(text_of_file(file), "the text", file.place)
        yield _Raw(text, None, RawLabel(class_of_file(file), False, f"{file.place}:1"))
        return
    table = read_table(file)
    text_column, pair_column, label_column = find_columns(table, text_field, pair_field, label_field)
    plural = label_column.lower() == "labels"
    for row in table.rows:
        label = RawLabel(value_of(row, label_column), plural, row.place)
        text = require_text(value_of(row, text_column), f"the text in {text_column!r}", row.place)
        pair = (
            require_text(value_of(row, pair_column), f"the text in {pair_column!r}", row.place) if pair_column else None
        )
        yield _Raw(text, pair, label)


def class_of_file(file: InputFile) -> str:
    """Name of the folder that holds it, which must lie right in the folder that was given."""
    path = file.path.absolute()
    if not plain_name(file).endswith(".txt"):
        raise DataError(
            "this is no .txt file, nor a table", where=file.place,
            fix="give .csv, .tsv, .jsonl or .json files, or a pattern for the classes' .txt files: 'FOLDER/*/*.txt'",
        )  # fmt: skip
    if file.folder and (depth := len(path.relative_to(Path(file.folder).expanduser().absolute()).parts) - 1) != 1:
        raise DataError(
            f"this .txt file lies {depth} folders deep; FOLDER/CLASS/NAME.txt is wanted", where=file.place,
            fix="give the folder that holds the classes' folders, or a pattern: 'FOLDER/*/*.txt'",
        )  # fmt: skip
    return path.parent.name


def find_columns(
    table: Table, text_field: str | None = None, pair_field: str | None = None, label_field: str | None = None
) -> tuple[str, str | None, str]:
    """Columns of the text, of the second text if there is one, and of the label."""
    text = require_column(text_field, table, "data.text_field") if text_field else None
    pair = require_column(pair_field, table, "data.pair_field") if pair_field else None
    label = require_column(label_field, table, "data.label_field") if label_field else None
    free = [column for column in table.columns if column not in (text, pair, label)]
    label = label or find_column(free, _LABEL_NAMES)
    free = [column for column in free if column != label]
    if not text and pair_field is None:
        for first, second in _PAIRS:
            if not text and find_column(free, [first]) and find_column(free, [second]):
                text, pair = find_column(free, [first]), find_column(free, [second])
    text = text or find_column(free, _TEXT_NAMES)
    if not text or not label:
        what = " and ".join(name for name, found in (("the text", text), ("the label", label)) if not found)
        raise DataError(
            f"which column holds {what} can't be told; there are: {list_names(table.columns)}", where=table.place,
            fix=f"{_NAME_THEM}; if a table has no header, put one above it",
        )  # fmt: skip
    if pair is None and pair_field is None:
        pair = find_column([column for column in free if column != text], _PAIR_NAMES)
    return text, pair, label
