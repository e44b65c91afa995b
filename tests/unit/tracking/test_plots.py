from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from trifecta.errors import CheckpointError
from trifecta.tracking import plots
from trifecta.tracking.journal import NAME, Journal


def write_run(folder: Path, steps: int, *, spoil: bool = False) -> Path:
    folder.mkdir(parents=True)
    with Journal(folder / NAME) as events:
        events({"event": "start", "parameters": 1_044_736, "train_tokens": 400_000, "device": "cpu"})
        for number in range(1, steps + 1):
            loss = math.nan if spoil and number % 3 == 0 else 2 + 5 * math.exp(-number / 20)
            events({"event": "step", "step": number, "epoch": 1, "loss": loss, "learning_rate": 3e-4,
                    "grad_norm": math.inf if spoil and number == 2 else 1.0, "tokens": 64, "seconds": 0.1})  # fmt: skip
            if number % 10 == 0:
                events({"event": "evaluation", "step": number, "split": "validation", "loss": loss + 0.1})
                events({"event": "epoch", "step": number, "epoch": number // 10, "loss": loss, "perplexity": 1.0})
    return folder


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert b"IEND" in content[-12:]
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


@pytest.mark.parametrize(("steps", "spoil"), [(1, False), (40, True)])
def test_draws_a_png(tmp_path: Path, steps: int, spoil: bool):
    run = write_run(tmp_path / "a $run$ with \\dollars_", steps, spoil=spoil)
    path = plots.plot_run(run, run / "plots" / "training.png")
    assert png_size(path) == (1440, 1024)
    assert [p.name for p in path.parent.iterdir()] == ["training.png"]


def test_same_run_same_bytes(tmp_path: Path):
    run = write_run(tmp_path / "run", 12)
    first = plots.plot_run(run, tmp_path / "1.png").read_bytes()
    assert plots.plot_run(run, tmp_path / "2.png").read_bytes() == first


def test_a_failed_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from matplotlib.figure import Figure

    def full(_, path, **__):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    run = write_run(tmp_path / "run", 2)
    with pytest.raises(OSError, match="No space"):
        plots.plot_run(run, run / "plots" / "x.png")
    assert list((run / "plots").iterdir()) == []


@pytest.mark.fast
def test_curves_are_the_journal(tmp_path: Path):
    curves = plots.read_curves(write_run(tmp_path / "run", 20, spoil=True))
    assert curves.steps == list(range(1, 21))
    assert math.isnan(curves.loss[2])
    assert curves.loss[0] == 2 + 5 * math.exp(-1 / 20)
    assert math.isnan(curves.grad_norm[1])
    assert curves.evaluated == curves.epoch_ends == [10, 20]
    assert curves.seconds == pytest.approx(2.0)


@pytest.mark.fast
def test_nothing_to_plot(tmp_path: Path):
    (tmp_path / NAME).write_text(json.dumps({"event": "start"}) + "\n")
    with pytest.raises(CheckpointError, match="no step yet"):
        plots.read_curves(tmp_path)
    with pytest.raises(CheckpointError):
        plots.read_curves(tmp_path / "nowhere")


@pytest.mark.fast
def test_running_mean_is_a_centred_mean_that_passes_over_nan():
    values = np.array([1.0, 2.0, math.nan, 4.0, 5.0, 9.0])
    mean = plots._running_mean(values, 3)
    assert mean.tolist() == [1.0, 1.5, 3.0, 4.5, 6.0, 7.0]


@pytest.mark.fast
def test_many_steps_are_thinned_by_averaging():
    steps = list(range(1, 10_001))
    x, y, smooth = plots._series(steps, [float(s) for s in steps])
    assert len(x) == len(y) == len(smooth) == plots.MAX_POINTS
    assert x[0] == y[0] == 3.0
    assert x[-1] == 9998.0


@pytest.mark.parametrize("value", ["1e400", "1e308", "-1e308", "1e99", "-1e99", "-1", "0", "null", "NaN"])
def test_odd_numbers_are_drawn_or_passed_over(tmp_path: Path, value: str):
    step = f'"loss": {value}, "learning_rate": {value}, "grad_norm": {value}, "seconds": {value}'
    (tmp_path / NAME).write_text(
        f'{{"event": "start", "parameters": "many", "train_tokens": {value}}}\n'
        f'{{"event": "step", "step": 1, {step}}}\n{{"event": "step", "step": 1000000000000, {step}}}\n'
        f'{{"event": "evaluation", "step": 1, "loss": {value}}}\n'
    )
    assert png_size(plots.plot_run(tmp_path, tmp_path / "x.png"))


@pytest.mark.fast
def test_a_damaged_event_is_named(tmp_path: Path):
    (tmp_path / NAME).write_text('{"event": "note"}\n{"event": "step", "step": 1}\n')
    with pytest.raises(CheckpointError, match="'loss'") as caught:
        plots.read_curves(tmp_path)
    assert caught.value.where == f"{tmp_path / NAME}:2"
