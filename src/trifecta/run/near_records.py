"""Labelled records divided so that near-duplicates stand on one side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from trifecta.data.near import apart_note, count_leaks, leak_note, near_groups, put_apart, signatures
from trifecta.data.tasks import Dialogue, LabelledSet, Pair, Question, Tagged, split_records
from trifecta.errors import DataError
from trifecta.recipe.schema import Recipe


@overload
def split_apart(recipe: Recipe, records: LabelledSet, notes: list[str]) -> tuple[LabelledSet, LabelledSet]: ...
@overload
def split_apart(recipe: Recipe, records: Sequence[Any], notes: list[str]) -> tuple[list[Any], list[Any]]: ...
def split_apart(recipe: Recipe, records: Any, notes: list[str]) -> Any:
    """As `split_records`; with data.near_duplicates no group of near ones is divided, which a note tells.

    Raises:
        DataError: too few records, or too few that differ.
    """
    threshold, share, seed = recipe.data.near_duplicates, recipe.training.validation_split, recipe.training.seed
    parts = split_records(records, share, seed)
    if threshold is None:
        return parts
    if isinstance(records, LabelledSet):
        classes = [str(record.label) for record in records.records] if records.kind == "single" else None
        train, validation = _apart(records.records, parts[1].records, threshold, notes, classes)
        return replace(records, records=train), replace(records, records=validation)
    return _apart(records, parts[1], threshold, notes, None)


def note_leaks(recipe: Recipe, train: Sequence[Any], validation: Sequence[Any], notes: list[str]) -> None:
    """Tells how much of validation data that is given is nearly trained on."""
    threshold = recipe.data.near_duplicates
    if threshold is None:
        return
    firsts = near_groups(signatures(map(compared, [*train, *validation])), threshold)
    held_out = np.arange(len(firsts)) >= len(train)
    notes.append(leak_note(count_leaks(held_out, firsts), len(validation), "records", threshold))


def compared(record: Any) -> str:
    """The text by which two records are near: what is read, not what is to be learned."""
    if isinstance(record, str):
        return record
    if isinstance(record, Dialogue):
        return "\n".join(content for _, content in record.turns)
    if isinstance(record, Question):
        return record.context
    if isinstance(record, Pair):
        return record.source
    return record.text if isinstance(record, Tagged) or record.pair is None else f"{record.text}\n{record.pair}"


def _apart(
    records: Sequence[Any], held_out: Sequence[Any], threshold: float, notes: list[str], classes: list[str] | None
) -> tuple[list[Any], list[Any]]:
    chosen = {id(record) for record in held_out}
    firsts = near_groups(signatures(map(compared, records)), threshold)
    apart = put_apart(np.array([id(record) in chosen for record in records]), firsts)
    validation = apart.validation
    if classes is not None:
        _keep_classes(validation, firsts, classes)
    if validation.all() or not validation.any():
        raise DataError(
            f"of {len(records):,} records {len(set(firsts.tolist())):,} differ by data.near_duplicates {threshold:g}, "
            "too few to divide them into training and validation",
            fix="raise data.near_duplicates or training.validation_split, or give data for validation of its own",
        )  # fmt: skip
    notes.append(apart_note(apart, "records", threshold))
    parts: tuple[list[Any], list[Any]] = ([], [])
    for record, held in zip(records, validation.tolist(), strict=True):
        parts[held].append(record)
    return parts


def _keep_classes(validation: npt.NDArray[np.bool_], firsts: npt.NDArray[np.int64], classes: list[str]) -> None:
    """A class that only validation would have left goes to training, with the whole group of its first record."""
    for name in sorted(set(classes)):
        places = [number for number, other in enumerate(classes) if other == name]
        if validation[places].all():
            validation[firsts == firsts[places[0]]] = False
