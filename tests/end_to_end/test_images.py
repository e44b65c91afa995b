"""The commands on folders of images."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import array, write_images
from PIL import Image

Trifecta = Callable[..., subprocess.CompletedProcess[str]]


def settings(**more: object) -> list[str]:
    short = {"model.image_size": 12, "training.max_steps": 12, "training.learning_rate": 0.01, "execution.threads": 1}
    return [f"{key}={value}" for key, value in (short | more).items()]


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "colours", each=10)


@pytest.mark.slow
def test_a_folder_from_the_first_command_to_the_last(colours: Path, tmp_path: Path, run_trifecta: Trifecta) -> None:
    """check, train, evaluate, predict, export: three colours are learned in twelve steps."""
    run = tmp_path / "run"
    checked = run_trifecta("check", colours, "--arch", "vit", "--show-batch", "--json", *settings())
    assert checked.returncode == 0, checked.stderr
    facts = json.loads(checked.stdout)
    assert facts["recipe"]["objective"]["labels"] == ["blue", "green", "red"]
    assert facts["steps"]["tokens_per_step"] == 32 * 10
    assert facts["batch"][0]["target"] in facts["batch"][0]["input"]

    trained = run_trifecta("train", colours, "--arch", "vit", "-o", run, *settings())
    assert trained.returncode == 0, trained.stderr
    assert "Train: 27 images, validation 3" in trained.stdout
    assert "padding" not in trained.stdout
    assert "perplexity" not in trained.stdout.lower()

    judged = run_trifecta("evaluate", run, "--data", colours, "--json")
    assert judged.returncode == 0, judged.stderr
    assert json.loads(judged.stdout)["accuracy"] > 0.9
    own = run_trifecta("evaluate", run, "--json")
    assert json.loads(own.stdout)["records"] == 3

    Image.fromarray(array("red", 99, 40)).convert("RGBA").save(tmp_path / "a.png")
    asked = run_trifecta("predict", run, tmp_path / "a.png", colours / "blue", "--json")
    lines = [json.loads(line) for line in asked.stdout.splitlines()]
    assert len(lines) == 11
    assert (lines[0]["image"], lines[0]["label"]) == (str(tmp_path / "a.png"), "red")
    assert sum(line["label"] == "blue" for line in lines[1:]) > 8
    assert sum(lines[0]["probabilities"].values()) == pytest.approx(1)
    assert "red" in run_trifecta("predict", run, tmp_path / "a.png").stdout

    exported = run_trifecta("export", run, "--to", "hf", tmp_path / "hf")
    assert exported.returncode == 0, exported.stderr
    assert {path.name for path in (tmp_path / "hf").iterdir()} == {
        "config.json", "model.safetensors", "preprocessor_config.json",
    }  # fmt: skip


@pytest.mark.slow
def test_what_cannot_be_used_ends_with_three_and_the_file(tmp_path: Path, run_trifecta: Trifecta) -> None:
    """A damaged image, one class, an empty folder, a text: exit code 3, and the file or folder is named."""
    one = tmp_path / "one"
    (one / "red").mkdir(parents=True)
    for number in range(4):
        Image.fromarray(array("red", number)).save(one / "red" / f"{number}.png")
    broken = write_images(tmp_path / "broken", each=3)
    whole = (broken / "red" / "1.png").read_bytes()
    (broken / "red" / "1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("a text")
    cases = {
        broken: ("red/1.png", "damaged"), one: ("one", "all images are of one class, 'red'"),
        tmp_path / "empty": ("empty", "no files"), tmp_path / "a.txt": ("a.txt", "no image"),
    }  # fmt: skip
    for data, (place, what) in cases.items():
        done = run_trifecta("train", data, "--arch", "vit", "-o", tmp_path / "run", *settings())
        assert done.returncode == 3, (data, done.stderr)
        assert place in done.stderr
        assert what in done.stderr
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_digits_are_learned(tmp_path: Path, run_trifecta: Trifecta) -> None:
    """The preset vit-digits reads more than 97 % of the held-out digits rightly; in a minute of one quiet core, which a
    test can't ask."""
    run = tmp_path / "run"
    trained = run_trifecta("train", "--preset", "vit-digits", "-o", run, "execution.threads=1", "-q")
    assert trained.returncode == 0, trained.stderr
    figures = json.loads(run_trifecta("evaluate", run, "--json").stdout)
    assert figures["records"] == 359
    assert figures["accuracy"] > 0.97
    from sklearn.datasets import load_digits

    images = load_digits().images[:5]
    for number, image in enumerate(images):
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(tmp_path / f"{number}.png")
    asked = run_trifecta("predict", run, *[tmp_path / f"{n}.png" for n in range(5)], "--json")
    assert [json.loads(line)["label"] for line in asked.stdout.splitlines()] == ["0", "1", "2", "3", "4"]
