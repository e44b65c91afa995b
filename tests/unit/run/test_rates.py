"""training.learning_rate: auto. The table by size, its warm-up, other optimizers, fine-tuning, and resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from runs import SHORT, Killed, final_bytes, losses, same, train_here, write_text

from trifecta.errors import RecipeError, RecipeErrors
from trifecta.recipe import Recipe, collect
from trifecta.run import folder, rates


def recipe(*overrides: str) -> Recipe:
    return collect(preset="small", overrides=["training.learning_rate=auto", *overrides]).resolve().recipe


def chosen(parameters: float, steps: int, *overrides: str) -> tuple[float | None, int | None]:
    training = rates.automatic(recipe(*overrides), int(parameters), steps)[0].training
    return training.learning_rate, training.warmup_steps


@pytest.mark.fast
def test_group_009_rates_by_size() -> None:
    """S3's table: base rate in a short run, the other with its warm-up in a run ten times as long."""
    sizes = {"small": 12e6, "base": 110e6, "large": 340e6, "XL": 1.6e9}
    assert {name: chosen(n, 1000)[0] for name, n in sizes.items()} == {
        "small": 1e-3, "base": 5e-4, "large": 1e-4, "XL": 5e-5,
    }  # fmt: skip
    assert {name: chosen(n, 150_000) for name, n in sizes.items()} == {
        "small": (1e-3, 4000), "base": (6e-4, 8000), "large": (2e-4, 10_000), "XL": (1e-4, 15_000),
    }  # fmt: skip
    assert chosen(110e6, 79_999) == (5e-4, None), "the warm-up would be more than a tenth"
    assert chosen(110e6, 80_000) == (6e-4, 8000)
    assert chosen(110e6, 150_000, "training.warmup_steps=10") == (5e-4, 10), "a warm-up that is written stays"
    assert chosen(110e6, 9000, "training.warmup_steps=9000") == (6e-4, 9000)


@pytest.mark.fast
def test_group_009_batches_by_size() -> None:
    """S3's table: least, usual and large batches of each size; advice below the least, accumulation counted."""
    table = {size.name: (size.least_batch, size.usual_batch, size.large_batch) for size in rates.SIZES}
    assert table == {
        "small": (32, (64, 128), 256), "base": (16, (32, 64), 128), "large": (8, (16, 32), 64), "XL": (4, (8, 16), 32),
    }  # fmt: skip
    for parameters, least in ((12e6, 32), (110e6, 16), (340e6, 8), (1.6e9, 4)):
        few, enough = (recipe(f"training.batch_size={n}") for n in (least - 1, least))
        assert f"wants {least} at least" in (rates.batch_note(few, int(parameters)) or "")
        assert rates.batch_note(enough, int(parameters)) is None
    several = recipe("training.batch_size=8", "training.gradient_accumulation_steps=4")
    assert rates.batch_note(several, 1_000_000) is None
    assert rates.batch_note(recipe("training.batch_size=8", "training.init_from=runs/a"), 1_000_000) is None


@pytest.mark.fast
def test_rates_of_other_optimizers_and_of_fine_tuning() -> None:
    assert chosen(12e6, 1000, "training.init_from=runs/a") == (1e-4, None)
    assert chosen(110e6, 150_000, "training.init_from=runs/a") == (5e-5, None), "no warm-up of pretraining"
    assert [chosen(12e6, 1000, "training.optimizer=muon", f"model.d_model={d}")[0] for d in (128, 192, 384)] == [
        0.01, 0.007, 0.005,
    ]  # fmt: skip
    assert chosen(12e6, 1000, "training.optimizer=lion")[0] == 2e-4
    assert chosen(12e6, 1000, "training.optimizer=adafactor") == (0.01, None)
    assert chosen(12e6, 1000, "training.optimizer={type: adafactor, scale_parameter: false}")[0] == 1e-3
    assert chosen(110e6, 150_000, "training.scheduler=one_cycle") == (5e-4, None)
    assert chosen(110e6, 150_000, "training.scheduler={type: cosine_decay, decay_steps: 9}") == (5e-4, None)


@pytest.mark.fast
@pytest.mark.parametrize("preset", ["modern", "demo", "bert-modern", "demo-t5"])
def test_muons_rates_are_the_presets(preset: str) -> None:
    training = collect(preset=preset).resolve().recipe
    asked = collect(preset=preset, overrides=["training.learning_rate=auto"]).resolve().recipe
    found = rates.automatic(asked, 1, 100)[0].training.learning_rate
    assert found == (0.01 if training.model.d_model == 128 else training.training.learning_rate)


