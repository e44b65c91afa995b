"""dump and load are inverse; what differs between recipes; the hash in a run's name."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from trifecta.recipe import Recipe, Resolved, changes, collect, conflicts, dump, known_keys, preset_names, refused_hash
from trifecta.recipe import dump as dump_function
from trifecta.recipe.changes import policies
from trifecta.recipe.components import Adam, BpeTokenizer, Phase, Piecewise, Section, Sgd
from trifecta.recipe.inert import normalised
from trifecta.recipe.keys import components, models_below, type_of

Load = Callable[..., Resolved]

# -------------------------------------------------------------------------------- random valid recipes from the schema


def numbers(type_: type, metadata: list[Any]) -> st.SearchStrategy[Any]:
    limits = {
        name: getattr(limit, name) for limit in metadata for name in ("ge", "gt", "le", "lt") if hasattr(limit, name)
    }
    low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
    if type_ is int:
        low = (low or 0) + ("gt" in limits)
        return st.integers(low, min(low + 5000, high - ("lt" in limits) if high is not None else low + 5000))
    low, high = (-1e30 if low is None else low), (1e30 if high is None else high)
    return st.floats(low, high, exclude_min="gt" in limits, exclude_max="lt" in limits)


arguments_of_a_class: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e30, 1e30) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3), max_leaves=4,
)  # fmt: skip


def values(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    if models_below(annotation):
        return st.one_of(*(sections(model) for model in models_below(annotation)))
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values(arguments[0], [*arguments[1].metadata])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is dict:
        return st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), arguments_of_a_class, max_size=3)
    if origin is list:
        return st.lists(values(arguments[0], []), min_size=2 if metadata else 0, max_size=4)
    if arguments:
        return st.one_of(*(values(argument, metadata) for argument in arguments))
    if annotation in (int, float):
        return numbers(annotation, metadata)
    patterns = [limit.pattern for limit in metadata if getattr(limit, "pattern", None)]
    if patterns:
        texts = ["auto", "cpu", "mps", "cuda", "cuda:3", "torch.optim.NAdam", "a_1.B"]
        return st.sampled_from([text for text in texts if re.match(patterns[0], text)])
    return {NoneType: st.none(), bool: st.booleans(), str: st.text(min_size=1, max_size=12)}[annotation]


@cache
def sections(model: type[Section]) -> st.SearchStrategy[dict[str, Any]]:
    """Built once: building takes longer than drawing."""
    fields = {
        name: st.just(info.default) if name == "type" else values(info.annotation, info.metadata)
        for name, info in model.model_fields.items()
    }
    return st.fixed_dictionaries(fields)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    found = draw(sections(Recipe))
    model, scheduler = found["model"], found["training"]["scheduler"]
    num_heads, num_kv_heads = draw(st.sampled_from([(1, None), (4, 2), (6, 6), (5, 1)]))
    model |= {"num_heads": num_heads, "d_model": num_heads * 2 * draw(st.integers(1, 40))}
    if "num_kv_heads" in model:
        model["num_kv_heads"] = num_kv_heads
    fitting = [kind for kind, models in conflicts.NEEDS.items() if model["type"] in models]
    options = components()["objective"].options
    objective = found["objective"] = draw(st.one_of(*(sections(options[kind]) for kind in fitting)))
    if "masked_ratio" in objective:
        objective["random_ratio"] *= 1 - objective["masked_ratio"]
    if scheduler["type"].startswith("piecewise"):
        scheduler["boundaries"] = sorted(set(scheduler["boundaries"]))
        scheduler["factors"] = sorted((*scheduler["factors"], *[0.5] * 9), reverse=True)[
            : len(scheduler["boundaries"]) + 1
        ]
    _make_likely(found)
    recipe = Recipe.model_validate(found)
    assume(not conflicts.check(recipe, {}, set()))
    return normalised(recipe)


def _make_likely(found: dict[str, Any]) -> None:
    """Settles what hardly ever agrees by chance."""
    model, training, objective = found["model"], found["training"], found["objective"]
    found["data"]["sequence_length"] += 8
    augment = found["data"]["augment"]
    augment |= {"synonyms": augment["synonyms"] or "file", "synonyms_path": augment["synonyms_path"] or "a.tsv"}
    if training["lora_rank"] is not None or training["freeze_body"]:
        training["init_from"] = training["init_from"] or "runs/a"
        training["lora_rank"] = training["lora_rank"] and min(training["lora_rank"], model["d_model"])
        training["lora_targets"] = [name for name in training["lora_targets"] if name != "gate"] or ["query"]
    if training["optimizer"]["type"] in ("sgd", "custom"):
        training["learning_rate"] = training["learning_rate"] or 0.125
    _make_order_likely(found)
    if model["type"] == "vit":
        found["tokenizer"] = {"type": "none"}
        model["patch_size"] = min(model["patch_size"], 64)
        model |= {"channels": 3, "image_size": model["patch_size"] * 3}
        objective |= {name: objective[name][:1] or [0.5] for name in ("mean", "std")}
    elif found["tokenizer"]["type"] == "none":
        found["tokenizer"] = {"type": "byte"}


def _make_order_likely(found: dict[str, Any]) -> None:
    """Which samples come when."""
    data, training, plain = found["data"], found["training"], found["objective"]["type"] in conflicts.PLAIN_TEXT
    if data["weights"] is not None:
        data["paths"] = [f"{number}.txt" for number in range(len(data["weights"]))]
        data["near_duplicates"] = None
    for phase in training["phases"] or []:
        phase["steps"] = None if phase["epochs"] else phase["steps"] or 3
        length = phase["sequence_length"]
        phase["sequence_length"] = min(length, data["sequence_length"]) if length and plain else None
    if training["phases"] is not None and training["scheduler"]["type"] == "step":
        training["phases"] = None
    if training["phases"] is not None or data["weights"] is not None or found["objective"]["type"] == "images":
        data["curriculum"] = {"type": "none"}
    if data["curriculum"]["type"] == "length" and data["samples"] == "windows":
        data["samples"] = "lines"


@given(recipes())
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_load_inverts_dump(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(dump(recipe), encoding="utf-8")
    resolved = collect(config=path).resolve()
    assert resolved.recipe == recipe
    assert dump(resolved.recipe) == dump(recipe)
    assert refused_hash(resolved.recipe) == refused_hash(recipe)
    assert changes(recipe, resolved.recipe) == []


@pytest.mark.fast
def test_a_number_of_updates_that_phases_replace_silences_nothing(load: Load) -> None:
    """Hypothesis found it: 9 was beyond the last of 5 updates, which the phases had made void."""
    recipe = load("training: {seed: 1}").recipe
    says = {"max_steps": 5, "evaluate_every_n_steps": 9, "early_stopping_patience": 2, "epochs": 1}
    whole = recipe.training.model_copy(update=says)
    phased = whole.model_copy(update={"phases": [Phase(epochs=1), Phase(epochs=1)]})
    assert normalised(recipe.model_copy(update={"training": whole})).training.evaluate_every_n_steps is None
    plain = normalised(recipe.model_copy(update={"training": phased}))
    assert plain.training.evaluate_every_n_steps == 9
    assert load(dump(plain)).recipe == plain


def test_load_inverts_dump_control(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three digits of a float are too few, and the test above sees it."""
    module = __import__("sys").modules[dump_function.__module__]
    monkeypatch.setattr(module, "_number", lambda value: f"{value:.3e}")
    path = tmp_path / "recipe.yaml"
    recipe = collect(preset="small", overrides=["training.learning_rate=1.23456e-4"]).resolve().recipe
    path.write_text(dump(recipe))
    assert collect(config=path).resolve().recipe != recipe


