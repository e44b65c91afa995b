"""The Python door: train, step through, load, generate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import trifecta
from trifecta.errors import RecipeErrors
from trifecta.run import Request, iterate
from trifecta.types import StepReport

TINY: dict[str, Any] = {
    "model.d_model": 16, "model.num_heads": 2, "model.num_layers": 1, "model.d_ff": 32, "data.sequence_length": 16,
    "training.batch_size": 4, "training.max_steps": 6, "tracking.sample.every_n_epochs": None, "execution.threads": 1,
}  # fmt: skip


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text("The cat sat on the mat and the dog lay in the hall. " * 40)
    return path


def test_train_load_generate(book: Path, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    result = trifecta.train(book, preset="small", settings=TINY, out=tmp_path / "run", hooks=[events.append])
    assert (result.status, result.step) == ("finished", 6)
    assert [e["event"] for e in events if e["event"] in ("start", "end")] == ["start", "end"]
    run = trifecta.load(result.folder)
    one, two = (run.generate("The", max_tokens=8, seed=1) for _ in range(2))
    assert one == two
    assert one.startswith("The")
    assert "The" + "".join(run.stream("The", max_tokens=8, seed=1)) == one
    assert len(run.samples("The", 3, max_tokens=4)) == 3
    assert run.recipe.model.d_model == 16
    assert run.model(torch.zeros(1, 4, dtype=torch.int64)).shape == (1, 4, run.tokenizer.vocab_size)
    assert trifecta.load(result.folder / "checkpoints" / "best").step == 6


def test_a_notebook_steps_through_the_loop(book: Path, tmp_path: Path) -> None:
    request = Request(preset="small", flags={k: ("settings", v) for k, v in TINY.items()}, data=(str(book),))
    reports = [r for r in iterate(request, out=tmp_path / "run") if isinstance(r, StepReport)]
    assert [r.step for r in reports] == [1, 2, 3, 4, 5, 6]
    assert all(r.loss > 0 and r.grad_norm > 0 and not r.skipped for r in reports)


def test_determinism_is_restored_and_mistakes_name_the_settings(book: Path, tmp_path: Path) -> None:
    trifecta.train(book, preset="small", settings={**TINY, "training.deterministic": True}, out=tmp_path / "run")
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RecipeErrors, match=r"settings: training\.epochs: should be a whole number") as caught:
        trifecta.train(book, preset="small", settings={"training.epochs": "ten", "model.width": 3})
    assert len(caught.value.errors) == 2


def test_a_failing_hook_is_dropped_and_training_goes_on(book: Path, tmp_path: Path) -> None:
    def broken(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            raise OSError("the terminal is gone")

    assert trifecta.train(book, preset="small", settings=TINY, out=tmp_path / "run", hooks=[broken]).step == 6
    assert "was dropped" in (tmp_path / "run" / "journal.jsonl").read_text()


def test_nan_ends_with_a_failed_run_and_untouched_weights(book: Path, tmp_path: Path) -> None:
    from trifecta.errors import NumericsError

    wild = {**TINY, "training.learning_rate": 100.0, "training.gradient_clip_norm": None, "training.max_steps": 400,
            "training.optimizer": {"type": "sgd", "momentum": 0.99}, "training.max_nonfinite_steps": 2}  # fmt: skip
    with pytest.raises(NumericsError, match="2 steps in a row"):
        trifecta.train(book, preset="small", settings=wild, out=tmp_path / "run")
    from trifecta.run import list_runs

    (row,) = list_runs(tmp_path)
    assert row["status"] == "failed"