@pytest.mark.fast
def test_the_reason_is_given() -> None:
    def why(parameters: float, steps: int, *overrides: str) -> str:
        return rates.automatic(recipe(*overrides), int(parameters), steps)[1]

    assert why(12e6, 1000) == "learning rate 0.001: 12 million parameters: small"
    assert why(110e6, 99_999) == "learning rate 0.0006: 110 million parameters: base, after 8,000 steps of warm-up"
    assert why(400_000, 9, "training.init_from=a", "training.optimizer=lion") == (
        "learning rate 2e-05: 400,000 parameters: small; a fifth of it for Lion; a tenth of it to go on with trained "
        "weights"
    )
    assert "Muon at width 128, as in the presets" in why(12e6, 1000, "training.optimizer=muon")


@pytest.mark.fast
@pytest.mark.parametrize("optimizer", ["sgd", "torch.optim.NAdam"])
def test_optimizers_without_a_table_are_refused(optimizer: str) -> None:
    with pytest.raises(RecipeErrors, match="auto knows no rate for"):
        recipe(f"training.optimizer={optimizer}")


# ---------------------------------------------------------------------------------------------- in runs of a few steps


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIFECTA_CACHE", str(tmp_path / "cache"))
    return write_text(tmp_path / "words.txt", words=300)


def whole_and_resumed(text: Path, **settings: Any) -> tuple[Path, Path]:
    place, settings = text.parent, SHORT | settings
    train_here(text, place / "whole", **settings)
    with pytest.raises(Killed):
        train_here(text, place / "run", at_step=5, **settings)
    train_here(text, place / "run", **settings)
    return place / "whole", place / "run"


def test_auto_is_stored_and_stays_on_resume(text: Path) -> None:
    """Resumed with `auto` over a run long enough for the table's warm-up, it stays what it was."""
    settings = SHORT | {"training.learning_rate": "auto"}
    out = text.parent / "run"
    done = train_here(text, out, **settings)
    events = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    notes = [event["message"] for event in events if event["event"] == "note"]
    assert [note for note in notes if note.startswith("learning rate 0.001: ") and note.endswith("parameters: small")]
    stored = folder.read_recipe(out).training
    assert (stored.learning_rate, stored.warmup_steps) == (1e-3, None)
    longer = recipe("training.epochs=100")
    assert rates.kept(longer, folder.read_recipe(out)).training.learning_rate == 1e-3
    train_here(text, out, **settings | {"training.epochs": 2})
    assert len(losses(out)) == 2 * done.step
    assert folder.read_recipe(out).training.learning_rate == 1e-3
    events = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    notes = [event["message"] for event in events if event["event"] == "note"]
    assert not [note for note in notes if note.startswith("changed on resume: training.learning_rate")]


WAYS: dict[str, dict[str, Any]] = {
    "auto": {"training.learning_rate": "auto"},
    "lion": {"training.optimizer": "lion", "training.learning_rate": 1e-4},
    "adafactor": {"training.optimizer": "adafactor", "training.learning_rate": 1e-2},
    "custom": {"training.optimizer": "torch.optim.NAdam"},
    "numbers": {"training.optimizer": "torch.optim.RAdam(betas=(0.8, 0.9))"},
    "keras": {"training.learning_rate": "CosineDecay(1e-4, 9, warmup_target=1e-2, warmup_steps=4)"},
}


@pytest.mark.parametrize("way", WAYS)
def test_fault_004_optimizers_and_schedules_are_resumed_exactly(text: Path, way: str) -> None:
    """With Lion, Adafactor, a class of torch's, Keras' schedule and the learning rate left to auto, a run killed after
    its fifth step ends with the same bytes."""
    same(*whole_and_resumed(text, **WAYS[way]))


@pytest.mark.parametrize("way", ["adafactor", "lion"])
def test_fault_004_control_an_optimizers_state_forgotten_on_resume_is_noticed(
    text: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An optimizer that starts afresh on resume ends with other bytes."""
    from trifecta.optim import Optimizers

    monkeypatch.setattr(Optimizers, "load_state_tensors", lambda *_: None)
    whole, run = whole_and_resumed(text, **WAYS[way])
    assert final_bytes(whole) != final_bytes(run)
    with pytest.raises(RecipeError, match=r"torch.optim.NAdam keeps something outside of its state"):
        train_here(text, text.parent / "custom", **SHORT | WAYS["custom"])  # the trial sees it before the run begins


def test_a_class_that_cannot_be_used_is_refused_at_its_place_before_anything_is_made(text: Path) -> None:
    config = text.parent / "own.yaml"
    config.write_text("training:\n  optimizer: torch.optim.RMSprop(alhpa=0.9)\n")
    with pytest.raises(RecipeError) as caught:
        train_here(text, text.parent / "run", config=str(config))
    assert caught.value.where == f"{config}:2:40"
    assert "takes no 'alhpa'; did you mean 'alpha'" in caught.value.what
    assert not (text.parent / "run").exists()
