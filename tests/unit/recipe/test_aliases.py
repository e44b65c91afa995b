"""Every accepted spelling, and every block of the documents that trifecta follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trifecta.errors import RecipeErrors
from trifecta.recipe import Recipe, Resolved, collect, known_keys
from trifecta.recipe.aliases import ALIASES, NOT_YET, SECTIONS, TYPE_NAMES, Alias
from trifecta.recipe.components import Adam, AdamW, Cosine, Linear, Sgd, Step
from trifecta.recipe.inert import value_of
from trifecta.recipe.keys import components, sections

Load = Callable[..., Resolved]
KEYS = {info.key: info for info in reversed(known_keys())}
"""Where several types of a component have a key, that of the first."""

# Each row: what a block of S1 says, and what it means. Keys and values are the document's.
S1_BLOCKS: list[tuple[str, dict[str, Any]]] = [
    ("model: {d_model: 128, num_heads: 4, num_layers: 2, d_ff: 512, dropout: 0.1}",
     {"model.d_model": 128, "model.num_heads": 4, "model.num_layers": 2, "model.d_ff": 512, "model.dropout": 0.1}),
    ("model: {d_model: 512, num_heads: 8, num_layers: 6, d_ff: 2048, dropout: 0.1}",
     {"model.d_model": 512, "model.num_heads": 8, "model.num_layers": 6, "model.d_ff": 2048}),
    ("model: {d_model: 768, num_heads: 12, num_layers: 12, d_ff: 3072, dropout: 0.1}",
     {"model.d_model": 768, "model.num_heads": 12, "model.num_layers": 12, "model.d_ff": 3072}),
    ("training:\n  batch_size: 8\n  gradient_accumulation_steps: 4  # 32 in all\n",
     {"training.batch_size": 8, "training.gradient_accumulation_steps": 4}),
    ("training:\n  warmup_steps: 100\n", {"training.warmup_steps": 100}),
    ('training:\n  scheduler: "cosine"\n  min_lr_ratio: 0.1\n', {"training.scheduler": Cosine(min_lr_ratio=0.1)}),
    ('training:\n  scheduler: "linear"\n  min_lr_ratio: 0.01\n', {"training.scheduler": Linear(min_lr_ratio=0.01)}),
    ('training:\n  scheduler: "step"\n  step_size: 3\n  gamma: 0.5\n',
     {"training.scheduler": Step(step_size=3, gamma=0.5)}),
    ("training:\n  validation_split: 0.1\n", {"training.validation_split": 0.1}),
    ("training:\n  early_stopping_patience: 5\n", {"training.early_stopping_patience": 5}),
    ("training:\n  use_mixed_precision: false\n", {"execution.precision": "fp32"}),
    ("training:\n  gradient_clip_norm: 1.0\n", {"training.gradient_clip_norm": 1.0}),
    ("training:\n  save_every_n_epochs: 5\n  keep_last_n: 3\n  save_best: true\n",
     {"training.save_every_n_epochs": 5, "training.keep_last_n": 3, "training.save_best": True}),
    ("training:\n  seed: 42\n  deterministic: true\n", {"training.seed": 42, "training.deterministic": True}),
]  # fmt: skip

OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("VocabSize: 256\nHiddenDim: 512\nNumLayers: 8\nNumHeads: 8\nFFNDim: 2048\nMaxSeqLen: 64\nDropoutRate: 0.1\n"
     "LearningRate: 3e-4\nUseRoPE: true\nUseSwiGLU: true\nUseRMSNorm: true\nUseExplicitMask: false\n",
     {"tokenizer.vocab_size": 256, "model.d_model": 512, "model.num_layers": 8, "model.num_heads": 8,
      "model.d_ff": 2048, "data.sequence_length": 64, "model.dropout": 0.1, "training.learning_rate": 3e-4,
      "model.position": "rope", "model.activation": "swiglu", "model.norm": "rmsnorm", "model.attention": "fused"}),
    ("model: {HiddenDim: 64, MaxSeqLen: 32, LearningRate: 1e-3, VocabSize: 99, UseRoPE: false, UseSwiGLU: false, "
     "UseRMSNorm: false, UseExplicitMask: true}",
     {"model.d_model": 64, "data.sequence_length": 32, "training.learning_rate": 1e-3, "tokenizer.vocab_size": 99,
      "model.position": "learned", "model.activation": "gelu", "model.norm": "layernorm",
      "model.attention": "explicit"}),
    ("TokenizerConfig: {Type: bpe, VocabSize: 512}\nTransformerConfig: {NumLayers: 3}",
     {"tokenizer.type": "bpe", "tokenizer.vocab_size": 512, "model.num_layers": 3}),
    ("model: {num_heads: 12, d_model: 768, dff: 3072, dropout_rate: 0.2}",
     {"model.d_ff": 3072, "model.dropout": 0.2}),
    ("optimizer: {type: Adam, learning_rate: 0.0001, beta_1: 0.8, beta_2: 0.99, epsilon: 1e-7, clipnorm: 0.5}",
     {"training.optimizer": Adam(beta_1=0.8, beta_2=0.99, epsilon=1e-7), "training.learning_rate": 1e-4,
      "training.gradient_clip_norm": 0.5}),
    ("optimizer: AdamW\ntrain:\n  weight_decay: 0.05\n  beta1: 0.7\n  beta2: 0.9\n  epochs: 5\n  batch_size: 64\n"
     "  gradient_accumulation_steps: 4\n  validation_split: 0.2\n",
     {"training.optimizer": AdamW(weight_decay=0.05, beta_1=0.7, beta_2=0.9), "training.epochs": 5,
      "training.batch_size": 64, "training.gradient_accumulation_steps": 4, "training.validation_split": 0.2}),
    ("optimizer: SGD", {"training.optimizer": Sgd()}),
    ('execution: {device: "cuda:0", mixed_precision: true}',
     {"execution.device": "cuda:0", "execution.precision": "bf16"}),
    ("training: {num_workers: 2, sequence_length: 64, max_grad_norm: 0.5, lr: 1e-3, device: cpu}",
     {"data.num_workers": 2, "data.sequence_length": 64, "training.gradient_clip_norm": 0.5,
      "training.learning_rate": 1e-3, "execution.device": "cpu"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "meaning"), [*S1_BLOCKS, *OTHERS])
def test_documented_blocks(text: str, meaning: dict[str, Any], load: Load) -> None:
    recipe = load(text).recipe
    assert {key: value_of(recipe, key) for key in meaning} == meaning


@pytest.mark.fast
def test_all_of_s1s_training_keys_together(load: Load) -> None:
    bodies = [text.removeprefix("training:\n") for text, _ in S1_BLOCKS if text.startswith("training:\n")]
    lines = {line.split(":")[0]: line for body in bodies for line in body.splitlines() if "step_size" not in line}
    del lines["  gamma"], lines["  scheduler"]
    assert load("training:\n  scheduler: cosine\n" + "\n".join(lines.values())).recipe.training.seed == 42


@pytest.mark.fast
def test_each_alias_reaches_a_real_key() -> None:
    unreal = [spelling for spelling, alias in ALIASES.items() if alias.key not in KEYS]
    assert unreal == []
    assert [name for name, path in SECTIONS.items() if path not in {*sections(), *components()}] == []
    assert [
        t for path, names in TYPE_NAMES.items() for t in names.values() if t not in components()[path].options
    ] == []
    assert [s for s in ALIASES if s in KEYS] == [], "an alias would hide a key"


def test_each_alias_reaches_a_real_key_control(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALIASES, "model.width", Alias("model.d_modle"))  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        test_each_alias_reaches_a_real_key()


def a_value(alias: Alias) -> Any:
    """Some value of the alias, as YAML, other than the key's default."""
    info = KEYS[alias.key]
    if alias.meaning is not None:
        return next(flag for flag, value in alias.meaning.items() if value != info.default)
    if alias.key == "training.optimizer.class_name":
        return "torch.optim.NAdam"
    if info.choices:
        return next(choice for choice in info.choices if choice != info.default)
    values = {
        "whole number": 3 if alias.key == "data.num_workers" else 400,
        "number": 2.5 if alias.key in ("execution.loss_scale_growth", "objective.mean_span_length") else 0.25,
        "true or false": "true",
        "text": "cpu",
    }
    return values[info.type.removesuffix(" or null")]


