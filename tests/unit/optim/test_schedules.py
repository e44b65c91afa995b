"""Schedules against their closed forms, written out here a second time."""

from __future__ import annotations

import math

import pytest

from trifecta.optim import SCHEDULES, Span

W, T, E = 100, 1000, 50
OPTIONS = {
    "constant": {},
    "linear": {"min_lr_ratio": 0.01},
    "cosine": {"min_lr_ratio": 0.1},
    "step": {"step_size": 3, "gamma": 0.5},
    "exponential": {"decay_steps": 300, "decay_rate": 0.96, "staircase": False},
    "piecewise": {"boundaries": [200, 600], "factors": [1.0, 0.5, 0.05]},
    "inverse_sqrt": {},
    "one_cycle": {"rise_ratio": 0.3, "start_ratio": 0.04, "end_ratio": 4e-6},
    "wsd": {"min_lr_ratio": 0.0, "decay_ratio": 0.2},
}
CLOSED = {
    "constant": lambda _: 1.0,
    "linear": lambda n: 1 - 0.99 * (n - 100) / 900,
    "cosine": lambda n: 0.55 + 0.45 * math.cos(math.pi * (n - 100) / 900),
    "step": lambda n: 0.5 ** ((n - 1) // 150),
    "exponential": lambda n: 0.96 ** ((n - 100) / 300),
    "piecewise": lambda n: 1.0 if n <= 200 else 0.5 if n <= 600 else 0.05,
    "inverse_sqrt": lambda n: (100 / n) ** 0.5,
    "wsd": lambda n: 1.0 if n <= 800 else (1000 - n) / 200,
}


@pytest.mark.fast
@pytest.mark.parametrize("name", CLOSED)
def test_numeric_020_schedule_equals_closed_form(name: str) -> None:
    """Every schedule equals its formula to 1e-12 in warm-up, at its corners and at its end, and stays there."""
    factor = SCHEDULES[name](Span(W, T, E), **OPTIONS[name])
    for n in (1, 2, 50, W - 1):
        assert factor(n) == pytest.approx(n / W, abs=1e-12)
    for n in (W, W + 1, 200, 201, 500, 600, 601, 800, 801, 900, T - 1, T):
        assert factor(n) == pytest.approx(CLOSED[name](n), abs=1e-12), n
    assert factor(T + 100) == factor(T)


@pytest.mark.fast
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (0, 7), (1, 2), (10, 10), (100, 1000)])
def test_numeric_020_schedule_starts_above_zero_and_never_rises_after_its_end(
    name: str, warmup: int, total: int
) -> None:
    """The first learning rate is above 0 (but for wsd over a single step), all are at most the peak, and none changes
    after the end."""
    factor = SCHEDULES[name](Span(warmup, total, 5), **OPTIONS[name])
    assert factor(1) > 0 or (name == "wsd" and total == 1)
    assert all(0 <= factor(n) <= 1 for n in range(1, total + 1))
    tail = [factor(n) for n in (total, total + 1, total + 100, 10 * total)]
    assert tail == [tail[0]] * 4


@pytest.mark.fast
def test_numeric_020_control_a_cosine_that_climbs_back_is_noticed() -> None:
    """A cosine without an end climbs back to the peak."""

    def seed_documents_cosine(n: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * (n - W) / (T - W)))

    assert seed_documents_cosine(T + 900) == pytest.approx(1.0), "the seed's own formula climbs back to the peak"
    assert SCHEDULES["cosine"](Span(W, T, E), min_lr_ratio=0.0)(T + 900) == pytest.approx(0.0, abs=1e-12)


def test_group_017_learning_rates_of_the_worked_example() -> None:
    factor = SCHEDULES["cosine"](Span(100, 1000, 485), min_lr_ratio=0.0)
    assert [3e-4 * factor(n) for n in (50, 500, 900)] == pytest.approx([1.5e-4, 1.7605e-4, 9.046e-6], rel=1e-4)
    assert 3e-4 * factor(150) == pytest.approx(2.977e-4, rel=1e-4)


def test_one_cycle_rises_to_one_and_falls() -> None:
    factor = SCHEDULES["one_cycle"](Span(0, 100, 10), **OPTIONS["one_cycle"])
    values = [factor(n) for n in range(1, 101)]
    assert values[0] == pytest.approx(0.04)
    assert values[29] == pytest.approx(1.0)
    assert values[99] == pytest.approx(4e-6)
    assert values[:30] == sorted(values[:30])
    assert values[29:] == sorted(values[29:], reverse=True)


def test_group_009_keras_exponential_decay_of_the_seed() -> None:
    factor = SCHEDULES["exponential"](Span(0, 100_000, 100), decay_steps=10_000, decay_rate=0.96, staircase=False)
    assert 2e-5 * factor(10_000) == pytest.approx(2e-5 * 0.96)


def test_group_009_piecewise_of_the_seed() -> None:
    factors = [1.0, 0.5, 0.1, 0.05]
    factor = SCHEDULES["piecewise"](Span(0, 40_000, 100), boundaries=[10_000, 20_000, 30_000], factors=factors)
    rates = [1e-4 * factor(n) for n in (1, 10_000, 10_001, 20_001, 30_001, 90_000)]
    assert rates == pytest.approx([1e-4, 1e-4, 5e-5, 1e-5, 5e-6, 5e-6])
