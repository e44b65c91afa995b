"""Keras' schedules value by value, against its formulas as its documentation writes them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from trifecta.optim import SCHEDULES, Span

pytestmark = pytest.mark.fast

NUMBERS = (1, 2, 3, 100, 999, 1000, 1001, 1002, 9_999, 10_000, 10_001, 10_002, 20_000, 20_001, 20_002, 29_999, 30_001,
           30_002, 49_999, 50_000, 50_001, 51_001, 60_000)  # fmt: skip
SHORT = Span(0, 5, 5)
"""A run far shorter than the schedules: they don't know of it."""


def exponential(step: int, initial: float, decay_steps: int, decay_rate: float, staircase: bool = False) -> float:
    exponent = step / decay_steps
    return initial * decay_rate ** (math.floor(exponent) if staircase else exponent)


def cosine(step: int, initial: float, decay_steps: int, alpha: float = 0.0, target: float | None = None,
           warmup_steps: int = 0) -> float:  # fmt: skip
    def decayed(step: int, rate: float) -> float:
        step = min(step, decay_steps)
        return rate * ((1 - alpha) * 0.5 * (1 + math.cos(math.pi * step / decay_steps)) + alpha)

    if target is None:
        return decayed(step, initial)
    if step < warmup_steps:
        return step / warmup_steps * (target - initial) + initial
    return decayed(step - warmup_steps, target)


def piecewise(step: int) -> float:
    for boundary, value in zip([10_000, 20_000, 30_000], [1e-4, 5e-5, 1e-5], strict=True):
        if step <= boundary:
            return value
    return 5e-6


PIECES = {"boundaries": [10_000, 20_000, 30_000], "factors": [1.0, 0.5, 0.1, 0.05]}
CASES: dict[str, tuple[float, str, dict[str, object], Callable[[int], float]]] = {
    "exponential": (2e-5, "exponential_decay", {"decay_steps": 10_000, "decay_rate": 0.96, "staircase": False},
                    lambda s: exponential(s, 2e-5, 10_000, 0.96)),
    "staircase": (1e-4, "exponential_decay", {"decay_steps": 10_000, "decay_rate": 0.96, "staircase": True},
                  lambda s: exponential(s, 1e-4, 10_000, 0.96, True)),
    "cosine": (1e-4, "cosine_decay", {"decay_steps": 50_000, "alpha": 0.0, "warmup_steps": 0, "start_ratio": 0.0},
               lambda s: cosine(s, 1e-4, 50_000)),
    "warm cosine": (1e-4, "cosine_decay",
                    {"decay_steps": 50_000, "alpha": 0.1, "warmup_steps": 1000, "start_ratio": 0.1},
                    lambda s: cosine(s, 1e-5, 50_000, 0.1, 1e-4, 1000)),
    "piecewise": (1e-4, "piecewise_constant_decay", PIECES, piecewise),
}  # fmt: skip


def assert_is_keras(case: str, shift: int = 0, span: Span = SHORT) -> None:
    peak, name, options, keras = CASES[case]
    factor = SCHEDULES[name](span, **options)
    for n in NUMBERS:
        assert peak * factor(n) == pytest.approx(keras(n - 1 + shift), rel=1e-12, abs=1e-18), n


@pytest.mark.parametrize("case", CASES)
def test_numeric_020_keras_values_at_every_update(case: str) -> None:
    """Schedules with Keras' names have Keras' values at step n - 1 for update n, to 1e-12, however long the run is."""
    assert_is_keras(case)
    assert_is_keras(case, span=Span(0, 1_000_000, 7))


@pytest.mark.parametrize("case", CASES)
def test_numeric_020_control_keras_off_by_one_is_noticed(case: str) -> None:
    """Counted from 1, or from 2, the values are others."""
    for shift in (1, -1):
        with pytest.raises((AssertionError, ValueError)):
            assert_is_keras(case, shift)


def test_the_first_updates_of_the_guides_objects() -> None:
    """No warm-up: the first update has the whole rate; the fall begins with the second."""
    rates = {case: [CASES[case][0] * SCHEDULES[CASES[case][1]](SHORT, **CASES[case][2])(n) for n in (1, 2)]
             for case in ("exponential", "cosine", "piecewise")}  # fmt: skip
    assert rates["exponential"] == pytest.approx([2e-5, 2e-5 * 0.96 ** (1 / 10_000)], rel=1e-15)
    assert rates["cosine"] == pytest.approx([1e-4, 1e-4 * 0.5 * (1 + math.cos(math.pi / 50_000))], rel=1e-15)
    assert rates["piecewise"] == [1e-4, 1e-4]
    piece = SCHEDULES["piecewise_constant_decay"](SHORT, **PIECES)
    assert [1e-4 * piece(n) for n in (10_001, 10_002, 20_001, 20_002, 30_001, 30_002)] == [
        1e-4, 5e-5, 5e-5, 1e-5, 1e-5, 5e-6,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["exponential_decay", "piecewise_constant_decay"])
def test_a_warm_up_that_is_asked_for_ends_at_the_peak(name: str) -> None:
    options = {"exponential_decay": {"decay_steps": 10, "decay_rate": 0.5, "staircase": False},
               "piecewise_constant_decay": {"boundaries": [3], "factors": [1.0, 0.5]}}[name]  # fmt: skip
    without, warm = SCHEDULES[name](Span(0, 100, 5), **options), SCHEDULES[name](Span(10, 100, 5), **options)
    assert [warm(n) for n in range(1, 11)] == pytest.approx([n / 10 for n in range(1, 11)])
    assert [warm(n + 9) for n in range(1, 30)] == [without(n) for n in range(1, 30)]
    one = SCHEDULES[name](Span(1, 100, 5), **options)
    assert [one(n) for n in range(1, 30)] == [without(n) for n in range(1, 30)]


def test_cosine_decays_warm_up_is_its_own() -> None:
    options = {"decay_steps": 10, "alpha": 0.0, "warmup_steps": 4, "start_ratio": 0.0}
    one, other = (SCHEDULES["cosine_decay"](Span(w, 100, 5), **options) for w in (0, 50))
    assert [one(n) for n in range(1, 6)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [one(n) for n in range(1, 40)] == [other(n) for n in range(1, 40)]
