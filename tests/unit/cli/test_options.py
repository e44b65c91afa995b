from __future__ import annotations

import io
from pathlib import Path

import pytest

from trifecta.cli import options
from trifecta.errors import RecipeError, ResourceError


@pytest.mark.fast
@pytest.mark.parametrize(
    ("argument", "kind"),
    [
        ("recipe.yaml", "recipe"),
        ("configs/Small.YML", "recipe"),
        ("training.save_every_n_steps=15", "override"),
        ("dff=2048", "override"),
        ("tokenizer.path=x.yaml", "override"),
        ("training.scheduler={type: step}", "override"),
        ("tracking.sample.prompt=", "override"),
        ("book.txt", "data"),
        ("-", "data"),
        ("data/x=3/*.txt", "data"),
        ("1=2", "data"),
        ("notes=old.txt", "data"),
    ],
)
def test_what_an_argument_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str, kind: str):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes=old.txt").touch()
    recipes, overrides, data = options.split([argument])
    assert {"recipe": tuple(recipes), "override": overrides, "data": data}[kind] == (argument,)


@pytest.mark.fast
def test_request_has_flags_under_their_keys():
    made = options.request(
        ["book.txt", "small.yaml", "model.dropout=0"], config=None, preset="tutorial", arch="gpt", epochs=5,
        batch_size=None, learning_rate=1e-3, sequence_length=64, device="cpu", seed=0, max_steps=None,
    )  # fmt: skip
    assert (made.config, made.preset, made.arch) == ("small.yaml", "tutorial", "gpt")
    assert (made.data, made.overrides) == (("book.txt",), ("model.dropout=0",))
    assert made.flags == {
        "training.epochs": ("--epochs", 5),
        "training.learning_rate": ("--learning-rate", 1e-3),
        "data.sequence_length": ("--sequence-length", 64),
        "execution.device": ("--device", "cpu"),
        "training.seed": ("--seed", 0),
    }


def test_every_flag_names_a_key_of_the_recipe():
    from trifecta.recipe.keys import known_keys

    assert set(options.FLAGS.values()) <= {known.key for known in known_keys()}


@pytest.mark.fast
@pytest.mark.parametrize(("arguments", "config"), [(["a.yaml", "b.yml"], None), (["a.yaml"], "b.yaml")])
def test_two_recipes_are_one_too_many(arguments: list[str], config: str | None):
    with pytest.raises(RecipeError, match=r"a\.yaml"):
        options.request(arguments, config=config, preset=None, arch=None)


@pytest.mark.fast
def test_completion_of_keys_and_values():
    keys = dict(options.complete_key("training.lear"))
    assert list(keys)[:1] == ["training.epochs="] or "training.learning_rate=" in keys
    assert "learning rate" in keys["training.learning_rate="].lower()
    assert ("training.scheduler.type=cosine", "") in options.complete_key("training.scheduler.type=c")
    assert options.complete_key("") == []
    assert options.complete_key("book.txt=") == []
    assert "small" in options.complete_preset()


def test_progress_is_one_line_on_a_terminal_and_rare_elsewhere(monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    clock = [100.0]
    monkeypatch.setattr(options.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    with options.progress_line(stream) as show:
        for seconds in range(25):
            clock[0] = 100.0 + seconds
            show("reading", seconds / 25)
    assert stream.getvalue() == "reading 40%\nreading 80%\n"
    stream = Terminal()
    with options.progress_line(stream) as show:
        show("tokenizing", 0.5)
        show("reading", None)
    assert stream.getvalue() == "\r\x1b[Ktokenizing 50% ...\r\x1b[Kreading ...\r\x1b[K"


@pytest.mark.fast
def test_nothing_is_overwritten(tmp_path: Path):
    path = tmp_path / "new" / "small.yaml"
    options.write_new(path, "model:\n")
    with pytest.raises(RecipeError, match="exists"):
        options.write_new(path, "other")
    assert path.read_text() == "model:\n"


@pytest.mark.fast
def test_fault_009_full_disk_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file that a command writes is refused on a full disk (6), and no part of it stays."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ResourceError, match="No space left"):
        options.write_new(tmp_path / "t.json", "text")
    assert list(tmp_path.iterdir()) == []
