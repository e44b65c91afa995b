"""Whole printed messages, character by character."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trifecta.errors import RecipeErrors
from trifecta.recipe import Resolved

CASES = {
    "unknown key": (
        "training:\n  epochs: 3\n  learning_rte: 1e-3\n",
        "recipe.yaml:3:3: training.learning_rte: unknown key; did you mean 'learning_rate'?\n"
        "   |   learning_rte: 1e-3\n"
        "   |   ^",
    ),
    "key of another section": (
        "model:\n  learning_rate: 1e-3\n",
        "recipe.yaml:2:3: model.learning_rate: unknown key; did you mean 'training.learning_rate'?\n"
        "   |   learning_rate: 1e-3\n"
        "   |   ^",
    ),
    "unknown name": (
        "training:\n  scheduler: cosin\n",
        "recipe.yaml:2:14: training.scheduler: unknown 'cosin'; did you mean 'cosine'?\n"
        "   |   scheduler: cosin\n"
        "   |              ^\n"
        "  fix: use one of: constant, linear, cosine, step, exponential, piecewise, inverse_sqrt, one_cycle, wsd, "
        "exponential_decay, cosine_decay, piecewise_constant_decay",
    ),
    "key of another type": (
        "training:\n  optimizer: adam\n  weight_decay: 0.1\n",
        "recipe.yaml:3:3: training.optimizer.weight_decay: adam has no such key; adamw, sgd, muon, lion and adafactor "
        "have\n"
        "   |   weight_decay: 0.1\n"
        "   |   ^\n"
        "  fix: remove it, or set training.optimizer.type to adamw or sgd or muon or lion or adafactor",
    ),
    "not a multiple": (
        "model:\n  d_model: 130\n  num_heads: 4\n",
        "recipe.yaml:2:12: model.d_model 130 is not a multiple of model.num_heads 4 (model.num_heads: 4 at "
        "recipe.yaml:3:14)\n"
        "   |   d_model: 130\n"
        "   |            ^\n"
        "  fix: set model.d_model to 128, or choose another number of heads",
    ),
    "can't take effect": (
        "model: {position: alibi, rope_theta: 500}\n",
        "recipe.yaml:1:38: model.rope_theta can't take effect: only rotary positions have a base (model.position: "
        "alibi at recipe.yaml:1:19)\n"
        "   | model: {position: alibi, rope_theta: 500}\n"
        "   |                                      ^\n"
        "  fix: remove it, or set model.position to rope",
    ),
    "two spellings": (
        "model:\n  d_ff: 512\n  dff: 256\n",
        "recipe.yaml:3:3: model.d_ff is written twice: as model.d_ff at recipe.yaml:2:3, and as model.dff at "
        "recipe.yaml:3:3\n"
        "   |   dff: 256\n"
        "   |   ^\n"
        "  fix: keep one of them",
    ),
    "duplicate": (
        "training:\n  epochs: 3\n  seed: 1\n  epochs: 4\n",
        "recipe.yaml:4:3: key 'epochs' is written twice: on line 2 and on line 4\n"
        "   |   epochs: 4\n"
        "   |   ^\n"
        "  fix: keep one of them",
    ),
    "wrong type": (
        "training:\n  epochs: ten\n",
        "recipe.yaml:2:11: training.epochs: should be a whole number, found the text 'ten'\n"
        "   |   epochs: ten\n"
        "   |           ^",
    ),
    "missing": (
        "tokenizer: file\n",
        "recipe.yaml:1:12: tokenizer.path: missing; file needs it (Path of the tokenizer.json)\n"
        "   | tokenizer: file\n"
        "   |            ^\n"
        "  fix: add path",
    ),
    "not yet": (
        "execution:\n  strategy: data_parallel\n",
        "recipe.yaml:2:3: execution.strategy: not supported yet\n"
        "   |   strategy: data_parallel\n"
        "   |   ^\n"
        "  fix: remove it",
    ),
}  # fmt: skip


def messages(load: Callable[..., Resolved], text: str, **options: object) -> str:
    with pytest.raises(RecipeErrors) as caught:
        load(text, **options)
    return str(caught.value)


@pytest.mark.fast
@pytest.mark.parametrize("name", CASES)
def test_whole_message(name: str, load: Callable[..., Resolved]) -> None:
    text, wanted = CASES[name]
    assert messages(load, text) == wanted


@pytest.mark.fast
def test_all_errors_at_once_in_the_order_of_their_places(load: Callable[..., Resolved]) -> None:
    text = "model:\n  d_model: -4\n  layrs: 3\ntraining:\n  warmup_steps: 30\n  max_steps: 20\n  seed: x\n"
    found = messages(
        load, text, overrides=["training.batch_size=0"], flags={"execution.device": ("--device", "gpu")}
    ).splitlines()
    assert [line for line in found if line[0] not in " "] == [
        "recipe.yaml:2:12: model.d_model: should be at least 1, found -4",
        "recipe.yaml:3:3: model.layrs: unknown key; did you mean 'num_layers'?",
        "recipe.yaml:5:17: training.warmup_steps 30 is more than training.max_steps 20 (training.max_steps: 20 at "
        "recipe.yaml:6:14)",
        "recipe.yaml:7:9: training.seed: should be a whole number, found the text 'x'",
        "command line: training.batch_size: should be at least 1, found 0",
        "command line: execution.device: unknown 'gpu'",
    ]
    assert found[-3:] == ["   | --device gpu", "   |          ^", "  fix: use auto, cpu, cuda, cuda:N or mps"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("training: {epochs: 1000.0}", "fix: write 1000"),
        ("training: {batch_size: 1_000}", "fix: write 1000, without quotes"),
        ("training: {deterministic: yes}", "fix: write true"),
        ("training: {deterministic: 'off'}", "fix: write false"),
        ("data: {paths: a.txt}", "fix: write [a.txt]"),
        ("data: {paths: [a.txt, 3]}", "recipe.yaml:1:23: data.paths: should be text, found 3"),
        ("data: {paths: ['']}", "should be at least 1 character long, found the text ''"),
        ("data: {cache_dir: 3}", 'fix: put it in quotes: "3"'),
        ("training: fast", "training: should be a mapping of keys, found the text 'fast'"),
        ("training: {scheduler: 3}", "training.scheduler: should be a name or a mapping of keys, found 3"),
        ("training: {scheduler: {type: 3}}", "training.scheduler.type: should be text, found 3"),
        ("model: {type: network}", "model: 'network' is not supported yet"),
        ("model: {position: rotery}", "fix: use one of: rope, learned, sinusoidal, alibi, none"),
        ("model: {position: 3}", "model.position: should be text, found 3"),
        ("training: {gradient_clip_norm: []}", "should be a number, found a list"),
        ("training: {seed: 99999999999999999999}", "should be less than 9,223,372,036,854,775,808"),
        ("HidenDim: 3", "unknown key; did you mean 'HiddenDim'?"),
        ("optimizer: {type: ADAMW}", "training.optimizer: unknown 'ADAMW'; did you mean 'adamw'?"),
        ("training: {seed: 1, seed: 2}", "key 'seed' is written twice on line 1"),
        ("UseRoPE: 3", "UseRoPE: should be true or false, found 3"),
        ("colour: 3", "fix: remove it, or use one of: model, tokenizer, data"),
        ("tokenizer: {type: byte}\nVocabSize: 256", "tokenizer.vocab_size: byte has no such key"),
    ],
)
def test_hints(text: str, wanted: str, load: Callable[..., Resolved]) -> None:
    assert wanted in messages(load, text)


def test_escape_sequences_never_reach_the_terminal(load: Callable[..., Resolved]) -> None:
    found = messages(load, "training: {epochs: 1}", overrides=["training.seed=\x1b[31mred\x07", "tra\x1b[2J=1"])
    assert "\x1b" not in found
    assert "\x07" not in found


def test_an_unknown_section_is_shown_where_its_name_stands(load: Callable[..., Resolved]) -> None:
    assert messages(load, "seed: 1\ntrainning:\n  epochs: 3\n").splitlines()[3:] == [
        "recipe.yaml:2:1: trainning: unknown key; did you mean 'training'?",
        "   | trainning:",
        "   | ^",
    ]


def test_a_faulty_key_is_not_called_missing(load: Callable[..., Resolved]) -> None:
    found = messages(load, "training: {scheduler: {type: piecewise, boundaries: [0], factors: [x, 1]}}")
    assert [line.partition(": ")[2] for line in found.splitlines() if line.startswith("recipe")] == [
        "training.scheduler.boundaries: should be at least 1, found 0",
        "training.scheduler.factors: should be a number, found the text 'x'",
    ]
