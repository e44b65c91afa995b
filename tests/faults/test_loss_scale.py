"""The loss scale of fp16 is part of a run's progress: killed anywhere, the same bytes and the same scales.

fp16 trains on GPUs alone; here its scaler is planted in a run of fp32 that overflows as fp16 would.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from runs import SHORT, Killed, final_bytes, losses, same, train_here

from trifecta.execution.precision import LossScaler
from trifecta.training import checkpoint

SETTINGS = SHORT | {"execution.precision": "fp32", "training.evaluate_every_n_steps": None, "training.save_best": False,
                    "training.early_stopping_patience": None, "training.gradient_accumulation_steps": 1}  # fmt: skip
LARGEST, KILLED_AT, SAVED_AT = 4096.0, 14, 12


@pytest.fixture(autouse=True)
def scales(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """Plants a scaler that grows after 3 good steps, and gradients that are infinite above a scale of 4096; the scale
    and the good steps after each step."""
    found: list[tuple[float, int]] = []
    current: list[LossScaler] = []

    class Noting(LossScaler):
        def update(self, finite: bool) -> None:
            super().update(finite)
            found.append((self.scale, self.good_steps))

    def scaler_of(_: Any) -> LossScaler:
        current[:] = [Noting(2048.0, 2.0, 0.5, growth_interval=3)]
        return current[0]

    from trifecta.training import step

    global_norm = step.global_norm
    monkeypatch.setattr(
        step, "global_norm", lambda weights: float("inf") if current[0].scale > LARGEST else global_norm(weights)
    )
    monkeypatch.setattr("trifecta.run.build.scaler_of", scaler_of)
    return found


def killed_and_resumed(
    text: Path, place: Path, scales: list[tuple[float, int]]
) -> tuple[Path, Path, list[tuple[float, int]], list[tuple[float, int]]]:
    """A run without and one with a kill, and the scales of both: of the second those from the resume on."""
    train_here(text, place / "whole", **SETTINGS)
    whole = scales.copy()
    with pytest.raises(Killed):
        train_here(text, place / "run", at_step=KILLED_AT, **SETTINGS)
    scales.clear()
    train_here(text, place / "run", **SETTINGS)
    return place / "whole", place / "run", whole, scales.copy()


def progress_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "checkpoints" / "final" / "state.json").read_text())["progress"]
    return found


def test_fault_033_a_killed_run_goes_on_with_its_loss_scale(
    short_text: Path, tmp_path: Path, scales: list[tuple[float, int]]
) -> None:
    """With a scale that grows, overflows and halves, a run killed between two saves ends with the same bytes, and its
    scales are those of the undisturbed run, good steps in a row included."""
    whole, run, expected, resumed = killed_and_resumed(short_text, tmp_path, scales)
    same(whole, run)
    assert len(expected) == len(losses(whole)) > SAVED_AT + 8
    assert resumed == expected[SAVED_AT:]
    skipped = [number for number, (scale, good) in enumerate(expected, 1) if good == 0 and scale == LARGEST]
    assert any(number > SAVED_AT for number in skipped)
    assert any(number < SAVED_AT for number in skipped)
    assert expected[SAVED_AT - 1][1] > 0
    for name in ("loss_scale", "loss_scale_good_steps"):
        assert progress_of(run)[name] == progress_of(whole)[name] is not None


@pytest.mark.parametrize(("name", "value"), [("loss_scale", None), ("loss_scale_good_steps", 0)])
def test_fault_033_control_a_progress_that_forgets_the_scale_is_noticed(
    name: str, value: Any, short_text: Path, tmp_path: Path, scales: list[tuple[float, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With the scale, or the good steps in a row, forgotten at the resume, other updates are skipped and the bytes
    differ."""
    read = checkpoint.read_progress

    def forgetful(saved: Any) -> Any:
        progress = read(saved)
        setattr(progress, name, value)
        return progress

    monkeypatch.setattr(checkpoint, "read_progress", forgetful)
    whole, run, expected, resumed = killed_and_resumed(short_text, tmp_path, scales)
    assert resumed != expected[SAVED_AT:]
    assert resumed[0] != expected[SAVED_AT]
    assert final_bytes(run) != final_bytes(whole)
