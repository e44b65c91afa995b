"""Precedence, components, overrides, flags, files, and the automatic preset."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trifecta.errors import RecipeError, RecipeErrors
from trifecta.recipe import Facts, Recipe, Resolved, collect
from trifecta.recipe.components import Adam, AdamW, BpeTokenizer, Cosine, Linear, Sgd, Wsd

Load = Callable[..., Resolved]


@pytest.mark.fast
def test_later_sources_win(load: Load) -> None:
    text = "training: {batch_size: 2, epochs: 2, learning_rate: 2e-4, seed: 2}"
    resolved = load(
        text, preset="small", overrides=["training.epochs=3", "training.learning_rate=3e-4", "training.seed=3"],
        flags={"training.learning_rate": ("--learning-rate", 4e-4), "training.seed": ("--seed", 4)},
    )  # fmt: skip
    training = resolved.recipe.training
    assert (training.batch_size, training.epochs, training.learning_rate, training.seed) == (2, 3, 4e-4, 4)
    assert resolved.recipe.model.d_model == 128
    assert resolved.written == {f"training.{k}" for k in ("batch_size", "epochs", "learning_rate", "seed")}
    assert resolved.origins["training.batch_size"].where == "recipe.yaml:1:24"
    assert resolved.origins["training.seed"].where == "command line"
    assert resolved.origins["model.d_model"].where.startswith("preset small:")


@pytest.mark.fast
def test_components(load: Load) -> None:
    def optimizer(text: str, **options: object) -> object:
        return load(text, **options).recipe.training.optimizer

    assert optimizer("training: {optimizer: sgd}") == Sgd()
    assert optimizer("training: {optimizer: {weight_decay: 0.2}}") == AdamW(weight_decay=0.2)
    assert optimizer("training: {optimizer: {beta_1: 0.8}}", overrides=["training.optimizer.beta_2=0.9"]) == AdamW(
        beta_1=0.8, beta_2=0.9
    )
    assert (
        optimizer("training: {optimizer: {type: adamw, beta_1: 0.8}}", overrides=["training.optimizer=adam"]) == Adam()
    )
    kept = optimizer("training: {optimizer: {beta_1: 0.8}}", overrides=["training.optimizer=adamw"])
    assert kept == AdamW(beta_1=0.8)
    flow = optimizer("training: {}", overrides=["training.optimizer={type: sgd, momentum: 0.5}"])
    assert flow == Sgd(momentum=0.5)
    assert load("training: {scheduler: linear}", preset="tutorial").recipe.training.scheduler == Linear()
    kept_minimum = load("training: {scheduler: cosine}", preset="tutorial").recipe.training.scheduler
    assert kept_minimum == Cosine(min_lr_ratio=0.0)
    assert load("tokenizer: bpe").recipe.tokenizer == BpeTokenizer()


def test_a_flag_that_chooses_a_type_leaves_the_keys_written_beside_it(load: Load) -> None:
    """Nothing that was written is lost in silence: it acts, or it is refused."""
    flags = {"training.optimizer.type": ("--optimizer", "sgd")}
    rate = "training.learning_rate=0.1"
    kept = load("{}", overrides=[rate, "training.optimizer.momentum=0.5"], flags=flags).recipe.training.optimizer
    assert isinstance(kept, Sgd)
    assert kept.momentum == 0.5
    below = "training: {optimizer: {type: adam, beta_1: 0.5}}"
    assert load(below, overrides=[rate], flags=flags).recipe.training.optimizer == Sgd()
    with pytest.raises(RecipeErrors, match="sgd has no such key"):
        load("{}", overrides=[rate, "training.optimizer.beta_1=0.5"], flags=flags)


@pytest.mark.fast
def test_empty_sections_and_null(load: Load) -> None:
    assert load("model:\ntraining:\n  optimizer:\n").recipe == Recipe()
    assert load("training: {gradient_clip_norm: null}").recipe.training.gradient_clip_norm is None
    assert (
        load("training: {keep_last_n: 5}", overrides=["training.keep_last_n=null"]).recipe.training.keep_last_n is None
    )


def test_dotted_keys_in_a_file(load: Load) -> None:
    assert load("training.epochs: 2\nmodel.d_model: 64").recipe.training.epochs == 2


@pytest.mark.parametrize(
    ("override", "value"),
    [("ROMEO:", "ROMEO:"), ("a: b # c", "a: b # c"), ('"12"', "12"), ("*.txt", "*.txt"), ("no", "no"), ("a=b", "a=b")],
)
def test_override_values_are_read_as_people_mean_them(override: str, value: str) -> None:
    recipe = collect(preset="small", overrides=[f"tracking.sample.prompt={override}"]).resolve().recipe
    assert recipe.tracking.sample.prompt == value


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["training.epochs"], "'training.epochs' is not key.path=value"),
        (["=3"], "'=3' is not key.path=value"),
        (["a..b=3"], "'a..b=3' is not key.path=value"),
        (["data.paths=[1, 2"], "YAML: expected ',' or ']'"),
        ([f"training.seed={'9' * 900}"], "a number of 900 digits"),
        (["training.epochs=1", "training.epochs=2"], "training.epochs is given twice"),
        (
            ["training.lr=1", "training.learning_rate=2"],
            "training.learning_rate is written twice: as training.lr on the",
        ),
    ],
)
def test_faulty_overrides(overrides: list[str], wanted: str) -> None:
    with pytest.raises(RecipeErrors) as caught:
        collect(preset="small", overrides=overrides)
    assert str(caught.value).startswith("command line: ")
    assert wanted in str(caught.value)


def test_config_may_be_a_preset_but_not_two() -> None:
    assert collect(config="small").resolve() == collect(preset="small").resolve()
    assert collect(config="small", preset="small").preset == "small"
    with pytest.raises(RecipeErrors, match="two presets"):
        collect(config="small", preset="large")
    with pytest.raises(RecipeErrors) as caught:
        collect(preset="smal")
    assert "did you mean 'small'?" in str(caught.value)


def test_the_name_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "My Recipe.yaml").write_text("training: {epochs: 1}")
    assert collect(config=tmp_path / "My Recipe.yaml").preset == "my-recipe"
    assert collect(config=tmp_path / "My Recipe.yaml", preset="large").preset == "large"
    assert collect().preset == "auto"
    assert collect(preset="medium").preset == "medium"


def test_files_that_are_no_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.yaml").write_text("# nothing\n")
    Path("list.yaml").write_text("- 1\n")
    Path("latin.yaml").write_bytes(b"a: 1\nb: caf\xe9\n")
    Path("utf16.yaml").write_text("a: 1", encoding="utf-16")
    Path("huge.yaml").write_text("#" * 500_000)
    Path("folder.yaml").mkdir()

    def message(name: str) -> str:
        with pytest.raises(RecipeErrors) as caught:
            collect(config=name)
        assert caught.value.exit_code == 2
        return str(caught.value)

    assert message("empty.yaml").startswith("empty.yaml: the recipe is empty")
    assert message("list.yaml").startswith("list.yaml:1:1: a recipe is a mapping of sections")
    assert message("latin.yaml").startswith("latin.yaml:2: byte 0xE9 is not UTF-8")
    assert message("utf16.yaml").startswith("utf16.yaml:1: byte 0xFF is not UTF-8")
    assert message("huge.yaml").startswith("huge.yaml: larger than 400,000 bytes")
    assert message("folder.yaml").startswith("folder.yaml: a folder; a recipe is a YAML file")
    assert "did you mean 'list.yaml'?" in message("lsit.yaml")
    assert "the preset of that name is --config small" in message("configs/small.yaml")
    assert "a path can't hold a NUL character" in message("a\0b.yaml")
    assert message("x" * 5000)


def test_a_byte_order_mark_is_no_part_of_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbftraining: {epochs: 2}")
    assert collect(config=path).resolve().recipe.training.epochs == 2


def test_auto_is_sized_to_data_and_device() -> None:
    tree = collect(overrides=["training.seed=7"])
    sizes = [
        tree.resolve(Facts(characters, device)).recipe.model.d_model
        for device in ("cpu", "cuda:0", "mps")
        for characters in (1_000, 1_000_000, 5_000_000, 10**12)
    ]
    assert sizes[:4] == sorted(sizes[:4])
    assert sizes[4:8] == sizes[8:] == sorted(sizes[4:8])
    assert sizes[3] < sizes[7]
    assert tree.resolve(Facts(1, "cpu")).recipe == tree.resolve().recipe
    assert tree.resolve().recipe.training.seed == 7


def test_auto_is_at_fault_only_where_every_tier_is() -> None:
    assert collect(overrides=["model.num_heads=8", "model.d_model=512"])
    draft = collect(overrides=["model.num_heads=12"]).resolve()  # fits some tier, but not the smallest
    assert draft.recipe.model.d_model > 128
    with pytest.raises(RecipeErrors, match="not a multiple"):
        collect(overrides=["model.num_heads=7"])
    with pytest.raises(RecipeErrors, match="not a multiple"):
        collect(overrides=["model.num_heads=12"]).resolve(Facts(10, "cpu"))


def test_a_preset_gives_way(load: Load) -> None:
    """What a preset says is no contradiction of what the user writes."""
    resolved = load("training: {max_steps: 5, scheduler: one_cycle}\nmodel: {position: learned}", preset="small")
    assert resolved.recipe.training.epochs == 10
    assert "training.epochs" not in resolved.origins
    assert load("training: {scheduler: wsd, max_steps: 50}", preset="modern").recipe.training.scheduler == Wsd(
        min_lr_ratio=0.0
    )


@pytest.mark.fast
def test_light_imports() -> None:
    code = (
        "import sys, trifecta.recipe, trifecta.recipe.json_schema as j; trifecta.recipe.collect().resolve();"
        "j.json_schema(); trifecta.recipe.known_keys();"
        "print([m for m in ('torch', 'numpy', 'rich', 'matplotlib', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_light_imports_control() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, trifecta.randomness; print('numpy' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "True"


def test_errors_are_recipe_errors() -> None:
    with pytest.raises(RecipeError) as caught:
        collect(preset="small", overrides=["training.epochs=0"])
    assert caught.value.exit_code == 2
