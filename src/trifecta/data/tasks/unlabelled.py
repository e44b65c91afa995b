"""Texts to be judged: lines of text, or records that look like those of training but need no labels."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trifecta.data.decoding import TextDecoder
from trifecta.data.files import InputFile
from trifecta.data.tasks.labelled import _PAIR_NAMES, _PAIRS, _TEXT_NAMES
from trifecta.data.tasks.objects import kind_of, list_names, plain_name, require_text, text_of_file
from trifecta.data.tasks.pairs import Pair
from trifecta.data.tasks.questions import Question, read_questions
from trifecta.data.tasks.tables import Row, Table, find_column, input_files, read_table, require_column, value_of
from trifecta.data.tasks.tagged import _WORD, Tagged, _read_columns, _sentence
from trifecta.errors import DataError

STANDARD_INPUT = "-"
_QUESTION_NAMES, _CONTEXT_NAMES = ("question", "text"), ("context", "passage", "document")
_SOURCE_NAMES = ("source", "input", "text", "document", "prompt", "question")
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Unlabelled:
    """A text to be judged.

    text: for questions the question. pair: a second text; for questions the context. words: [start, end) in characters;
    found in the text where None. id: of a question. place: `file:line`.
    """

    text: str
    pair: str | None = None
    words: tuple[tuple[int, int], ...] | None = None
    id: str | None = None
    place: str = ""

    @classmethod
    def of(cls, record: Any) -> Unlabelled:
        """A labelled record without its label."""
        if isinstance(record, Question):
            return cls(record.question, record.context, id=record.id, place=record.place)
        if isinstance(record, Tagged):
            return cls(record.text, words=record.words, place=record.place)
        if isinstance(record, Pair):
            return cls(record.source, place=record.place)
        return cls(record.text, record.pair, place=record.place)


def words_of(text: str) -> tuple[tuple[int, int], ...]:
    """Runs of letters and digits, and single signs: as readers of tagged texts find words."""
    return tuple(match.span() for match in _WORD.finditer(text))


def read_unlabelled(
    paths: Iterable[str], kind: str, *, text_field: str | None = None, pair_field: str | None = None,
    context: str | None = None,
) -> list[Unlabelled]:  # fmt: skip
    """Every text of the files, in order.

    Args:
        paths: .txt files with a text on each line, or - for such lines on standard input; .csv, .tsv, .jsonl and .json
            files with the columns of training data, labels or none; for tags also CoNLL columns; for answers SQuAD.
        kind: what is to be done with them: tag, answer, classify, or any other that takes one text.
        text_field, pair_field: columns; found by their usual names where not given.
        context: what every question is about, for lines that are questions.

    Raises:
        DataError: broken files, an empty text, or columns that can't be found; with the line.
    """
    found: list[Unlabelled] = []
    for path in paths:
        if path == STANDARD_INPUT:
            found += _lines(_standard_input(), "standard input", context)
            continue
        for file in input_files([path]):
            found += _read_file(file, kind, text_field, pair_field, context)
    if not found:
        raise DataError("there are no texts", where=", ".join(paths), fix="give a file with a text on each line")
    return found


def _read_file(
    file: InputFile, kind: str, text_field: str | None, pair_field: str | None, context: str | None
) -> list[Unlabelled]:
    if kind_of(file) == "text":
        if kind == "tag" and not plain_name(file).endswith(".txt"):
            return [Unlabelled.of(record) for record in _read_columns(file, (0, -1))]
        return _lines(text_of_file(file), file.place, context)
    if kind == "answer" and kind_of(file) in ("json", "jsonl") and context is None:
        return [Unlabelled.of(record) for record in read_questions([file.path])]
    table = read_table(file)
    if kind == "tag" and "tokens" in table.columns:
        return [_joined(row) for row in table.rows]
    text, pair = _COLUMNS.get(kind, _one)(table, text_field, pair_field)
    return [
        Unlabelled(
            require_text(value_of(row, text), f"the text in {text!r}", row.place),
            context if pair is None else require_text(value_of(row, pair), f"the text in {pair!r}", row.place),
            place=row.place,
        )
        for row in table.rows
    ]


def _lines(text: str, place: str, context: str | None) -> list[Unlabelled]:
    """One for each line that isn't blank."""
    return [
        Unlabelled(require_text(line.rstrip("\r"), "the text", f"{place}:{number}"), context, place=f"{place}:{number}")
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]


def _standard_input() -> str:
    decoder = TextDecoder("standard input", invalid_utf8="refuse", allow_nul=False, folder="")
    return "".join(decoder.decode(iter(lambda: sys.stdin.buffer.read(_CHUNK), b"")))


def _joined(row: Row) -> Unlabelled:
    tokens = value_of(row, "tokens")
    if not isinstance(tokens, list) or not tokens:
        raise DataError("'tokens' should be a list of words", where=row.place, fix="mend or remove this record")
    words = [require_text(word, f"token {number}", row.place) for number, word in enumerate(tokens)]
    return Unlabelled.of(_sentence(words, ("O",) * len(words), row.place))


def _two(table: Table, text_field: str | None, pair_field: str | None) -> tuple[str, str | None]:
    """A text, and a second one if there is a column for it."""
    text = require_column(text_field, table, "data.text_field") if text_field else None
    pair = require_column(pair_field, table, "data.pair_field") if pair_field else None
    if not text and pair_field is None:
        for first, second in _PAIRS:
            if find_column(table.columns, [first]) and find_column(table.columns, [second]):
                return str(find_column(table.columns, [first])), find_column(table.columns, [second])
    free = [column for column in table.columns if column not in (text, pair)]
    text = text or _required(table, free, _TEXT_NAMES, "the text", "data.text_field=COLUMN")
    if pair is None and pair_field is None:
        pair = find_column([column for column in free if column != text], _PAIR_NAMES)
    return text, pair


def _one(table: Table, text_field: str | None, _: str | None) -> tuple[str, None]:
    if text_field and text_field in table.columns:
        return text_field, None
    return _required(table, table.columns, (*_SOURCE_NAMES, *_TEXT_NAMES), "the text", "text"), None


def _question(table: Table, _: str | None, __: str | None) -> tuple[str, str]:
    question = _required(table, table.columns, _QUESTION_NAMES, "the question", "question")
    return question, _required(table, table.columns, _CONTEXT_NAMES, "the context", "context")


def _required(table: Table, columns: Iterable[str], names: tuple[str, ...], what: str, name: str) -> str:
    found = find_column(list(columns), names)
    if found is None:
        raise DataError(
            f"which column holds {what} can't be told; there are: {list_names(table.columns)}", where=table.place,
            fix=f"name it: {name}" if "=" in name else f"give it the name {name}",
        )  # fmt: skip
    return found


_COLUMNS: Mapping[str, Callable[[Table, str | None, str | None], tuple[str, str | None]]] = {
    "classify": _two,
    "answer": _question,
}
"""What is to be done -> which columns hold what."""
