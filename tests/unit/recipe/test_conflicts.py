"""Contradictions, and keys that can't act."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trifecta.errors import RecipeErrors
from trifecta.recipe import Recipe, Resolved, inert
from trifecta.recipe.aliases import canonical
from trifecta.recipe.inert import INERT, inert_keys, normalised, value_of
from trifecta.recipe.keys import components, known_keys
from trifecta.recipe.tree import Rank, plain
from trifecta.recipe.yaml_nodes import parse

Load = Callable[..., Resolved]

CONTRADICTIONS = [
    ("model: {d_model: 100, num_heads: 3}",
     ["model.d_model 100", "model.num_heads 3", "recipe.yaml:1:34", "set model.d_model to 102"]),
    ("model: {num_heads: 8, num_kv_heads: 3}", ["model.num_heads 8", "model.num_kv_heads 3", "recipe.yaml:1:37"]),
    ("model: {d_model: 12, num_heads: 4}", ["rotary positions need heads of even width", "is 3"]),
    ("training: {warmup_steps: 11, max_steps: 10}", ["training.warmup_steps 11 is more than training.max_steps 10"]),
    ("training: {warmup_steps: 9, max_steps: 10, scheduler: wsd}",
     ["warm-up (9 steps) and decay (0.2 of 10 steps) overlap"]),
    ("model: {position: learned, max_sequence_length: 64}", ["data.sequence_length 128 is longer than"]),
    ("data: {paths: [a.txt, b.txt], validation_paths: [b.txt]}", ["both hold 'b.txt'"]),
    ("data: {paths: ['-'], validation_paths: ['-']}", ["standard input (-) can be read only once"]),
    ("training: {scheduler: {type: piecewise, boundaries: [5], factors: [1, 0.5, 0.1]}}",
     ["has 3 items for 1 boundaries"]),
    ("training: {scheduler: {type: piecewise, boundaries: [5, 5], factors: [1, 0.5, 0.1]}}", ["must ascend"]),
    ("training: {scheduler: {type: piecewise, boundaries: [5], factors: [0.5, 1]}}", ["must never rise"]),
    ("training: {max_steps: 5, scheduler: {type: piecewise, boundaries: [5], factors: [1, 0.5]}}",
     ["not before the last step"]),
]  # fmt: skip

SILENCED: dict[str, str] = {
    "model.rope_theta": "model: {rope_theta: 5, position: none}",
    "model.max_sequence_length": "model: {max_sequence_length: 500}",
    "model.dropout": "model: {dropout: 0.2, attention_dropout: 0, feedforward_dropout: 0, embedding_dropout: 0}",
    "data.builtin": "data: {builtin: grammar, paths: [a.txt]}",
    "data.invalid_utf8": "data: {builtin: grammar, invalid_utf8: replace}",
    "data.text_field": "data: {paths: [a.txt, b.TXT.gz], text_field: story}",
    "training.validation_split": "training: {validation_split: 0.2}\ndata: {validation_paths: [a.txt]}",
    "training.epochs": "training: {epochs: 4, max_steps: 4}",
    "training.warmup_steps": "training: {warmup_steps: 4, scheduler: one_cycle}",
    "training.optimizer.nesterov": "training: {optimizer: {type: sgd, momentum: 0, nesterov: true}}",
    "training.evaluate_every_n_steps": "training: {evaluate_every_n_steps: 5, max_steps: 4}",
    "training.save_every_n_steps": "training: {save_every_n_steps: 5, max_steps: 4}",
    "training.save_every_n_epochs": "training: {save_every_n_epochs: 5, epochs: 4}",
    "training.early_stopping_patience": "training: {early_stopping_patience: 5, epochs: 4}",
    **{
        f"execution.{name}": f"execution: {{{name}: {value}}}"
        for name, value in {
            "loss_scale": 2,
            "loss_scale_growth": 3,
            "loss_scale_backoff": 0.1,
            "loss_scale_growth_steps": 7,
        }.items()
    },
    "tracking.sample.prompt": "tracking: {sample: {prompt: x, every_n_epochs: null}}",
    "tracking.sample.max_tokens": "tracking: {sample: {max_tokens: 7, every_n_epochs: null}}",
    "tracking.sample.temperature": "tracking: {sample: {temperature: 1, every_n_epochs: null}}",
}

FINE = [
    "model: {rope_theta: 5}", "model: {position: learned, max_sequence_length: 128}",
    "model: {position: alibi}",
    "model: {d_model: 12, num_heads: 4, position: learned}", "training: {warmup_steps: 10, max_steps: 10}",
    "data: {paths: [a.jsonl, b.txt], text_field: story}", "data: {paths: [folder], text_field: story}",
    "data: {text_field: story}", "training: {optimizer: {type: muon, momentum: 0}}",
    "training: {scheduler: one_cycle, warmup_steps: 0}", "training: {max_steps: 4, save_every_n_epochs: 100}",
    "training: {epochs: 3, early_stopping_patience: 5, evaluate_every_n_steps: 10}",
    "training: {scheduler: {type: piecewise, boundaries: [5, 9], factors: [1, 0.5, 0.5]}}",
    "training: {scheduler: wsd, warmup_steps: 100}", "model: {num_heads: 8, num_kv_heads: 2}",
]  # fmt: skip


@pytest.mark.fast
@pytest.mark.parametrize(("text", "wanted"), CONTRADICTIONS)
def test_contradictions(text: str, wanted: list[str], load: Load) -> None:
    with pytest.raises(RecipeErrors) as caught:
        load(text)
    assert len(caught.value.errors) == 1
    assert all(part in str(caught.value) for part in wanted), str(caught.value)


@pytest.mark.parametrize("rule", INERT, ids=lambda rule: rule.key)
def test_a_written_key_that_cannot_act(rule: inert.Inert, load: Load) -> None:
    with pytest.raises(RecipeErrors) as caught:
        load(SILENCED[rule.key])
    (error,) = caught.value.errors
    assert error.what.startswith(f"{rule.key} can't take effect: {rule.because} (")
    assert all(key in error.what for key in rule.by if key.partition(".")[2] in SILENCED[rule.key])
    assert error.excerpt is not None


@pytest.mark.parametrize("text", FINE)
def test_fine(text: str, load: Load) -> None:
    assert load(text)


@pytest.mark.fast
def test_a_later_source_overrides_instead_of_contradicting(load: Load) -> None:
    text = "training: {epochs: 3, save_every_n_steps: 50, warmup_steps: 2}\nmodel: {rope_theta: 500}"
    resolved = load(text, overrides=["model.position=alibi"], flags={"training.max_steps": ("--max-steps", 5)})
    assert resolved.written == {"training.max_steps", "training.warmup_steps", "model.position"}
    assert (resolved.recipe.training.epochs, resolved.recipe.model.rope_theta) == (10, 10000.0)
    with pytest.raises(RecipeErrors, match="epochs can't take effect"):
        load("training: {max_steps: 3}", flags={"training.epochs": ("--epochs", 5)})
    paths = load("data: {builtin: grammar}", flags={"data.paths": ("DATA", ["a.txt"])})
    assert paths.recipe.data.builtin is None


def test_conflicts_with_a_faulty_key_are_not_reported(load: Load) -> None:
    with pytest.raises(RecipeErrors) as caught:
        load("model: {d_model: 101, num_heads: x}\ntraining: {max_steps: x, epochs: 3, warmup_steps: 5}")
    assert [error.what.partition(":")[0] for error in caught.value.errors] == ["model.num_heads", "training.max_steps"]


@pytest.mark.parametrize("rule", INERT, ids=lambda rule: rule.key)
def test_rules_name_real_keys_and_reset_to_defaults(rule: inert.Inert) -> None:
    keys = {info.key for info in known_keys()}
    assert {rule.key, *rule.by} <= keys
    recipe = unchecked(SILENCED[rule.key])
    assert rule.key in inert_keys(recipe)
    reset = normalised(recipe)
    assert normalised(reset) == reset
    default = next(
        info.default for info in known_keys()
        if info.key == rule.key and info.component in (None, type_at(recipe, rule.key))
    )  # fmt: skip
    assert value_of(reset, rule.key) == default


def unchecked(text: str) -> Any:
    """The recipe of a text without the check for contradictions."""
    root, _ = parse(text, "f", Rank.FILE)
    assert root is not None
    values: Any = plain(canonical(root)[0])
    if "optimizer" in values.get("training", {}):
        values["training"]["optimizer"].setdefault("type", "adamw")
    return Recipe.model_validate(values)


def type_at(recipe: Any, key: str) -> str | None:
    section = key.rpartition(".")[0]
    return value_of(recipe, f"{section}.type") if section in components() else None
