"""FAULTS 59-66 and 69: what recipes and run names may do to us."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from trifecta.errors import RecipeError, RecipeErrors
from trifecta.recipe import Resolved, check_run_name, collect, dump

Load = Callable[..., Resolved]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Resolves a YAML text as `recipe.yaml`."""
    monkeypatch.chdir(tmp_path)

    def load(text: str) -> Resolved:
        Path("recipe.yaml").write_text(text, encoding="utf-8")
        return collect(config="recipe.yaml").resolve()

    return load


def refusal(load: Load, text: str) -> str:
    with pytest.raises(RecipeErrors) as caught:
        load(text)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.fast
def test_fault_059_exponent_without_point_is_a_float(load: Load) -> None:
    """`lr: 3e-4` is the number 0.0003, in a file and as an override."""
    assert load("training: {lr: 3e-4}").recipe.training.learning_rate == 3e-4
    assert collect(preset="small", overrides=["training.lr=3e-4"]).resolve().recipe.training.learning_rate == 3e-4


def test_fault_059_060_control() -> None:
    """PyYAML's own reading of each of these values is wrong."""
    assert yaml.safe_load("[3e-4, no, 010, 12:30:45]") == ["3e-4", False, 8, 45045]


@pytest.mark.fast
def test_fault_060_scalars_of_yaml_1_1(load: Load) -> None:
    """`no`, `12:30` and `010` have the type of their key or are refused (2): none becomes false, 750 or 8 unseen."""
    assert load("tracking: {sample: {prompt: no}}").recipe.tracking.sample.prompt == "no"
    assert load("tracking: {sample: {prompt: 12:30}}").recipe.tracking.sample.prompt == "12:30"
    assert load("training: {batch_size: 010}").recipe.training.batch_size == 10
    assert "should be true or false, found the text 'no'" in refusal(load, "training: {save_best: no}")
    assert "should be a whole number, found the text '12:30'" in refusal(load, "training: {epochs: 12:30}")
    assert "should be text, found 10" in refusal(load, "tracking: {sample: {prompt: 010}}")


@pytest.mark.fast
def test_fault_061_unknown_key(load: Load) -> None:
    """An unknown key is refused (2) with file, line, column and the nearest known key."""
    found = refusal(load, "training:\n  epochs: 2\n  bacth_size: 3\n")
    assert found.startswith("recipe.yaml:3:3: training.bacth_size: unknown key; did you mean 'batch_size'?")
    with pytest.raises(RecipeErrors, match="unknown key; did you mean 'batch_size'"):
        collect(preset="small", overrides=["training.bacth_size=3"])


@pytest.mark.fast
def test_fault_062_duplicate_key(load: Load) -> None:
    """A key that stands twice, also under its other name, is refused (2) with both lines."""
    assert "on line 2 and on line 3" in refusal(load, "training:\n  epochs: 2\n  epochs: 2\n")
    assert "on line 1 and on line 2" in refusal(load, "training: {epochs: 2}\ntraining: {seed: 2}\n")
    assert "recipe.yaml:2:3, and as model.HiddenDim at recipe.yaml:3:3" in refusal(
        load, "model:\n  d_model: 64\n  HiddenDim: 64\n"
    )


@pytest.mark.fast
@pytest.mark.parametrize("key", ["training.epochs", "training.learning_rate", "model.d_model", "training.batch_size"])
@pytest.mark.parametrize("value", ["-1", "0", ".nan", ".inf", "1e400", "text", "true", "null", "[1]", "{a: 1}"])
def test_fault_063_out_of_range_or_wrong_type(key: str, value: str, load: Load) -> None:
    """Values out of bounds or of a wrong type, NaN and infinity among them, are refused (2) with file, line, column and
    key."""
    section, _, name = key.partition(".")
    found = refusal(load, f"{section}: {{{name}: {value}}}")
    assert found.startswith(f"recipe.yaml:1:{len(section) + len(name) + 6}: {key}"), found


BOMBS = {
    "aliases": "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{c}: &{c} [{', '.join([f'*{chr(ord(c) - 1)}'] * 10)}]\n" for c in "bcdefghijk"),
    "aliases of mappings": "a: &a {x: 1}\n"
    + "".join(f"{c}: &{c} {{x: *{chr(ord(c) - 1)}, y: *{chr(ord(c) - 1)}}}\n" for c in "bcdefghijklmnopqrstuvw"),
    "flow depth": "a: " + "[" * 90_000,
    "closed flow depth": "a: " + "[" * 40_000 + "]" * 40_000,
    "block depth": "".join(" " * i + "a:\n" for i in range(400)),
    "recursion": "a: &a [*a]",
    "deeper recursion": "a: &a {b: [{c: *a}]}",
    "long": "a: " + "x" * 10_000_000,
    "wide": "a: [" + "x, " * 30_000 + "]",
}