@pytest.mark.parametrize("spelling", ALIASES)
def test_each_alias_acts(spelling: str) -> None:
    alias = ALIASES[spelling]
    component = KEYS[alias.key].component
    types = [f"{alias.key.rpartition('.')[0]}.type={component}"] if component not in (None, "gpt") else []
    types += ["training.optimizer.momentum=0.5"] if alias.key.endswith("nesterov") else []
    types += ["execution.precision=fp16"] if "loss_scale" in alias.key else []
    types += ["execution.gradient_checkpointing=true"] if "checkpoint_every" in alias.key else []
    value = a_value(alias)
    shown = str(value).lower() if isinstance(value, bool) else value
    extra = ["model.num_heads=1"] if alias.key == "model.d_model" else []
    extra += ["model.d_model=800"] if alias.key == "model.num_heads" else []
    extra += ["objective.choose=span"] if alias.key == "objective.mean_span_length" else []
    preset = {"masked": "bert-modern", "span": "t5-modern"}.get(str(component), "medium")
    resolved = collect(preset=preset, overrides=[f"{spelling}={shown}", *types, *extra]).resolve()
    assert alias.key in resolved.written
    wanted = alias.meaning[value] if alias.meaning is not None else True if value == "true" else value
    assert value_of(resolved.recipe, alias.key) == wanted


@pytest.mark.fast
def test_two_spellings_in_one_source_and_in_two(load: Load) -> None:
    with pytest.raises(RecipeErrors, match="epochs is written twice"):
        load("training: {epochs: 1}\ntrain: {epochs: 1}")
    with pytest.raises(RecipeErrors, match="precision is written twice"):
        load("training: {use_mixed_precision: true}\nexecution: {precision: bf16}")
    with pytest.raises(RecipeErrors, match="type is written twice"):
        load("optimizer: adam\ntraining: {optimizer: adam}")
    assert load("HiddenDim: 64", overrides=["model.d_model=128"]).recipe.model.d_model == 128


def test_names_are_case_sensitive(load: Load) -> None:
    with pytest.raises(RecipeErrors, match="did you mean 'HiddenDim'"):
        load("hiddendim: 64")


@pytest.mark.parametrize("name", ["strategy", "BlockSize", "num_trials"])
def test_what_is_not_built_is_not_accepted(name: str, load: Load) -> None:
    with pytest.raises(RecipeErrors, match="not supported yet"):
        load(f"execution: {{{name}: 1}}")


def test_not_yet_holds_no_key_that_exists() -> None:
    names = {info.key.rpartition(".")[2] for info in known_keys()} | {
        o for c in components().values() for o in c.options
    }
    assert NOT_YET.isdisjoint(names)


def test_an_alias_that_is_a_default_changes_nothing(load: Load) -> None:
    assert load("HiddenDim: 512\nUseRoPE: true").recipe == Recipe()
