"""Sampling: exact support, frequencies, the limit of temperature, penalties, bounds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from trifecta.errors import NumericsError, RecipeError
from trifecta.inference.sampling import Sampling
from trifecta.randomness import torch_generator

PROBABILITIES = torch.tensor([0.02, 0.40, 0.03, 0.25, 0.10, 0.15, 0.05])
LOGITS = PROBABILITIES.log()
BY_SIZE = [1, 3, 5, 4, 6, 2, 0]
DRAWS = 4000


def draws(sampling: Sampling, logits: Tensor = LOGITS, count: int = DRAWS, context: tuple[int, ...] = ()) -> Tensor:
    generator = torch_generator(7, "test")
    drawn = [sampling.choose(logits, context, generator) for _ in range(count)]
    return torch.bincount(torch.tensor(drawn), minlength=len(logits))


def p_value(counts: Tensor, probabilities: Tensor) -> float:
    """Probability of so large a chi-square statistic or a larger one."""
    support = probabilities > 0
    expected = probabilities[support] / probabilities.sum() * counts.sum()
    statistic = ((counts[support] - expected).square() / expected).sum()
    half_freedom = torch.tensor((int(support.sum()) - 1) / 2)
    return float(torch.special.gammaincc(half_freedom, statistic / 2))


@pytest.mark.parametrize("k", [1, 2, 5, 7, 100])
def test_numeric_039_top_k_support_is_exact(k: int) -> None:
    """Of 4,000 draws with top-k, the tokens drawn are exactly the k likeliest."""
    assert set(draws(Sampling(top_k=k)).nonzero().flatten().tolist()) == set(BY_SIZE[:k])


@pytest.mark.parametrize(("p", "kept"), [(0.01, 1), (0.39, 1), (0.41, 2), (0.64, 2), (0.66, 3), (0.91, 5), (1.0, 7)])
def test_numeric_039_top_p_support_is_the_smallest_set(p: float, kept: int) -> None:
    """Of 4,000 draws with top-p, the tokens drawn are exactly the smallest set whose probability reaches p."""
    assert set(draws(Sampling(top_p=p)).nonzero().flatten().tolist()) == set(BY_SIZE[:kept])


def test_numeric_039_both_filters_and_equal_scores() -> None:
    """Top-k and top-p together draw exactly the tokens that pass both; of nine equal scores top-k 3 leaves exactly
    three."""
    assert set(draws(Sampling(top_k=3, top_p=0.7)).nonzero().flatten().tolist()) == {1, 3}
    assert len(draws(Sampling(top_k=3), torch.zeros(9)).nonzero()) == 3


def test_numeric_039_control_support_of_a_threshold_with_ties() -> None:
    """Keeping every score that reaches the k-th, as many libraries do, keeps all nine equal ones."""
    scores = torch.zeros(9)
    assert int((scores >= scores.topk(3).values[-1]).sum()) != 3


@pytest.mark.fast
@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), PROBABILITIES),
        (Sampling(temperature=0.5), PROBABILITIES**2),
        (Sampling(temperature=2.0), PROBABILITIES.sqrt()),
        (Sampling(top_k=3), torch.tensor([0, 0.40, 0, 0.25, 0, 0.15, 0])),
        (Sampling(top_p=0.6), torch.tensor([0, 0.40, 0, 0.25, 0, 0, 0])),
    ],
)
def test_numeric_039_frequencies(sampling: Sampling, expected: Tensor) -> None:
    """Frequencies of 4,000 draws with temperature, top-k and top-p fit the probabilities (chi-square, p > 0.001)."""
    assert p_value(draws(sampling), expected) > 0.001


def test_numeric_039_control_temperature_upside_down() -> None:
    """A temperature turned upside down doesn't fit the frequencies."""
    assert p_value(draws(Sampling(temperature=2.0)), PROBABILITIES**2) < 0.001


def test_numeric_039_temperature_to_zero_is_argmax() -> None:
    """At temperature 0, and at 1e-4 and 1e-320, the likeliest token is chosen, in 50 of 50 random cases."""
    generator = torch.Generator().manual_seed(0)
    for row in torch.randn(50, 30, generator=generator):
        best = int(row.argmax())
        assert Sampling(temperature=0).choose(row, (), generator) == best
        assert Sampling(temperature=1e-4).choose(row, (), generator) == best
        assert Sampling(temperature=1e-320).choose(row, (), generator) == best


def test_repetition_penalty_divides_positive_and_multiplies_negative() -> None:
    logits = torch.tensor([2.0, -1.0, 1.0, 0.5])
    penalised = torch.tensor([1.0, -2.0, 1.0, 0.5]).softmax(0)
    counts = draws(Sampling(repetition_penalty=2.0), logits, context=(0, 1, 1, 0))
    assert p_value(counts, penalised) > 0.001
    assert Sampling(temperature=0, repetition_penalty=2.5).choose(logits, (0,), torch.Generator()) == 2
    assert logits[0] == 2


def test_forbidden_tokens_are_never_drawn() -> None:
    counts = draws(Sampling(temperature=5.0), torch.tensor([0.0, -math.inf, 0.0, -math.inf]))
    assert counts[[1, 3]].sum() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_numbers(bad: float) -> None:
    with pytest.raises(NumericsError, match="score of token 1"):
        Sampling().choose(torch.tensor([0.0, bad, 1.0]), (), torch.Generator())


@pytest.mark.fast
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("temperature", value) for value in (-0.1, math.nan, math.inf)),
        *(("top_k", value) for value in (0, -1, 2.5)),
        *(("top_p", value) for value in (0.0, -0.5, 1.1, math.nan)),
        *(("repetition_penalty", value) for value in (0.0, -1.0, math.nan, math.inf)),
    ],
)
def test_fault_063_arguments_out_of_bounds(argument: str, value: Any) -> None:
    """Temperatures, top-k, top-p and repetition penalties out of bounds are refused as recipe errors that name the
    argument and its bounds."""
    with pytest.raises(RecipeError, match=rf"{argument} is {value}, but must be"):
        Sampling(**{argument: value})
