"""What a spike is, by the formula."""

from __future__ import annotations

import numpy as np
import pytest

from trifecta.training.spikes import Watch
from trifecta.training.state import Progress
from trifecta.training.step import UNLIMITED


def watched(values: list[tuple[float, float]], **how: float) -> tuple[Watch, Progress]:
    watch, progress = Watch(**{"window": 8, "sigma": 3.0} | how), Progress()  # type: ignore[arg-type]
    for loss, norm in values:
        watch.note(progress, loss, norm)
    return watch, progress


@pytest.mark.fast
def test_limits_are_mean_and_deviations_of_the_last_ones() -> None:
    """Of the last 8 of 20, as numpy has them with the sample's deviation, to 1e-12; NaN counts for nothing."""
    values = [(2 + np.sin(n), 1 + np.cos(3 * n)) for n in range(20)]
    watch, progress = watched([*values, (float("nan"), 1.0), (1.0, float("inf"))])
    limits = watch.limits(progress)
    for column, limit in enumerate((limits.loss, limits.grad_norm)):
        last = np.array(values)[-8:, column]
        assert limit == pytest.approx(last.mean() + 3 * last.std(ddof=1), abs=1e-12)
        assert abs(limit - (last.mean() + 3 * last.std(ddof=0))) > 1e-3, "the other deviation would be noticed"


@pytest.mark.fast
def test_nothing_is_a_spike_until_half_a_window_is_known() -> None:
    watch, progress = watched([(1.0, 1.0)] * 3)
    assert watch.limits(progress) == UNLIMITED
    watch.note(progress, 1.5, 1.0)
    assert watch.limits(progress) != UNLIMITED


@pytest.mark.fast
def test_a_change_that_lasts_is_soon_no_spike() -> None:
    watch, progress = watched([(1.0 + 0.01 * (n % 2), 1.0) for n in range(8)], sigma=6.0)
    seen = []
    for _ in range(8):
        seen.append(watch.limits(progress).loss >= 5.0)
        watch.note(progress, 5.0, 1.0)
    assert not seen[0]
    assert all(seen[2:])


@pytest.mark.fast
@pytest.mark.parametrize(("every", "step", "place"), [(10, 9, None), (10, 10, 10), (10, 39, 30), (None, 39, None)])
def test_the_place_to_go_back_to(every: int | None, step: int, place: int | None) -> None:
    assert Watch(8, 3.0, every).place_before(step) == place
