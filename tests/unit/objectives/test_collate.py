"""Rows that several examples share: what fits, what is in them, and how much of them is padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from objectives import objective

from trifecta.objectives import collate
from trifecta.objectives.collate import arrays_of, pack, packed
from trifecta.types import IGNORE, Example

pytestmark = pytest.mark.fast
Pack = Callable[[Sequence[Sequence[int]], Sequence[int]], list[list[int]]]

LIMITS = (50, 20)
LENGTHS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), min_size=1, max_size=40)


def check_rows(lengths: Sequence[Sequence[int]], rows: list[list[int]]) -> None:
    assert sorted(example for row in rows for example in row) == list(range(len(lengths))), "every example once"
    for row in rows:
        for side, limit in enumerate(LIMITS):
            assert sum(lengths[example][side] for example in row) <= limit, "no row longer than the limits"


@given(LENGTHS)
def test_rows_hold_every_example_once_and_keep_the_limits(lengths: list[tuple[int, int]]) -> None:
    check_rows(lengths, pack(lengths, LIMITS))
    check_rows(lengths, collate._least_area(lengths, LIMITS))


def all_in_one(lengths: Sequence[Sequence[int]], limits: Sequence[int]) -> list[list[int]]:
    del limits
    return [list(range(len(lengths)))]


def one_side_only(lengths: Sequence[Sequence[int]], limits: Sequence[int]) -> list[list[int]]:
    return pack([length[:1] for length in lengths], limits[:1])


def one_forgotten(lengths: Sequence[Sequence[int]], limits: Sequence[int]) -> list[list[int]]:
    return pack(lengths[1:], limits)


@pytest.mark.parametrize("bug", [all_in_one, one_side_only, one_forgotten])
def test_rows_control(bug: Pack) -> None:
    lengths = [(10, 15), (10, 15), (30, 2), (3, 1)]
    check_rows(lengths, pack(lengths, LIMITS))
    with pytest.raises(AssertionError):
        check_rows(lengths, bug(lengths, LIMITS))


def test_an_example_longer_than_the_limit_has_a_row_of_its_own() -> None:
    assert sorted(map(sorted, pack([(70,), (5,), (45,)], (50,)))) == [[0], [1, 2]]


def examples(count: int, longest: int) -> list[Example]:
    """Ragged examples of two sides, whose tokens tell whose they are and where they stand."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(1, count + 1):
        T, U = rng.integers(1, longest + 1), rng.integers(1, longest // 4 + 1)
        made.append(
            arrays_of(
                tokens=number * 1000 + np.arange(T),
                decoder_tokens=number * 1000 + 500 + np.arange(U),
                targets=number * 1000 + 501 + np.arange(U),
            )
        )
    return made


SIDES = {"BT": {"tokens": 0}, "BU": {"decoder_tokens": 0, "targets": IGNORE}}


def check_contents(given_: list[Example], out: dict[str, Any]) -> None:
    """Each example is in one row, whole, with its number on both sides and its positions from 0."""
    found = 0
    for row in range(len(out["tokens_BT"])):
        numbers = sorted(set(out["segments_BT"][row].tolist()) - {0})
        assert (
            numbers == list(range(1, len(numbers) + 1)) == sorted(set(out["decoder_segments_BU"][row].tolist()) - {0})
        )
        for number in numbers:
            here, there = out["segments_BT"][row] == number, out["decoder_segments_BU"][row] == number
            tokens, written = out["tokens_BT"][row][here].tolist(), out["decoder_tokens_BU"][row][there].tolist()
            example = given_[tokens[0] // 1000 - 1].arrays
            assert tokens == example["tokens"].tolist()
            assert written == example["decoder_tokens"].tolist(), "both sides of an example share a row and a number"
            assert out["targets_BU"][row][there].tolist() == example["targets"].tolist()
            assert out["positions_BT"][row][here].tolist() == list(range(len(tokens)))
            assert out["decoder_positions_BU"][row][there].tolist() == list(range(len(written)))
            found += 1
        assert (out["tokens_BT"][row][out["segments_BT"][row] == 0] == 0).all()
        assert (out["targets_BU"][row][out["decoder_segments_BU"][row] == 0] == IGNORE).all()
    assert found == len(given_)


def test_rows_keep_both_sides_of_an_example_together() -> None:
    given_ = examples(30, 64)
    check_contents(given_, packed(given_, SIDES, {"BT": 64, "BU": 24}))


def test_rows_control_sides_in_another_order_are_noticed() -> None:
    given_ = examples(30, 64)
    out = packed(given_, SIDES, {"BT": 64, "BU": 24})
    assert int(out["segments_BT"].max()) >= 2, "several in a row"
    segments = out["decoder_segments_BU"]
    swapped = segments.clone()
    swapped[segments == 1], swapped[segments == 2] = 2, 1
    with pytest.raises(AssertionError):
        check_contents(given_, out | {"decoder_segments_BU": swapped})


def test_equal_examples_stay_rows_without_segments() -> None:
    alike = [arrays_of(tokens=np.arange(60) + 100 * n) for n in range(4)]
    out = packed(alike, {"BT": {"tokens": 0}}, {"BT": 64})
    assert set(out) == {"tokens_BT"}
    assert out["tokens_BT"].tolist() == [example.arrays["tokens"].tolist() for example in alike]


BOUND = 0.1
"""Largest share of padding in batches of 64 examples whose lengths are spread evenly from 1 to 128 tokens."""


def padding_share(name: str, size: int = 64) -> float:
    """Mean share of padding over ten batches."""
    rng, made = np.random.default_rng(0), objective(name, 128, documents=True)
    computed = kept = 0
    for _ in range(10):
        given_ = [made.prepare(rng.integers(0, 256, rng.integers(1, 127))) for _ in range(size)]
        batch = made.collate([made.corrupt(example, rng) for example in given_])
        computed, kept = computed + batch.positions, kept + batch.tokens
    return 1 - kept / computed


@pytest.mark.parametrize("name", ["causal", "masked", "span"])
def test_little_is_padding(name: str) -> None:
    assert padding_share(name) < BOUND


@pytest.mark.parametrize("name", ["causal", "masked", "span"])
def test_little_is_padding_control_one_example_a_row_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collate, "pack", lambda lengths, limits: [[i] for i in range(len(lengths))] if limits else [])
    assert padding_share(name) > 0.3
