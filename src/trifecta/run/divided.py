"""Tagged texts and questions of a recipe, divided into training and validation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trifecta.data.builtin_tasks import builtin_task
from trifecta.data.tasks import Question, Tagged, read_questions, read_tagged
from trifecta.data.tasks.labels import require_known
from trifecta.errors import DataError
from trifecta.recipe import components
from trifecta.recipe.schema import Recipe
from trifecta.run.near_records import split_apart


@dataclass(frozen=True)
class Divided:
    """Records for training and for validation, and what the data says about the objective (its classes, say)."""

    train: list[Any]
    validation: list[Any]
    found: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def divide_tagged(recipe: Recipe, builtin: str | None) -> Divided:
    """Tagged texts; found are the tags.

    Raises:
        DataError: with the line: files that can't be used, or a tag that isn't among the training data's.
    """
    objective, data, notes = recipe.objective, recipe.data, []
    assert isinstance(objective, components.Tag)
    known = list(objective.labels)
    if builtin is not None:
        made = builtin_task(builtin)
        train, validation, notes = made.train, made.validation, made.notes
        known = known or tags_of([*train, *validation])
    else:
        train = read_tagged(data.paths)
        known = known or tags_of(train)
        if data.validation_paths:
            validation = read_tagged(data.validation_paths)
        else:
            train, validation = split_apart(recipe, train, notes)
    require_known_tags([*train, *validation], known)
    return Divided(train, validation, {"labels": known}, notes)


def divide_questions(recipe: Recipe, builtin: str | None) -> Divided:
    """Questions, all of one context in the same part; found is whether some have no answer.

    Raises:
        DataError: with the place: files that can't be used; or all questions share one context.
    """
    data = recipe.data
    if builtin is not None:
        made = builtin_task(builtin)
        return Divided(made.train, made.validation, _found(made.train), made.notes)
    notes: list[str] = []
    train = read_questions(data.paths)
    if data.validation_paths:
        validation = read_questions(data.validation_paths)
    else:
        train, validation = _by_context(train, recipe, notes)
    return Divided(train, validation, _found(train), notes)


def tags_of(records: Iterable[Tagged]) -> list[str]:
    """O, then B- and I- of each kind of entity in the records, in alphabetical order."""
    kinds = sorted({tag[2:] for record in records for tag in record.tags if tag != "O"})
    return ["O", *(f"{position}-{kind}" for kind in kinds for position in "BI")]


def require_known_tags(records: Iterable[Tagged], known: Sequence[str]) -> None:
    """Refuses tags that aren't among the known ones.

    Raises:
        DataError: with the record's line, the known tags, and the nearest.
    """
    allowed = frozenset(known)
    for record in records:
        for tag in record.tags:
            if tag not in allowed:
                require_known(tag, known, record.place)


def _found(questions: list[Question]) -> dict[str, Any]:
    return {"no_answer": any(not question.answers for question in questions)}


def _by_context(questions: list[Question], recipe: Recipe, notes: list[str]) -> tuple[list[Question], list[Question]]:
    contexts = list(dict.fromkeys(question.context for question in questions))
    if len(contexts) < 2:
        raise DataError(
            "all questions have the same context, so none can be held out for validation",
            where=", ".join(recipe.data.paths), fix="give questions about other texts, or data.validation_paths",
        )  # fmt: skip
    held_out = set(split_apart(recipe, contexts, notes)[1])
    parts: tuple[list[Question], list[Question]] = ([], [])
    for question in questions:
        parts[question.context in held_out].append(question)
    return parts
