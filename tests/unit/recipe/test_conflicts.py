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
    ("model: {type: t5, d_model: 100, num_heads: 3}", ["model.d_model 100", "model.num_heads 3", "model.head_width"]),
    ("model: {type: bert, d_model: 100, num_heads: 3}", ["model.d_model 100", "model.num_heads 3"]),
    ("model: bert\nobjective: span", ["objective.type span can't train a model of type bert", "model.type to t5"]),
    ("objective: masked", ["objective.type masked can't train a model of type gpt", "model.type to bert"]),
    ("model: bert\nobjective: {masked_ratio: 0.9, random_ratio: 0.2}", ["0.9", "0.2", "more than 1 together"]),
    ("model: bert\ndata: {sequence_length: 2}", ["data.sequence_length 2 leaves no room", "3 or more"]),
    ("model: t5\ndata: {sequence_length: 3}", ["data.sequence_length 3 leaves no room", "4 or more"]),
    ("model: {type: vit, d_model: 100, num_heads: 3}", ["model.d_model 100", "set model.d_model to 99"]),
    ("model: {type: vit, image_size: 30}", ["model.image_size 30", "model.patch_size 16", "model.image_size to 32"]),
    ("model: {type: vit, channels: 2}", ["1 or 3 channels, not 2"]),
    ("model: {type: vit, channels: 1}\nobjective: {hue: 0.1}", ["neither saturation nor hue", "model.channels to 3"]),
    ("model: vit\nobjective: {mean: [0.1, 0.2]}", ["objective.mean has 2 numbers for 3 channels"]),
    ("model: vit\ntokenizer: byte", ["images have no text", "tokenizer.type is byte"]),
    ("model: vit\nobjective: classify\ntokenizer: byte",
     ["objective.type classify can't train a model of type vit", "objective.type to images"]),
    ("model: bert\nobjective: classify\ndata: {augment: {replace: 0.1}}",
     ["data.augment.replace needs synonyms", "set data.augment.synonyms to file, mythes"]),
    ("model: bert\nobjective: tag\ndata: {augment: {insert: 0.1, synonyms: embeddings}}",
     ["data.augment.synonyms_path names none", "set data.augment.synonyms_path to a trained run"]),
    ("tokenizer: none", ["objective.type causal learns from tokens", "choose another tokenizer"]),
    ("model: {d_model: 100, num_heads: 3}",
     ["model.d_model 100", "model.num_heads 3", "recipe.yaml:1:34", "set model.d_model to 102"]),
    ("model: {num_heads: 8, num_kv_heads: 3}", ["model.num_heads 8", "model.num_kv_heads 3", "recipe.yaml:1:37"]),
    ("model: {d_model: 12, num_heads: 4}", ["rotary positions need heads of even width", "is 3"]),
    ("training: {warmup_steps: 11, max_steps: 10}", ["training.warmup_steps 11 is more than training.max_steps 10"]),
    ("training: {warmup_steps: 9, max_steps: 10, scheduler: wsd}",
     ["warm-up (9 steps) and decay (0.2 of 10 steps) overlap"]),
    ("training: {freeze_body: true}", ["leaves nothing to train: the head is the token embedding", "freeze_layers"]),
    ("training: {freeze_layers: 7}", ["training.freeze_layers 7 is more than the model has, 6", "to 6 or less"]),
    ("model: {type: t5, num_layers: 2, num_decoder_layers: 4}\ntraining: {freeze_layers: 5}",
     ["training.freeze_layers 5 is more than the model has, 4"]),
    ("model: {norm_position: post}\ntraining: {freeze_layers: 6}",
     ["training.freeze_layers 6 leaves nothing to train"]),
    ("training: {lora_rank: 4}", ["training.lora_rank adapts weights", "set training.init_from"]),
    ("model: bert\ntraining: {freeze_body: true}",
     ["training.freeze_body keeps all but the head as it is", "random", "set training.init_from"]),
    ("model: {tie_embeddings: false}\ntraining: {freeze_body: true}", ["training.freeze_body", "random"]),
    ("model: {d_model: 32, num_heads: 2}\ntraining: {lora_rank: 33, init_from: runs/a}",
     ["training.lora_rank 33 is more than model.d_model 32", "to 8 say"]),
    ("training: {lora_rank: 4, init_from: runs/a, lora_targets: [query, gate]}",
     ["training.lora_targets has gate, but model.activation gelu has none"]),
    ("model: {position: learned, max_sequence_length: 64}", ["data.sequence_length 128 is longer than"]),
    ("data: {paths: [a.txt, b.txt], validation_paths: [b.txt]}", ["both hold 'b.txt'"]),
    ("data: {paths: ['-'], validation_paths: ['-']}", ["standard input (-) can be read only once"]),
    ("training: {scheduler: {type: piecewise, boundaries: [5], factors: [1, 0.5, 0.1]}}",
     ["has 3 items for 1 boundaries"]),
    ("training: {phases: [{batch_size: 4}]}", ["training.phases[1] has neither epochs nor steps", "give one of them"]),
    ("training: {phases: [{epochs: 1}, {epochs: 1, steps: 2}]}", ["training.phases[2] has both epochs and steps"]),
    ("data: {sequence_length: 64}\ntraining: {phases: [{epochs: 1, sequence_length: 65}]}",
     ["training.phases[1]: sequence_length 65 is longer than data.sequence_length 64", "raise data.sequence_length"]),
    ("model: bert\nobjective: tag\ntraining: {phases: [{epochs: 1, sequence_length: 8}]}",
     ["training.phases[1]: sequence_length, but labelled samples are as long as they are"]),
    ("training: {scheduler: step, phases: [{epochs: 1}]}", ["the step schedule counts epochs", "use piecewise"]),
    ("data: {paths: [a.txt], weights: [1, 2]}", ["data.weights has 2 numbers for 1 paths"]),
    ("data: {paths: [a.txt, b.txt], weights: [1, 2], curriculum: rarity}",
     ["data.curriculum and data.weights both say which samples come when"]),
    ("data: {curriculum: rarity}\ntraining: {phases: [{epochs: 1}]}",
     ["data.curriculum and training.phases both say which samples come when"]),
    ("data: {paths: [a.txt, b.txt], weights: [1, 2], near_duplicates: 0.8}", ["each text is divided by itself"]),
    ("data: {curriculum: length}", ["windows are all equally long", "order by rarity"]),
    ("model: vit\ndata: {curriculum: rarity}", ["images have neither length nor tokens"]),
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
    "training.epochs by training.phases": "training: {epochs: 4, phases: [{epochs: 1}]}",
    "training.max_steps": "training: {max_steps: 4, phases: [{epochs: 1}]}",
    "training.gradient_accumulation_steps": "training: {gradient_accumulation_steps: 4, "
    "phases: [{epochs: 1, gradient_accumulation_steps: 2}]}",
    "data.weights": "model: bert\nobjective: tag\ndata: {paths: [a.jsonl, b.jsonl], weights: [1, 2]}",
    "training.warmup_steps": "training: {warmup_steps: 4, scheduler: one_cycle}",
    "training.optimizer.minimal_scale": "optimizer: {type: adafactor, scale_parameter: false, minimal_scale: 0.1}",
    "training.scheduler.start_ratio": "training: {scheduler: {type: cosine_decay, decay_steps: 9, start_ratio: 0.5}}",
    "training.freeze_layers": "model: bert\ntraining: {freeze_layers: 1, freeze_body: true, init_from: runs/a}",
    "training.freeze_layers by training.lora_rank": "training: {freeze_layers: 1, lora_rank: 2, init_from: runs/a}",
    "training.freeze_body": "model: bert\ntraining: {freeze_body: true, lora_rank: 2, init_from: runs/a}",
    "training.layer_decay": "model: bert\ntraining: {freeze_body: true, layer_decay: 0.9, init_from: runs/a}",
    "training.lora_alpha": "training: {lora_alpha: 8}",
    "execution.checkpoint_every_n_layers": "execution: {checkpoint_every_n_layers: 2}",
    "execution.checkpoint_policy": "execution: {checkpoint_policy: selective}",
    "objective.class_weights": "model: bert\nobjective: {type: classify, kind: multi, class_weights: auto}",
    "objective.label_mean": "model: bert\nobjective: {type: classify, kind: single, label_mean: 2}",
    "objective.label_scale": "model: bert\nobjective: {type: classify, kind: multi, label_scale: 2}",
    "objective.label_counts": "model: bert\nobjective: {type: classify, label_counts: [3, 4]}",
    "objective.no_answer_threshold": "model: bert\nobjective: {type: answer, no_answer: false, no_answer_threshold: 1}",
    "execution.checkpoint_policy by execution.compile": "execution: {compile: true, gradient_checkpointing: true, "
    "checkpoint_policy: selective}",
    "execution.attention": "model: {attention: explicit}\nexecution: {attention: math}",
    "execution.compile_backend": "execution: {compile_backend: eager}",
    "execution.tf32": "execution: {device: cpu, tf32: true}",
    "execution.cudnn_benchmark": "execution: {device: cpu, cudnn_benchmark: true}\ntraining: {deterministic: true}",
    "execution.micro_batch_size": "execution: {micro_batch_size: 40}\ntraining: {batch_size: 8}",
    "training.label_smoothing": "model: bert\nobjective: answer\ntraining: {label_smoothing: 0.1}",
    "training.z_loss": "model: bert\nobjective: classify\ntraining: {z_loss: 0.1}",
    "training.gradient_noise_decay": "training: {gradient_noise_decay: 1}",
    "training.lora_dropout": "training: {lora_dropout: 0.1}",
    "training.lora_targets": "training: {lora_targets: [up]}",
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
    "objective.mean_span_length": "model: bert\nobjective: {type: masked, mean_span_length: 2.0}",
    "tracking.sample.prompt by objective.type": "model: bert\ntracking: {sample: {prompt: x}}",
    "tracking.sample.max_tokens by objective.type": "model: bert\ntracking: {sample: {max_tokens: 7}}",
    "tracking.sample.temperature by objective.type": "model: bert\ntracking: {sample: {temperature: 1}}",
    "tracking.sample.every_n_epochs": "model: bert\nobjective: classify\ntracking: {sample: {every_n_epochs: 2}}",
    "data.samples": "model: bert\nobjective: classify\ndata: {samples: lines}",
    "data.pair_field": "data: {pair_field: b}",
    "data.label_field": "data: {label_field: b}",
    "data.source_field": "data: {source_field: b}",
    "data.target_field": "model: bert\nobjective: classify\ndata: {target_field: b}",
    "data.text_field by objective.type": "model: t5\nobjective: seq2seq\ndata: {paths: [a.tsv], text_field: b}",
    "data.too_long": "data: {too_long: refuse}",
    "data.sequence_length": "model: vit\ndata: {sequence_length: 64}",
    "data.invalid_utf8 by objective.type": "model: vit\ndata: {invalid_utf8: replace}",
    "data.remove_control_characters": "model: vit\ndata: {remove_control_characters: true}",
    "data.collapse_whitespace": "model: vit\ndata: {collapse_whitespace: true}",
    "data.cache_dir": "model: vit\ndata: {cache_dir: cache}",
    "data.near_duplicates": "model: vit\ndata: {near_duplicates: 0.8}",
    **{
        f"data.augment.{name}": f"model: {model}\ndata: {{augment: {{{name}: 0.1}}}}"
        for name, model in (
            ("replace", "t5"),
            ("insert", "gpt"),
            ("swap", "vit"),
            ("delete", "bert"),
            ("drop_tokens", "gpt"),
            ("mask_tokens", "bert"),
        )
    },
    "data.augment.share": "data: {augment: {share: 0.5}}",
    "data.augment.synonyms": "model: bert\nobjective: classify\ndata: {augment: {delete: 0.1, synonyms: wordnet}}",
    "data.augment.synonyms_path": "model: bert\nobjective: tag\ndata: {augment: {insert: 0.1, synonyms: wordnet, "
    "synonyms_path: a}}",
    "objective.mixup_alpha": "model: bert\nobjective: {type: classify, mixup_alpha: 0.2}\ntraining: {batch_size: 1}",
}
"""Key -> a text in which it can't act; where several rules silence a key, the others are `key by other key`."""


