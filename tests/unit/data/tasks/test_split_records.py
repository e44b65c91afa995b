"""The split of labelled records."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trifecta.data.tasks import Labelled, LabelledSet, split, split_records
from trifecta.errors import DataError

pytestmark = pytest.mark.fast


def labelled(labels: list[str]) -> LabelledSet:
    records = [Labelled(f"text {n}", None, label, f"f:{n}") for n, label in enumerate(labels)]
    return LabelledSet(records, "single", tuple(sorted(set(labels))))


def check_classes(labels: list[str], share: float) -> None:
    whole = labelled(labels)
    train, validation = split_records(whole, share, 1)
    assert sorted(train.records + validation.records, key=whole.records.index) == whole.records
    for part in (train, validation):
        assert part.labels == whole.labels
        assert part.records == [record for record in whole.records if record in part.records]
    held_out, sizes = Counter(r.label for r in validation.records), Counter(labels)
    for label, size in sizes.items():
        assert held_out[label] == 0 if size == 1 else 1 <= held_out[label] < size
        assert abs(held_out[label] - size * share) <= 1


def test_every_class_is_in_both_parts() -> None:
    check_classes(["rare", *["common"] * 90, "few", "few", *["some"] * 7], 0.1)
    check_classes(["a", "b"] * 50, 0.25)
    check_classes(["a"] * 3 + ["b"] * 2, 0.9)


def test_control_a_split_without_classes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain split leaves a rare class out of one part, and fails the test."""
    plain = split_records

    def unstratified(records: LabelledSet, share: float, seed: int) -> tuple[LabelledSet, LabelledSet]:
        parts = plain(records.records, share, seed)
        return tuple(LabelledSet(part, records.kind, records.labels) for part in parts)  # type: ignore[return-value]

    monkeypatch.setitem(globals(), "split_records", unstratified)
    with pytest.raises(AssertionError):
        test_every_class_is_in_both_parts()


def test_what_rounding_leaves_goes_where_most_is_lacking() -> None:
    assert split.held_out_counts([11, 19], Fraction("0.1")) == [1, 2]
    assert split.held_out_counts([19, 11, 1, 2], Fraction("0.1")) == [1, 1, 0, 1]
    assert split.held_out_counts([5] * 4, Fraction("0.3")) == [2, 2, 1, 1]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.fractions(Fraction(1, 50), Fraction(49, 50)))
def test_counts(sizes: list[int], share: Fraction) -> None:
    counts = split.held_out_counts(sizes, share)
    for count, size in zip(counts, sizes, strict=True):
        assert count == 0 if size == 1 else 1 <= count < size
        assert abs(count - size * share) <= 1
    if all(size * share >= 1 and size * (1 - share) >= 1 for size in sizes):
        assert sum(counts) == round(sum(sizes) * share)


def test_records_of_other_kinds() -> None:
    records = [f"record {n}" for n in range(1000)]
    train, validation = split_records(records, 0.1, 7)
    assert (len(train), len(validation)) == (900, 100)
    assert sorted(train + validation) == sorted(records)
    assert train == [record for record in records if record in set(train)]
    assert split_records(records, 0.1, 7) == (train, validation)
    assert len(set(validation) & set(split_records(records, 0.1, 8)[1])) < 30
    by_digit = split_records(records, 0.1, 7, key=lambda record: record[-1])[1]
    assert Counter(record[-1] for record in by_digit) == dict.fromkeys("0123456789", 10)
    assert split_records([1, 2], 0.01, 0)[1] in ([1], [2])
    several = LabelledSet([Labelled("a", None, ("x",), "f:1"), Labelled("b", None, (), "f:2")], "multi", ("x",))
    assert len(split_records(several, 0.5, 0)[1].records) == 1


def test_the_split_stays_as_it_is() -> None:
    """A run that goes on later must find the same parts."""
    assert split_records(list(range(20)), 0.25, 42)[1] == [3, 9, 12, 14, 15]


def test_too_few() -> None:
    for records in ([], [1]):
        with pytest.raises(DataError, match="can't be divided"):
            split_records(records, 0.5, 0)
    with pytest.raises(DataError, match="no class has two"):
        split_records(labelled(["a", "b"]), 0.5, 0)
