"""Texts whose words have tags: CoNLL columns, and .jsonl with character ranges or with words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trifecta.data.files import InputFile
from trifecta.data.tasks.objects import kind_of, name_kind, read_objects, require_text, short, text_of_file
from trifecta.data.tasks.tables import input_files
from trifecta.errors import DataError

_TAG = re.compile(r"O|([BIESLUM])-(\S.*)")
"""BIO, and the ends (E, L), singles (S, U) and middles (M) of BIOES, BILOU and BMES."""
_WORD = re.compile(r"\w+|[^\w\s]")
_FIX = "mend or remove this record"
_TAG_FIX = "write tags as O, B-PER, I-PER"


@dataclass(frozen=True)
class Tagged:
    """A text, its words and a tag for each.

    words: [start, end) in characters of the text, from left to right. tags: O, or B-LABEL for an entity's first word
    and I-LABEL for its others. place: `file:line`.
    """

    text: str
    words: tuple[tuple[int, int], ...]
    tags: tuple[str, ...]
    place: str


def read_tagged(paths: Sequence[str | Path], columns: tuple[int, int] | None = None) -> list[Tagged]:
    """Every sentence of CoNLL files, and every record of .jsonl and .json files; any may be packed (.gz, .zst).

    Args:
        paths: files of columns divided by tabs or white space, a word on each line and a blank line between sentences;
            or of objects `{"text": ..., "entities": [{"start": 3, "end": 9, "label": "PER"}]}` (or `spans`, or
            `[3, 9, "PER"]`), or `{"tokens": [...], "tags": [...]}`.
        columns: of the word and of the tag, counted from 0, or from the end as -1. Default: the first and the last.

    Raises:
        DataError: a missing column, a tag or an entity that can't be one, or no entity anywhere.
    """
    records: list[Tagged] = []
    for file in input_files(paths):
        if kind_of(file) in ("jsonl", "json"):
            records += [_read_object(record, where) for where, record in read_objects(file)]
        else:
            records += _read_columns(file, columns or (0, -1))
    where = ", ".join(map(str, paths))
    if not records:
        raise DataError("there are no sentences", where=where, fix="give a file with tagged words in it")
    if all(tag == "O" for record in records for tag in record.tags):
        raise DataError(
            "no word is part of an entity: every tag is O", where=where,
            fix="check that the column of the tags is the last, or name it by its number",
        )  # fmt: skip
    return records


def to_bio(tags: Sequence[str], places: Sequence[str]) -> tuple[str, ...]:
    """BIO for any of IOB1, BIO, BIOES, BILOU and BMES, which agree on where an entity begins.

    An inside goes on with the entity before it when that has the same label and hasn't ended, as in conlleval; else it
    begins one.

    Raises:
        DataError: a tag that is none of these, with its place.
    """
    found: list[str] = []
    open_label = ""
    for tag, place in zip(tags, places, strict=True):
        match = _TAG.fullmatch(tag)
        if not match:
            raise DataError(f"{short(tag)} is no tag: its column may be wrong", where=place, fix=_TAG_FIX)
        position, label = match[1] or "O", match[2] or ""
        goes_on = position in "IELM" and label == open_label
        found.append(f"{'I' if goes_on else 'B'}-{label}" if label else "O")
        open_label = "" if position in "ESLU" else label
    return tuple(found)


def _read_columns(file: InputFile, columns: tuple[int, int]) -> Iterator[Tagged]:
    words: list[str] = []
    tags: list[str] = []
    places: list[str] = []
    width = 0
    for number, line in enumerate([*text_of_file(file).split("\n"), ""], 1):
        where = f"{file.place}:{number}"
        if not line.strip() or line.startswith("-DOCSTART-"):
            if words:
                yield _sentence(words, to_bio(tags, places), places[0])
            words, tags, places = [], [], []
            continue
        # Not split(): a word may hold a no-break space.
        cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else re.split(" +", line.strip(" \r")))]
        if line.startswith("#") and not words and not _TAG.fullmatch(cells[-1]):
            continue  # a comment above the sentence, as CoNLL-U has them
        width = width or len(cells)
        word, tag = _word_and_tag(cells, width, columns, where)
        words.append(require_text(word, "the word", where))
        tags.append(tag)
        places.append(where)


def _word_and_tag(cells: list[str], width: int, columns: tuple[int, int], where: str) -> tuple[str, str]:
    if len(cells) < 2:
        raise DataError(
            f"one column only: {short(cells[0])}; a word and its tag were wanted", where=where,
            fix="put a tag after the word; a sentence ends with a blank line",
        )  # fmt: skip
    if len(cells) != width:
        raise DataError(
            f"{len(cells)} columns, but the first line has {width}", where=where, fix="give every line the same columns"
        )
    if not all(-width <= column < width for column in columns):
        raise DataError(
            f"columns {columns[0]} and {columns[1]} are wanted, but there are {width}", where=where,
            fix="name the columns of the word and of the tag, counted from 0",
        )  # fmt: skip
    return cells[columns[0]], cells[columns[1]]


def _sentence(words: Sequence[str], tags: tuple[str, ...], place: str) -> Tagged:
    """The words joined by one space."""
    ranges, start = [], 0
    for word in words:
        ranges.append((start, start + len(word)))
        start += len(word) + 1
    return Tagged(" ".join(words), tuple(ranges), tags, place)


def _read_object(record: dict[str, Any], where: str) -> Tagged:
    if "tokens" in record:
        return _read_tokens(record, where)
    key = "entities" if "entities" in record else "spans"
    if "text" not in record or key not in record:
        raise DataError(
            f"neither text and entities nor tokens and tags; the keys are: {', '.join(map(short, record)) or 'none'}",
            where=where, fix='write {"text": "...", "entities": [{"start": 3, "end": 9, "label": "PER"}]}',
        )  # fmt: skip
    text = require_text(record["text"], "the text", where)
    if not isinstance(record[key], list):
        raise DataError(f"{key!r} should be a list, but is {name_kind(record[key])}", where=where, fix=_FIX)
    words = tuple(match.span() for match in _WORD.finditer(text))
    return Tagged(
        text, words, _tags_of([_entity(item, text, where) for item in record[key]], text, words, where), where
    )


def _read_tokens(record: dict[str, Any], where: str) -> Tagged:
    words, tags = record["tokens"], record.get("tags", record.get("ner_tags"))
    if not isinstance(words, list) or not isinstance(tags, list) or not words:
        raise DataError("'tokens' and 'tags' should be lists that aren't empty", where=where, fix=_FIX)
    if len(words) != len(tags):
        raise DataError(f"{len(words)} tokens, but {len(tags)} tags", where=where, fix=_FIX)
    if others := [tag for tag in tags if not isinstance(tag, str)]:
        raise DataError(f"a tag should be a text, but is {short(others[0])}", where=where, fix=_TAG_FIX)
    words = [require_text(word, f"token {number}", where) for number, word in enumerate(words)]
    return _sentence(words, to_bio(tags, [where] * len(tags)), where)


def _entity(item: Any, text: str, where: str) -> tuple[int, int, str]:
    """Start, end and label, without white space at the ends."""
    values = [item.get(name) for name in ("start", "end", "label")] if isinstance(item, dict) else item
    if not isinstance(values, list) or len(values) != 3 or not all(type(value) is int for value in values[:2]):
        raise DataError(
            f"{short(item)} is no entity with a whole number as start and end, and a label", where=where,
            fix='write {"start": 3, "end": 9, "label": "PER"}, or [3, 9, "PER"]',
        )  # fmt: skip
    start, end, label = values
    require_text(label, "the label of an entity", where)
    if not 0 <= start <= end <= len(text):
        raise DataError(
            f"the entity {start} to {end} lies outside the text, which has {len(text)} characters",
            where=where,
            fix=_FIX,
        )
    inside = text[start:end]
    if not inside.strip():
        raise DataError(
            f"the entity {start} to {end} is empty", where=where, fix="end is one behind the last character"
        )
    return start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip()), label.strip()


def _tags_of(
    entities: list[tuple[int, int, str]], text: str, words: Sequence[tuple[int, int]], where: str
) -> tuple[str, ...]:
    tags = ["O"] * len(words)
    first = {start: number for number, (start, _) in enumerate(words)}
    last = {end: number for number, (_, end) in enumerate(words)}
    before = (0, 0, "")
    for start, end, label in sorted(entities):
        if start < before[1]:
            raise DataError(
                f"the entities {before[0]} to {before[1]} and {start} to {end} overlap", where=where,
                fix="keep one of them: a word has one tag",
            )  # fmt: skip
        if start not in first or end not in last:
            raise DataError(
                f"the entity {start} to {end}, {short(text[start:end])}, cuts a word", where=where,
                fix="let it begin and end where words do",
            )  # fmt: skip
        tags[first[start] : last[end] + 1] = [f"B-{label}"] + [f"I-{label}"] * (last[end] - first[start])
        before = (start, end, label)
    return tuple(tags)
