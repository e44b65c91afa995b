"""Near-duplicates are found, and nothing else is; groups never straddle a split."""

from __future__ import annotations

import random

import numpy as np
import pytest

from trifecta.data import near
from trifecta.data.near import count_leaks, near_groups, put_apart, rows_of_a_band, signature, signatures

pytestmark = pytest.mark.fast


def words(seed: int, count: int = 60) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices("abcdefgh", k=4)) for _ in range(count)]


def jaccard(one: str, other: str) -> float:
    def runs(text: str) -> set[tuple[str, ...]]:
        found = text.lower().split()
        return {tuple(found[n : n + 5]) for n in range(max(1, len(found) - 4))}

    return len(runs(one) & runs(other)) / len(runs(one) | runs(other))


@pytest.mark.parametrize("changed", [1, 10, 30, 55])
def test_the_estimate_is_near_the_truth(changed: int) -> None:
    one = words(1)
    other = [*one[: len(one) - changed], *words(2, changed)]
    estimate = (signature(" ".join(one)) == signature(" ".join(other))).mean()
    assert abs(estimate - jaccard(" ".join(one), " ".join(other))) < 0.13  # three standard deviations of 128 draws


def test_capitals_and_punctuation_do_not_count() -> None:
    assert (signature("One two, three four five six") == signature("one TWO three. four; five six!")).all()
    assert not (signature("one two") == signature("two one")).any()
    assert (signature("?!") == signature("?!")).all()
    assert not (signature("?!") == signature("...")).all()


def test_groups() -> None:
    texts = [" ".join(words(n)) for n in range(20)]
    texts += [" ".join([*words(n)[:-2], "end", "here"]) for n in range(0, 20, 2)]  # 54 of 58 runs: 0.93
    texts += [texts[1], "short", "short", "other"]
    firsts = near_groups(signatures(texts), 0.8)
    assert firsts[:20].tolist() == list(range(20))
    assert firsts[20:30].tolist() == list(range(0, 20, 2))
    assert firsts[30:].tolist() == [1, 31, 31, 33]
    assert near_groups(signatures([]), 0.8).tolist() == []


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.8, 0.95, 1.0])
def test_bands_let_almost_no_near_pair_pass(threshold: float) -> None:
    rows = rows_of_a_band(threshold)
    assert 128 % rows == 0
    assert (1 - threshold**rows) ** (128 // rows) <= 2e-3
    texts = [" ".join(words(n)) for n in range(30)]
    near_ones = [f"{text} {text}" for text in texts] if threshold == 1 else texts
    firsts = near_groups(signatures([*texts, *(near_ones if threshold < 1 else texts)]), threshold)
    assert firsts[30:].tolist() == list(range(30))


def test_a_group_goes_where_its_first_text_is() -> None:
    held = np.array([True, False, False, True, True])
    firsts = np.array([0, 1, 0, 1, 4])
    apart = put_apart(held, firsts)
    assert apart.validation.tolist() == [True, False, True, False, True]
    assert (apart.groups, apart.texts, apart.leaks) == (2, 4, 2)
    assert count_leaks(apart.validation, firsts) == 0
    assert count_leaks(held, firsts) == 2


def test_the_signature_of_a_text_never_changes() -> None:
    """Splits of runs on disk follow from it: another value needs another near.VERSION."""
    found = signature("It was the best of times, it was the worst of times")
    assert near.VERSION == 1
    assert found[:3].tolist() == [71188480, 818404459, 4328121]