@pytest.mark.fast
@pytest.mark.parametrize("name", preset_names())
def test_presets_survive_dump(name: str, load: Load) -> None:
    recipe = collect(preset=name).resolve().recipe
    assert load(dump(recipe)).recipe == recipe


@pytest.mark.parametrize(
    "text",
    ["no", "012", "3e-4", "true", "null", "~", "a: b", "- x", "#x", "", " ", "'", '"', "\\", "\n", "\x00", "\x85",
     "\u2028",
     "\ufeff", "é😀", "\udcff", "*.txt", "C:\\x", "{a}", "x" * 300, "Null", "0x1f", "=", "<<", "!!python/x"],
)  # fmt: skip
def test_texts_come_back(text: str, load: Load) -> None:
    prompt = Recipe().tracking.sample.model_copy(update={"prompt": text})
    recipe = Recipe(tracking=Recipe().tracking.model_copy(update={"sample": prompt}))
    assert load(dump(recipe)).recipe.tracking.sample.prompt == text


@pytest.mark.fast
def test_older_readers_agree() -> None:
    recipe = (
        collect(preset="gpt-s0", overrides=["tracking.sample.prompt=no", "training.learning_rate=1e-7"])
        .resolve()
        .recipe
    )
    read = yaml.safe_load(dump(recipe))
    assert Recipe.model_validate(read) == recipe