@pytest.mark.parametrize("name", BOMBS)
def test_fault_064_bombs(name: str, load: Load) -> None:
    """Aliases, depth, recursion, length and width beyond the limits are refused (2) within a second of processor
    time."""
    start = time.process_time()
    refusal(load, BOMBS[name])
    assert time.process_time() - start < 1, "processor time, not wall time"


def test_fault_064_control_without_limits_a_bomb_is_built(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the limit on aliases a bomb is built."""
    from trifecta.recipe import yaml_nodes

    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{c}: &{c} [{', '.join([f'*{chr(ord(c) - 1)}'] * 10)}]\n" for c in "bcd"
    )
    assert "aliases repeat" in refusal(load, bomb)
    monkeypatch.setattr(yaml_nodes, "MAX_NODES", 10**9)
    assert "aliases repeat" not in refusal(load, bomb), "all 11,110 values are built"


@pytest.mark.fast
@pytest.mark.parametrize(
    "value",
    ["!!python/object/apply:os.system ['touch canary']", "!!python/object:os.system {}", "!!python/name:os.system",
     "!!python/module:os", "!x 1", "!!binary aGk=", "!!timestamp 2026-11-21", "!!set {a, b}"],
)  # fmt: skip
def test_fault_065_tags_are_refused_and_nothing_runs(value: str, load: Load, tmp_path: Path) -> None:
    """YAML tags that would construct or run something are refused (2); nothing runs."""
    found = refusal(load, f"training:\n  epochs: {value}\n")
    assert "recipe.yaml:2:11: unknown tag" in found
    with pytest.raises(RecipeErrors, match="command line: unknown tag"):
        collect(preset="small", overrides=[f"training.epochs={value}"])
    assert not (tmp_path / "canary").exists()


def test_fault_065_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader that constructs anything runs the code in the tag."""
    monkeypatch.chdir(tmp_path)
    yaml.load("a: !!python/object/apply:os.system ['touch canary']", Loader=yaml.UnsafeLoader)
    assert (tmp_path / "canary").exists()


@pytest.mark.fast
def test_fault_066_conflicts_name_both_keys_and_places(load: Load) -> None:
    """Keys that contradict each other (heads and width, warm-up and steps) are refused (2), both named with their
    places."""
    found = refusal(load, "model:\n  d_model: 128\n  num_heads: 5\ntraining:\n  warmup_steps: 9\n  max_steps: 8\n")
    both = [line for line in found.splitlines() if line.startswith("recipe")]
    assert both == [
        "recipe.yaml:2:12: model.d_model 128 is not a multiple of model.num_heads 5 (model.num_heads: 5 at "
        "recipe.yaml:3:14)",
        "recipe.yaml:5:17: training.warmup_steps 9 is more than training.max_steps 8 (training.max_steps: 8 at "
        "recipe.yaml:6:14)",
    ]


@pytest.mark.fast
@pytest.mark.parametrize(
    "name",
    ["../../x", "..", ".", "", "/etc/x", "a/b", "a\\b", "a\nb", "x\n", "x" * 5000, ".hidden", "-o",
     "a b", "C:x", "a..b", "\0", "é"],
)  # fmt: skip
def test_fault_069_run_names(name: str) -> None:
    """Seventeen kinds of bad run names are refused (2) in a message of one line under 400 characters."""
    with pytest.raises(RecipeError) as caught:
        check_run_name(name)
    assert caught.value.exit_code == 2
    assert len(str(caught.value)) < 400
    assert "\n" not in caught.value.what


@pytest.mark.fast
def test_fault_069_control() -> None:
    """Honest names pass, so the test doesn't pass by refusing all."""
    for name in ("shakespeare-auto-1a2b3c4d", "x", "run.1", "A_b-3"):
        assert check_run_name(name) == name


def test_dump_is_not_fooled_by_a_hostile_text(load: Load) -> None:
    recipe = load('tracking: {sample: {prompt: "x\\n  max_tokens: 9\\n!!python/x"}}').recipe
    assert load(dump(recipe)).recipe == recipe