def text_of(rule: inert.Inert) -> str:
    return SILENCED.get(f"{rule.key} by {rule.by[0]}") or SILENCED[rule.key]


def name_of(rule: inert.Inert) -> str:
    return f"{rule.key} by {rule.by[0]}"


FINE = [
    "data: {augment: {mask_tokens: 0.1, share: 0.5}, near_duplicates: 0.9}",
    "model: t5\nobjective: seq2seq\ndata: {augment: {insert: 0.1, synonyms: mythes, drop_tokens: 0.1}}",
    "model: bert\nobjective: answer\ndata: {augment: {replace: 0.1, synonyms: file, synonyms_path: a.tsv}}",
    "training: {freeze_layers: 2, layer_decay: 0.9}", "training: {freeze_layers: 6}", "training: {freeze_layers: 0}",
    "model: {tie_embeddings: false}\ntraining: {freeze_body: true, init_from: runs/a}",
    "model: bert\ntraining: {freeze_body: true, init_from: runs/a}",
    "model: {d_model: 32, num_heads: 2}\ntraining: {lora_rank: 32, init_from: runs/a}",
    "model: bert\ntraining: {lora_rank: 4, init_from: runs/a, lora_targets: [gate], layer_decay: 0.9}",
    "training: {lora_rank: 4, lora_alpha: 8, init_from: runs/a, freeze_body: false, layer_decay: 0.5}",
    "model: vit", "model: {type: vit, channels: 1}\nobjective: {mean: [0.1], mixup: 0.2}",
    "model: bert", "model: t5\ndata: {sequence_length: 4}",
    "model: {type: t5, d_model: 100, num_heads: 3, head_width: 8}",
    "model: bert\nobjective: {choose: span, mean_span_length: 2.0}",
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


@pytest.mark.parametrize("rule", INERT, ids=name_of)
def test_a_written_key_that_cannot_act(rule: inert.Inert, load: Load) -> None:
    with pytest.raises(RecipeErrors) as caught:
        load(text_of(rule))
    (error,) = caught.value.errors
    assert error.what.startswith(f"{rule.key} can't take effect: {rule.because} (")
    assert all(key in error.what for key in rule.by if key.partition(".")[2] in text_of(rule))
    assert error.excerpt is not None


@pytest.mark.parametrize(("task", "acts"), [("model: t5\nobjective: seq2seq", False), ("objective: prompted", True)])
def test_samples_of_pairs_have_a_length_and_only_answers_are_drawn(task: str, acts: bool, load: Load) -> None:
    assert load(f"{task}\ntracking: {{sample: {{max_tokens: 7, every_n_epochs: 2}}}}")
    drawn = f"{task}\ntracking: {{sample: {{temperature: 0.5}}}}"
    if acts:
        assert load(drawn)
        return
    with pytest.raises(RecipeErrors, match=r"tracking\.sample\.temperature can't take effect"):
        load(drawn)


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


@pytest.mark.parametrize("rule", INERT, ids=name_of)
def test_rules_name_real_keys_and_reset_to_defaults(rule: inert.Inert) -> None:
    keys = {info.key for info in known_keys()}
    assert {rule.key, *rule.by} <= keys
    recipe = unchecked(text_of(rule))
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
    model = values.setdefault("model", {}).setdefault("type", "gpt")
    learned = {"gpt": "causal", "bert": "masked", "t5": "span", "vit": "images"}
    values.setdefault("objective", {}).setdefault("type", learned[model])
    return Recipe.model_validate(values)


def type_at(recipe: Any, key: str) -> str | None:
    section = key.rpartition(".")[0]
    return value_of(recipe, f"{section}.type") if section in components() else None