@pytest.mark.fast
def test_inert_keys_are_not_written() -> None:
    text = dump(collect(preset="small", overrides=["model.position=alibi", "training.max_steps=500"]).resolve().recipe)
    assert "rope_theta" not in text
    assert "\n  epochs:" not in text
    assert "max_steps: 500" in text
    assert text.startswith("model:\n  type: gpt\n  d_model: 128\n")


# ------------------------------------------------------------------------------------------------------------- changes


def resolved(*overrides: str) -> Recipe:
    return collect(preset="small", overrides=overrides).resolve().recipe


@pytest.mark.fast
def test_changes_and_their_policies() -> None:
    found = changes(resolved(), resolved("training.keep_last_n=1", "training.epochs=3", "model.d_model=64"))
    assert [(c.key, c.old, c.new, c.policy) for c in found] == [
        ("model.d_model", 128, 64, "refused"), ("training.epochs", 10, 3, "recorded"),
        ("training.keep_last_n", 3, 1, "free"),
    ]  # fmt: skip
    assert changes(resolved(), resolved()) == []


def test_changes_of_a_component_and_of_inert_keys() -> None:
    found = changes(resolved(), resolved("training.optimizer=sgd", "tokenizer=bpe"))
    assert [(c.key, c.old, c.new, c.policy) for c in found] == [
        ("tokenizer.type", "char", "bpe", "refused"), ("training.optimizer.type", "adamw", "sgd", "refused"),
    ]  # fmt: skip
    found = changes(resolved("training.epochs=3"), resolved("training.max_steps=5"))
    assert [(c.key, c.old, c.new) for c in found] == [("training.epochs", 3, 10), ("training.max_steps", None, 5)]
    found = changes(resolved("data.paths=[a.txt]"), resolved("data.paths=[a.jsonl]"))
    assert [c.key for c in found] == ["data.paths"]


@pytest.mark.fast
def test_every_key_has_a_policy_and_only_refused_ones_change_the_hash() -> None:
    by_key: dict[str, set[str]] = {}
    for info in known_keys():
        by_key.setdefault(info.key, set()).add(info.resume)
        assert info.help.endswith("."), info.key
    assert all(len(policy) == 1 for policy in by_key.values())
    base = refused_hash(resolved())
    assert len(base) == 8
    assert int(base, 16) >= 0
    for override in ("training.epochs=3", "training.keep_last_n=1", "training.scheduler=linear", "data.paths=[a.txt]"):
        assert refused_hash(resolved(override)) == base, override
    for override in (
        "model.d_model=64",
        "training.seed=1",
        "tokenizer=bpe",
        "data.shuffle=false",
        "data.builtin=grammar",
    ):
        assert refused_hash(resolved(override)) != base, override
    assert policies()["data.paths"] == "recorded"


def test_known_keys_describe_themselves() -> None:
    keys = {(info.key, info.component): info for info in known_keys()}
    epochs = keys["training.epochs", None]
    assert (epochs.type, epochs.default, epochs.bounds, epochs.unit, epochs.resume) == (
        "whole number", 10, (">= 1",), "epochs", "recorded",
    )  # fmt: skip
    assert keys["training.optimizer.momentum", "sgd"].default == Sgd().momentum
    assert ("training.optimizer.momentum", "adam") not in keys
    assert keys["training.optimizer.type", None].choices == (
        "adamw", "adam", "sgd", "muon", "lion", "adafactor", "custom",
    )  # fmt: skip
    known = (
        "auto, shakespeare, python, grammar, genre, characters, who-says, dates, docstrings, grammar-agreement, digits"
    )
    assert keys["data.builtin", None].type == f"one of {known} or null"
    assert keys["data.paths", None].type == "list of text"
    assert keys["training.scheduler.boundaries", "piecewise"].required
    assert keys["model.dropout", "gpt"].bounds == (">= 0", "< 1")
    assert type_of(Adam) == "adam"
    assert type_of(BpeTokenizer) == "bpe"
    assert Piecewise.model_fields
