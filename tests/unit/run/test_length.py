"""Keys that come after the end of a run are refused, each at its place; the others aren't."""

from __future__ import annotations

from typing import Any

import pytest

from trifecta.errors import RecipeError
from trifecta.recipe import collect
from trifecta.run.length import check_length

STEP = {"training.scheduler.type": "step", "training.scheduler.step_size": 3}
DECAY = {"training.scheduler.type": "exponential_decay", "training.scheduler.decay_steps": 50,
         "training.scheduler.decay_rate": 0.5, "training.scheduler.staircase": True}  # fmt: skip
PIECES = {"training.scheduler.type": "piecewise_constant_decay", "training.scheduler.boundaries": [40, 900],
          "training.scheduler.factors": [1.0, 0.5, 0.1]}  # fmt: skip
PATIENT = {"training.early_stopping_patience": 4, "training.evaluate_every_n_steps": 10}
WATCH = {"training.spikes.type": "rollback", "training.spikes.window": 60, "training.spikes.every_n_steps": 30}


def held(settings: dict[str, Any], total_steps: int) -> None:
    """Against a run of so many steps, ten to an epoch."""
    resolved = collect(preset="small", flags={key: ("settings", value) for key, value in settings.items()}).resolve()
    check_length(resolved.recipe, resolved, total_steps, 10)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("settings", "enough", "what"),
    [
        (STEP | {"training.warmup_steps": 1}, 31, "never changes the rate .* epochs.*step_size is 3"),
        (STEP | {"training.scheduler.gamma": 1.0}, None, "never changes the rate"),
        (DECAY, 51, "decay_steps is 50"),
        (DECAY | {"training.scheduler.decay_rate": 1.0}, None, "never changes the rate"),
        (PIECES | {"training.warmup_steps": 1}, 42, r"boundaries is \[40, 900\]"),
        (PATIENT, 41, "is 4, but the whole run has 4 validations"),
        (WATCH, 31, "looks for spikes after 30 updates .* and first has a place to go back to at step 30"),
        (WATCH | {"training.spikes.window": 20}, 31, "which first has a place to go back to at step 30, and the whole"),
        ({"training.max_nonfinite_steps": 20}, 20, "max_nonfinite_steps is 20, but the whole run has 19 steps"),
        ({"training.warmup_steps": 30}, 30, "warmup_steps is 30, but the whole run has 29 steps"),
    ],
)
def test_what_comes_after_the_end_is_refused(settings: dict[str, Any], enough: int | None, what: str) -> None:
    """One step fewer than are enough is refused; where no number is enough, a thousand are."""
    with pytest.raises(RecipeError, match=what) as caught:
        held(settings, 1000 if enough is None else enough - 1)
    assert caught.value.fix
    if enough is not None:
        held(settings, enough)


@pytest.mark.fast
@pytest.mark.parametrize(
    "settings",
    [
        {}, {"training.scheduler.type": "cosine"}, {"training.scheduler.type": "constant"},
        DECAY | {"training.scheduler.staircase": False}, {"training.early_stopping_patience": 4},
    ],
)  # fmt: skip
def test_nothing_else_is(settings: dict[str, Any]) -> None:
    held(settings, 12)
