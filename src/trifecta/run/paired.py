"""Sources with targets and conversations of a recipe, divided into training and validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trifecta.data.builtin_tasks import builtin_task
from trifecta.data.tasks import dialogues_of, read_pairs, read_prompts
from trifecta.recipe import components
from trifecta.recipe.schema import Recipe
from trifecta.run.divided import Divided
from trifecta.run.near_records import split_apart

TRANSLATE = "translate: "
"""What --task translate puts before a source."""


def divide_pairs(recipe: Recipe, builtin: str | None) -> Divided:
    """Pairs. Of dates, each source says what it asks for: what --task translate puts before it would say it twice.

    Raises:
        DataError: with the line: files that can't be used, or an empty side.
    """
    objective, data = recipe.objective, recipe.data
    assert isinstance(objective, components.Seq2Seq)
    if builtin is not None:
        made = builtin_task(builtin)
        found = {"prefix": ""} if builtin == "dates" and objective.prefix == TRANSLATE else {}
        return Divided(made.train, made.validation, found, made.notes)

    def read(paths: Sequence[str]) -> list[Any]:
        return read_pairs(paths, source_field=data.source_field, target_field=data.target_field)

    return _read_and_divided(recipe, read)


def divide_prompts(recipe: Recipe, builtin: str | None) -> Divided:
    """Dialogues; of pairs, the user says the source.

    Raises:
        DataError: with the line: files that can't be used, or an empty turn.
    """
    data = recipe.data
    if builtin is not None:
        made = builtin_task(builtin)
        return Divided(dialogues_of(made.train), dialogues_of(made.validation), {}, made.notes)

    def read(paths: Sequence[str]) -> list[Any]:
        return read_prompts(paths, source_field=data.source_field, target_field=data.target_field)

    return _read_and_divided(recipe, read)


def _read_and_divided(recipe: Recipe, read: Callable[[Sequence[str]], list[Any]]) -> Divided:
    records = read(recipe.data.paths)
    if recipe.data.validation_paths:
        return Divided(records, read(recipe.data.validation_paths))
    notes: list[str] = []
    train, validation = split_apart(recipe, records, notes)
    return Divided(train, validation, notes=notes)
