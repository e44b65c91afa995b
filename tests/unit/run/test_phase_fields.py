"""Every field of a phase acts: `training.phases` is one key to the test of every key, and has these below it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from every_key import GPT
from observed import Observed, differences, observe
from runs import write_text

from trifecta.recipe.components import Phase
from trifecta.recipe.schema import Recipe
from trifecta.run import build

_OF_WHOLE_RUNS = ("training.max_steps", "training.evaluate_every_n_steps")
BASE: dict[str, Any] = {key: value for key, value in GPT.items() if key not in _OF_WHOLE_RUNS} | {
    "tracking.sample.every_n_epochs": None, "training.batch_size": 3,
}  # fmt: skip
SECOND: dict[str, Any] = {"steps": 2}
ROWS: dict[str, tuple[dict[str, Any], Any]] = {
    "epochs": ({"epochs": 1}, 2),
    "steps": ({"steps": 2}, 3),
    "sequence_length": ({"steps": 2}, 8),
    "batch_size": ({"steps": 2}, 2),
    "gradient_accumulation_steps": ({"steps": 2}, 2),
}
"""Field -> the first phase as it is, and another value of the field."""

Observes = Callable[[dict[str, Any]], Observed]


@pytest.fixture
def observes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Observes:
    """What a run does whose first phase is this, and whose second is SECOND."""
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt", words=60)

    def observes(first: dict[str, Any]) -> Observed:
        out = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        seen = observe(BASE | {"training.phases": [first, SECOND]}, out, monkeypatch)
        assert seen["error"] is None
        return seen

    return observes


@pytest.mark.fast
def test_every_field_of_a_phase_has_a_row() -> None:
    assert set(ROWS) == set(Phase.model_fields)


@pytest.mark.parametrize("field", ROWS)
def test_every_field_of_a_phase_changes_the_data_and_the_updates(field: str, observes: Observes) -> None:
    first, value = ROWS[field]
    found = differences(observes(first), observes(first | {field: value}))
    assert {"data", "update"} <= found


@pytest.mark.parametrize("field", ROWS)
def test_control_a_field_that_nothing_reads_is_noticed(
    field: str, observes: Observes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the field as it was where the run divides itself into phases, nothing differs."""
    first, value = ROWS[field]
    plain, deaf = observes(first), build.phases_of

    def phases_of(recipe: Recipe) -> list[Recipe]:
        phases = [Phase(**first), Phase(**SECOND)]
        return deaf(recipe.model_copy(update={"training": recipe.training.model_copy(update={"phases": phases})}))

    monkeypatch.setattr(build, "phases_of", phases_of)
    assert differences(plain, observes(first | {field: value})) == set()
