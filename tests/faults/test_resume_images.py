"""A killed run on changed and mixed images continues as if nothing had happened, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pictures import array, write_images
from PIL import Image
from runs import Killed, final_bytes, losses, same, train, train_here

SETTINGS: dict[str, Any] = {
    "model.type": "vit", "model.image_size": 12, "model.patch_size": 4, "objective.crop_padding": 1,
    "objective.flip": 0.5, "objective.brightness": 0.3, "objective.contrast": 0.3, "objective.saturation": 0.3,
    "objective.hue": 0.1, "objective.erase": 0.5, "objective.mixup": 0.4, "objective.cutmix": 1.0,
    "model.drop_path": 0.1, "training.label_smoothing": 0.1, "training.gradient_accumulation_steps": 2,
    "training.save_every_n_steps": 3, "training.evaluate_every_n_steps": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 images, 27 of them to train on: 4 updates are an epoch, whose last is smaller."""
    return write_images(tmp_path_factory.mktemp("images") / "colours", each=10)


@pytest.fixture(scope="module")
def whole(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = train(colours, out, unrelated=True, config="auto-vit", **SETTINGS)
    assert done.returncode == 0, done.stderr
    return out


def test_fault_001_004_images_killed_and_resumed_give_the_same_bytes(
    colours: Path, whole: Path, tmp_path: Path
) -> None:
    """Killed before the first save, in a later epoch, and resumed with two data workers, a run on cropped, mirrored,
    coloured, erased and mixed images ends with the same bytes."""
    out = tmp_path / "run"
    for step, workers in ((2, 0), (8, 2)):
        assert train(colours, out, config="auto-vit", at_step=step, **SETTINGS,
                     **{"data.num_workers": workers}).returncode == -9  # fmt: skip
    assert train(colours, out, config="auto-vit", **SETTINGS).returncode == 0
    same(out, whole)


def test_fault_001_004_control_images_drawn_from_one_generator(
    colours: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes drawn from a generator that goes on from image to image: after a kill the bytes are others."""
    import numpy as np

    def here(out: Path, step: int = -1) -> None:
        stream = np.random.default_rng(0)
        monkeypatch.setattr("trifecta.run.feed.numpy_generator", lambda *_: stream)
        train_here(colours, out, config="auto-vit", at_step=step, **SETTINGS)

    here(tmp_path / "whole")
    with pytest.raises(Killed):
        here(tmp_path / "run", step=8)
    here(tmp_path / "run")
    assert losses(tmp_path / "run") != losses(tmp_path / "whole")
    assert final_bytes(tmp_path / "run") != final_bytes(whole)


def test_fault_019_a_changed_image_is_refused(tmp_path: Path) -> None:
    """One image whose content changed since the save is refused on resume (3)."""
    data = write_images(tmp_path / "colours", each=10)
    assert train(data, tmp_path / "run", config="auto-vit", at_step=4, **SETTINGS).returncode == -9
    Image.fromarray(array("red", 77)).save(data / "red" / "3.png")
    refused = train(data, tmp_path / "run", config="auto-vit", **SETTINGS)
    assert refused.returncode == 3
    assert "changed since this run was saved" in refused.stderr
    Image.fromarray(array("red", 3)).save(data / "red" / "3.png")
    assert train(data, tmp_path / "run", config="auto-vit", **SETTINGS).returncode == 0
