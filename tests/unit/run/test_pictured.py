"""Images of a recipe, divided."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pictures import write_images

from trifecta.errors import DataError, RecipeError
from trifecta.recipe.sources import collect
from trifecta.run import Request
from trifecta.run.pictured import divide_images
from trifecta.run.resolution import resolve

pytestmark = pytest.mark.fast


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "colours", each=5)


def divided(*paths: Path, **settings: Any) -> Any:
    flags = {"model.type": "vit", "data.paths": [str(path) for path in paths], **settings}
    recipe = collect(flags={key: ("settings", value) for key, value in flags.items()}).resolve().recipe
    return divide_images(recipe, None)


def test_every_class_is_divided_and_the_seed_decides(folder: Path) -> None:
    parts = divided(folder, **{"training.validation_split": 0.4})
    assert Counter(record.label for record in parts.validation) == {"blue": 2, "green": 2, "red": 2}
    assert parts.found == {"labels": ["blue", "green", "red"], "label_counts": [3, 3, 3]}
    again, other = (divided(folder, **{"training.validation_split": 0.4, "training.seed": seed}) for seed in (42, 1))
    assert again.validation == parts.validation
    assert other.validation != parts.validation


def test_files_for_validation_have_the_same_classes(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(folder / "red", own / "red")
    parts = divided(folder, **{"data.validation_paths": [str(own)]})
    assert (len(parts.train), len(parts.validation)) == (15, 5)
    assert parts.notes == ["5 validation images are among the training images too, so validation flatters"]
    (own / "red").rename(own / "pink")
    with pytest.raises(DataError, match="'pink' isn't one of") as caught:
        divided(folder, **{"data.validation_paths": [str(own)]})
    assert "pink/0.png" in str(caught.value.where)


def test_one_class_is_none(folder: Path) -> None:
    for name in ("blue", "green"):
        shutil.rmtree(folder / name)
    for more in ({}, {"objective.labels": ["red", "blue"]}):
        with pytest.raises(DataError, match="all images are of one class"):
            divided(folder, **more)


def request(folder: Path | None, **settings: Any) -> Request:
    flags = {key: ("settings", value) for key, value in settings.items()}
    return Request(data=() if folder is None else (str(folder),), arch="vit", flags=flags)


def test_a_run_is_named_by_its_images_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    """The fingerprint is that of contents and classes."""
    one = resolve(request(folder))
    assert one.recipe.objective.labels == ["blue", "green", "red"]  # type: ignore[union-attr]
    assert one.recipe.tokenizer.type == "none"
    assert one.text.scan().characters == 15 * 144, "the pixels, by which auto-vit is sized"
    folder.rename(tmp_path / "elsewhere")
    two = resolve(request(tmp_path / "elsewhere"))
    assert two.text.scan().fingerprint == one.text.scan().fingerprint
    (tmp_path / "elsewhere" / "red").rename(tmp_path / "elsewhere" / "rouge")
    assert resolve(request(tmp_path / "elsewhere")).text.scan().fingerprint != one.text.scan().fingerprint


def test_built_in_data_of_another_kind() -> None:
    assert len(resolve(request(None, **{"data.builtin": "digits"})).text.divided.train) == 1438  # type: ignore[union-attr]
    with pytest.raises(RecipeError, match="genre is labelled for the task classify"):
        resolve(request(None, **{"data.builtin": "genre"}))
    with pytest.raises(DataError, match=r"(?s)no labelled data.*data.builtin=digits"):
        resolve(request(None))
    with pytest.raises(
        RecipeError, match=r"(?s)digits is labelled for the task images.*--arch vit data.builtin=digits"
    ):
        resolve(Request(flags={"data.builtin": ("settings", "digits")}))
