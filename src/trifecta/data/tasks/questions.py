"""Questions that are answered by a part of a context: SQuAD's JSON, and flat records."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trifecta.data.files import InputFile
from trifecta.data.tasks.objects import kind_of, name_kind, parse_json, read_objects, require_text, short, text_of_file
from trifecta.data.tasks.tables import input_files
from trifecta.errors import DataError

_FIX = "mend or remove this question"
_SHAPE_FIX = 'SQuAD\'s shape is {"data": [{"paragraphs": [{"context": "...", "qas": [{"id": ..., "question": ...}]}]}]}'


@dataclass(frozen=True)
class Question:
    """A question about a context.

    answers: text and its first character in the context; none when the context doesn't answer. place: `file:line`, or
    the path in the file's JSON, `file: data[0].paragraphs[2].qas[1]`.
    """

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]
    place: str


def read_questions(paths: Sequence[str | Path]) -> list[Question]:
    """Every question of the files, which may be packed (.gz, .zst).

    Args:
        paths: .json files as of SQuAD 1.1 and 2.0; .jsonl files, or .json files that hold a list, of objects
            `{"id", "question", "context", "answers": {"text": [...], "answer_start": [...]}}`. Where there is no id,
            the place is it.

    Raises:
        DataError: another shape, an empty question or context, an answer that isn't where it should be, an id twice.
    """
    questions: list[Question] = []
    places: dict[str, str] = {}
    for file in input_files(paths):
        for question in _read_file(file):
            if question.id in places:
                raise DataError(
                    f"the id {short(question.id)} is there already: {places[question.id]}", where=question.place,
                    fix="give every question an id of its own, or remove one",
                )  # fmt: skip
            places[question.id] = question.place
            questions.append(question)
    if not questions:
        raise DataError("there are no questions", where=", ".join(map(str, paths)), fix=_SHAPE_FIX)
    return questions


def _read_file(file: InputFile) -> Iterator[Question]:
    text = text_of_file(file) if kind_of(file) == "json" else ""
    if text.lstrip().startswith("{"):
        yield from _read_squad(parse_json(text, file.place), file.place)
    else:
        for where, record in read_objects(file):
            yield _flat(record, where)


def _read_squad(whole: dict[str, Any], place: str) -> Iterator[Question]:
    for article_place, article in _objects(whole, "data", f"{place}: "):
        for paragraph_place, paragraph in _objects(article, "paragraphs", f"{article_place}."):
            context = require_text(paragraph.get("context"), "the context", paragraph_place)
            for where, record in _objects(paragraph, "qas", f"{paragraph_place}."):
                answers = [
                    (answer.get("text"), answer.get("answer_start"))
                    for _, answer in (_objects(record, "answers", f"{where}.") if "answers" in record else ())
                ]
                if answers and record.get("is_impossible") is True:
                    raise DataError("is_impossible is true, but there are answers", where=where, fix=_FIX)
                yield _question(record, context, answers, where)


def _flat(record: dict[str, Any], where: str) -> Question:
    context = require_text(record.get("context"), "the context", where)
    answers = record.get("answers")
    if answers is None:
        answers = {"text": [], "answer_start": []}
    if not isinstance(answers, dict):
        raise DataError(
            f"'answers' should be an object, but is {name_kind(answers)}", where=where,
            fix='write {"text": ["..."], "answer_start": [0]}',
        )  # fmt: skip
    texts, starts = answers.get("text"), answers.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise DataError(
            "'answers' should hold two lists of one length, 'text' and 'answer_start'", where=where,
            fix='write {"text": ["..."], "answer_start": [0]}',
        )  # fmt: skip
    return _question(record, context, list(zip(texts, starts, strict=True)), where)


def _question(record: dict[str, Any], context: str, answers: list[tuple[Any, Any]], where: str) -> Question:
    number = record.get("id")
    if number is not None and (isinstance(number, bool) or not isinstance(number, str | int) or number == ""):
        raise DataError(f"an id should be a text, but is {short(number)}", where=where, fix=_FIX)
    name = where if number is None else str(number)
    question = require_text(record.get("question"), f"the question of {short(name)}", where)
    for text, start in answers:
        _require_answer(text, start, context, name, where)
    return Question(name, question, context, tuple(answers), where)


def _require_answer(text: Any, start: Any, context: str, name: str, where: str) -> None:
    require_text(text, f"an answer to the question {short(name)}", where)
    if type(start) is not int:
        raise DataError(
            f"answer_start of the question {short(name)} should be a whole number, but is {short(start)}", where=where,
            fix=_FIX,
        )  # fmt: skip
    if start >= 0 and context.startswith(text, start):
        return
    nearest = find_nearest(context, text, start)
    stands = short(context[start : start + len(text)]) if 0 <= start < len(context) else "nothing"
    hint = "it isn't in the context at all" if nearest is None else f"the nearest place where it is: {nearest}"
    raise DataError(
        f"the answer {short(text)} to the question {short(name)} isn't at character {start} of its context, where "
        f"{stands} stands; {hint}",
        where=where, fix=_FIX if nearest is None else f"set answer_start to {nearest}, or remove this question",
    )  # fmt: skip


def find_nearest(context: str, text: str, start: int) -> int | None:
    """Where the text occurs in the context nearest to a place; None when nowhere."""
    found = [match.start() for match in re.finditer(f"(?={re.escape(text)})", context)]
    return min(found, key=lambda position: (abs(position - start), position), default=None)


def _objects(record: dict[str, Any], name: str, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Path and item of each object in the list of this name."""
    if not isinstance(items := record.get(name), list):
        found = f"but is {name_kind(items)}" if name in record else "but isn't there"
        raise DataError(f"{name!r} should be a list, {found}", where=prefix.rstrip(".: "), fix=_SHAPE_FIX)
    for number, item in enumerate(items):
        where = f"{prefix}{name}[{number}]"
        if not isinstance(item, dict):
            raise DataError(f"an object was wanted, {name_kind(item)} was found", where=where, fix=_SHAPE_FIX)
        yield where, item
