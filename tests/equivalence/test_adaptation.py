"""Freezing, layer-wise rates and LoRA in whole runs: what moves, what stays to the byte, and how they go on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import SHORT, Killed, same, train_here, write_text
from torch import Tensor

import trifecta
from trifecta.models import layers
from trifecta.run import build
from trifecta.training import files

LORA: dict[str, Any] = {"training.lora_rank": 2, "training.lora_targets": ["query", "up"], "training.lora_dropout": 0.1}
FREEZE: dict[str, Any] = {"training.freeze_layers": 1, "training.layer_decay": 0.5}
RUN: dict[str, Any] = SHORT | {
    "model.num_layers": 2, "training.save_every_n_steps": 2, "training.evaluate_every_n_steps": 3,
    "training.keep_last_n": None,
}  # fmt: skip
ONE_STEP: dict[str, Any] = {
    "training.batch_size": 512, "training.gradient_accumulation_steps": 1, "training.warmup_steps": 0,
    "training.save_every_n_steps": 1,
}  # fmt: skip


def train(text: Path, out: Path, base: Path, at_step: int = -1, **changes: Any) -> Any:
    return train_here(text, out, at_step=at_step, **(RUN | {"training.init_from": str(base)} | changes))


def weights(run: Path, name: str = "final") -> dict[str, Tensor]:
    return files.read_safetensors(run / "checkpoints" / name / "model.safetensors")


def moved(run: Path, base: Path) -> set[str]:
    before = weights(base)
    return {name for name, tensor in weights(run).items() if not torch.equal(tensor, before.get(name, tensor * 0 + 7))}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "words.txt", 250)


@pytest.fixture(scope="module")
def base(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("base") / "run"
    train_here(text, out, **(SHORT | {"model.num_layers": 2}))
    return out


def test_frozen_layers_stay_to_the_byte_and_the_rest_moves(text: Path, base: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "run", base, **FREEZE)
    low = {name for name in weights(base) if name.startswith(("embedding.", "blocks.0."))}
    assert moved(tmp_path / "run", base) == weights(base).keys() - low
    moments = files.read_safetensors(tmp_path / "run/checkpoints/final/optimizer.safetensors")
    assert {key.rpartition("/")[0] for key in moments} == weights(base).keys() - low


def test_control_a_freeze_that_does_nothing_is_noticed(
    text: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "freeze", lambda *_, **__: None)
    train(text, tmp_path / "run", base, **FREEZE)
    assert moved(tmp_path / "run", base) == weights(base).keys()


def test_lora_moves_its_own_matrices_alone(text: Path, base: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "run", base, **LORA)
    own = {f"blocks.{i}.{part}.{leaf}" for i in range(2) for part in ("attention.query", "feedforward.up")
           for leaf in ("lora_a", "lora_b")}  # fmt: skip
    assert moved(tmp_path / "run", base) == own
    assert all(tensor.any() for name, tensor in weights(tmp_path / "run").items() if name in own)


def test_control_a_base_that_trains_along_is_noticed(
    text: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "freeze_trained", lambda _: None)
    train(text, tmp_path / "run", base, **LORA)
    assert "norm.weight" in moved(tmp_path / "run", base)


def test_before_its_first_step_lora_is_its_base(text: Path, base: Path, tmp_path: Path) -> None:
    """A run with a rate of almost 0 validates like its base at its own end."""
    train(text, tmp_path / "run", base, **LORA, **ONE_STEP, **{"training.learning_rate": 1e-30})
    ids = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(trifecta.load(tmp_path / "run").model(ids), trifecta.load(base).model(ids))


def test_an_opened_run_has_lora_merged(text: Path, base: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "run", base, **LORA, **{"training.learning_rate": 0.1})
    run = trifecta.load(tmp_path / "run")
    unmerged = build.adapted(run.recipe, build.bare_model_of(run.recipe, run.objective.vocabulary.size)).eval()
    unmerged.load_state_dict(weights(tmp_path / "run"), strict=False)
    ids = torch.arange(8)[None]
    with torch.no_grad():
        torch.testing.assert_close(run.model(ids), unmerged(ids), rtol=0, atol=1e-5)
        assert (run.model(ids) - trifecta.load(base).model(ids)).abs().max() > 1e-3
    assert run.generate("a", max_tokens=3)


def test_a_run_may_begin_with_a_run_of_lora(text: Path, base: Path, tmp_path: Path) -> None:
    """Its matrices are merged into the weights that the new run takes."""
    train(text, tmp_path / "first", base, **LORA, **{"training.learning_rate": 0.1})
    train(text, tmp_path / "second", tmp_path / "first", **LORA, **{"training.learning_rate": 1e-30})
    ids = torch.arange(8)[None]
    with torch.no_grad():
        first, second = (trifecta.load(tmp_path / name).model(ids) for name in ("first", "second"))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [FREEZE, LORA], ids=["freeze", "lora"])
def test_a_killed_run_goes_on_to_the_same_bytes(
    text: Path, base: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Even where the weights that it began with are gone."""
    own = tmp_path / "base"
    shutil.copytree(base, own, symlinks=True)
    train(text, tmp_path / "whole", own, **changes)
    with pytest.raises(Killed):
        train(text, tmp_path / "run", own, at_step=3, **changes)
    shutil.rmtree(own)
    train(text, tmp_path / "run", own, **changes)
    same(tmp_path / "run", tmp_path / "whole")


def test_control_a_resume_that_draws_lora_anew_is_noticed(
    text: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(text, tmp_path / "whole", base, **LORA)
    with pytest.raises(Killed):
        train(text, tmp_path / "run", base, at_step=3, **LORA)
    plain = trifecta.training.checkpoint.load_state  # type: ignore[attr-defined]

    def forgetful(saved: Any, state: Any) -> None:
        drawn = {name: tensor.clone() for name, tensor in state.model.named_parameters() if ".lora_" in name}
        plain(saved, state)
        with torch.no_grad():
            for name, tensor in drawn.items():
                state.model.get_parameter(name).copy_(tensor)

    monkeypatch.setattr("trifecta.training.checkpoint.load_state", forgetful)
    train(text, tmp_path / "run", base, **LORA)
    with pytest.raises(AssertionError):
        same(tmp_path / "run", tmp_path / "whole")


def test_layer_decay_slows_the_lower_layers(text: Path, base: Path, tmp_path: Path) -> None:
    """The first update under Adam is as long as its rate: it is the ratio's times the update without decay."""
    one = ONE_STEP | {"training.optimizer.weight_decay": 0.0}
    train(text, tmp_path / "plain", base, **one)
    train(text, tmp_path / "decayed", base, **one, **{"training.layer_decay": 0.5})
    start = weights(base)
    plain, decayed = (
        {name: (tensor - start[name]).norm() for name, tensor in weights(tmp_path / run).items()}
        for run in ("plain", "decayed")
    )
    for name, ratio in layers.learning_rate_ratios(start, 0.5).items():
        assert float(decayed[name]) == pytest.approx(ratio * float(plain[name]), rel=2e-3), name
