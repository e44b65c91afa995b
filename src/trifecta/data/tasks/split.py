"""Which labelled records are for training and which for validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, TypeVar, overload

import numpy as np

from trifecta.data.tasks.labelled import LabelledSet
from trifecta.errors import DataError
from trifecta.randomness import key as random_key
from trifecta.randomness import permute

R = TypeVar("R")


@overload
def split_records(
    records: LabelledSet, share: float, seed: int, key: None = None
) -> tuple[LabelledSet, LabelledSet]: ...
@overload
def split_records(
    records: Sequence[R], share: float, seed: int, key: Callable[[R], str] | None = None
) -> tuple[list[R], list[R]]: ...
def split_records(
    records: LabelledSet | Sequence[Any], share: float, seed: int, key: Callable[[Any], str] | None = None
) -> tuple[Any, Any]:
    """Training and validation part, each in the order of the records, chosen by the seed.

    Args:
        records: of a LabelledSet with one class for each record, every class is divided, as far as that goes.
        share: of validation, between 0 and 1; taken as the decimal that the user wrote.
        key: class of a record, to divide other records by.

    Raises:
        DataError: fewer than two records, or no class with two.
    """
    if isinstance(records, LabelledSet):
        by_label = (lambda record: str(record.label)) if records.kind == "single" else None
        train, validation = split_records(records.records, share, seed, by_label)
        return replace(records, records=train), replace(records, records=validation)
    groups: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        groups.setdefault(key(record) if key else "", []).append(number)
    names = sorted(groups)
    counts = held_out_counts([len(groups[name]) for name in names], Fraction(str(share)))
    if not sum(counts):
        raise DataError(
            f"{len(records)} records can't be divided: no class has two" if key else
            f"{len(records)} records can't be divided into training and validation",
            fix="give more records, or data for validation of its own",
        )  # fmt: skip
    held_out = {
        groups[name][place]
        for index, (name, count) in enumerate(zip(names, counts, strict=True))
        for place in _chosen(len(groups[name]), count, random_key(seed, "split records", index))
    }
    parts: tuple[list[Any], list[Any]] = ([], [])
    for number, record in enumerate(records):
        parts[number in held_out].append(record)
    return parts


def held_out_counts(sizes: Sequence[int], share: Fraction) -> list[int]:
    """How many of each group are held out: their share, rounded so that the sum is right (largest remainders).

    A group of two or more keeps at least one in either part, and one of one is for training; that goes first.
    """
    assert 0 < share < 1, share
    wanted = [size * share for size in sizes]
    counts = [min(max(1, int(exact)), size - 1) if size > 1 else 0 for exact, size in zip(wanted, sizes, strict=True)]
    lacking = round(sum(sizes) * share) - sum(counts)
    by_remainder = sorted(range(len(sizes)), key=lambda group: counts[group] - wanted[group])
    for group in by_remainder:
        if lacking > 0 and counts[group] < wanted[group] and counts[group] < sizes[group] - 1:
            counts[group] += 1
            lacking -= 1
    return counts


def _chosen(size: int, count: int, permutation_key: int) -> list[int]:
    """`count` of range(size)."""
    return [int(place) for place in permute(np.arange(count), size, permutation_key)]
