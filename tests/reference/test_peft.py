"""Adapters as the peft library writes and reads them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from trifecta.errors import RecipeError
from trifecta.interop import heads, hf, peft
from trifecta.nn.lora import lora_layers, merged_state
from trifecta.recipe.schema import Recipe
from trifecta.run import build, folder
from trifecta.run.adapters import export_adapter
from trifecta.run.opened import load
from trifecta.tokenizers.byte import ByteTokenizer
from trifecta.training import checkpoint, files
from trifecta.training.state import Progress, TrainState

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import peft as library

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

SMALL: dict[str, Any] = {"d_model": 16, "num_heads": 2, "num_layers": 2, "d_ff": 24}
GPT = SMALL | {"norm": "rmsnorm", "activation": "swiglu", "bias": False}
BERT = SMALL | {
    "type": "bert", "position": "learned", "norm_position": "post", "activation": "gelu", "bias": True,
    "segment_types": 2, "pooler": True,
}  # fmt: skip
MODERN = SMALL | {"type": "bert", "activation": "geglu"}
CLASSES = {"type": "classify", "kind": "single", "labels": ["a", "b", "c"], "head_dropout": 0.0}
NUMBERS = {"type": "classify", "kind": "regression", "label_mean": 3.0, "label_scale": 2.0, "head_dropout": 0.0}
TAGS = {"type": "tag", "labels": ["O", "B-X", "I-X"], "head_dropout": 0.0}
ANSWERS = {"type": "answer", "head_dropout": 0.0}
EVERY = ["query", "key", "value", "out", "up", "down"]

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "llama": (GPT, {"type": "causal"}, [*EVERY, "gate"]),
    "qwen3": (GPT | {"qk_norm": True, "num_kv_heads": 1}, {"type": "causal"}, ["query", "value"]),
    "starcoder2": (SMALL, {"type": "causal"}, EVERY),
    "gpt2": (SMALL | {"position": "learned"}, {"type": "causal"}, ["out", "up", "down"]),
    "gpt2 fused": (SMALL | {"position": "learned"}, {"type": "causal"}, EVERY),
    "gpt2 keys alone": (SMALL | {"position": "learned"}, {"type": "causal"}, ["key"]),
    "bert": (BERT | {"pooler": False}, {"type": "masked"}, EVERY),
    "bert for classes": (BERT, CLASSES, ["query", "out", "down"]),
    "bert for classes without a pooler": (BERT | {"pooler": False}, CLASSES, ["query"]),
    "bert for numbers": (BERT, NUMBERS, ["query"]),
    "bert for tags": (BERT, TAGS, ["query", "value"]),
    "bert for answers": (BERT, ANSWERS, ["query", "value"]),
    "modernbert": (MODERN, {"type": "masked"}, ["out", "down"]),
    "modernbert fused": (MODERN, {"type": "masked"}, ["query", "value", "out"]),
    "modernbert gates": (MODERN, {"type": "masked"}, ["key", "gate", "up"]),
    "modernbert for classes": (MODERN, CLASSES, ["query", "value"]),
    "modernbert for tags": (
        MODERN | {"head_activation": "gelu_tanh", "bias": True, "norm_epsilon": 1e-12},
        TAGS,
        ["query", "value"],
    ),
    "modernbert for answers": (MODERN, ANSWERS, ["key", "value"]),
    "t5": (SMALL | {"type": "t5", "activation": "relu"}, {"type": "span"}, EVERY),
    "t5 gated": (SMALL | {"type": "t5", "tie_embeddings": False}, {"type": "seq2seq"}, [*EVERY, "gate"]),
}
CLASSES_OF_THEIRS = {
    "causal": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "span": "AutoModelForSeq2SeqLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "classify": "AutoModelForSequenceClassification",
    "tag": "AutoModelForTokenClassification",
    "answer": "AutoModelForQuestionAnswering",
}


def make_run(place: Path, model: dict[str, Any], objective: dict[str, Any], targets: list[str]) -> Path:
    """A run of LoRA as training leaves it, with B away from 0, and norms away from where they begin."""
    recipe = Recipe.model_validate({
        "model": {"type": "gpt", **model}, "objective": objective, "tokenizer": {"type": "byte"},
        "data": {"sequence_length": 32},
        "training": {"lora_rank": 3, "lora_alpha": 6.0, "lora_targets": targets, "init_from": "the-base"},
    })  # fmt: skip
    learned = build.objective_of(recipe, ByteTokenizer())
    network = build.adapted(recipe, build.model_of(recipe, learned))
    torch.manual_seed(1)
    for _, layer in lora_layers(network):
        nn.init.normal_(layer.lora_b, 0.0, 0.3)
    with torch.no_grad():
        for parameter in (p for n, p in network.named_parameters() if "norm" in n):
            parameter.add_(0.3 * torch.randn_like(parameter))
    texts = folder.write_identity(place_made(place), recipe, ByteTokenizer().to_json())
    checkpoint.save(place / "checkpoints", TrainState(network, build.optimizers_of(recipe, network), Progress()),
                    texts, reason="test")  # fmt: skip
    return place


def place_made(place: Path) -> Path:
    place.mkdir(parents=True)
    return place


def their_base(run: Path, name: str) -> nn.Module:
    """transformers' model with the weights that the run began with."""
    recipe = folder.read_recipe(run)
    fields = build.fields(recipe.model)
    if "max_sequence_length" in fields:
        fields["max_sequence_length"] = fields["max_sequence_length"] or 32
    tensors = files.read_safetensors(run / "checkpoints/step-00000000/model.safetensors")
    body = {key.removeprefix("body."): t for key, t in merged_state(tensors, 0.0).items() if not key.startswith("head.")
            or recipe.objective.type not in heads.CLASSES}  # fmt: skip
    size = len(body["embedding.token.weight"])
    config = hf.to_hf_config(fields, size, kind=recipe.model.type)
    if recipe.objective.type in heads.CLASSES:
        config["num_labels"] = len(getattr(recipe.objective, "labels", "ab")) or 1
    made: nn.Module = getattr(transformers, CLASSES_OF_THEIRS[recipe.objective.type]).from_config(
        transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    )
    theirs = hf.to_hf_state(body, made.config.model_type)  # type: ignore[union-attr, arg-type]
    if name == "t5 gated":  # made with its head tied, which loading from a folder undoes
        made.lm_head.weight = nn.Parameter(theirs["lm_head.weight"].clone())  # type: ignore[union-attr]
    missing, _ = made.load_state_dict(theirs, strict=False)
    assert not [key for key in missing if "layer" in key or "block" in key], missing
    return made.eval()


def their_scores(model: nn.Module, name: str, tokens_BT: Tensor) -> Tensor:
    with torch.no_grad():
        inputs = {"decoder_input_ids": tokens_BT} if name.startswith("t5") else {}
        output = model(input_ids=tokens_BT, **inputs)
    scores: Tensor = output.logits if "logits" in output else torch.stack((output.start_logits, output.end_logits), 2)
    return scores


def our_scores(run: Path, name: str, tokens_BT: Tensor) -> Tensor:
    model = load(run).model
    with torch.no_grad():
        if CASES[name][1]["type"] == "classify":
            scores: Tensor = model.scores(model.pooled(model.hidden(tokens_BT).hidden_BTD[:, 0]))
            if CASES[name][1]["kind"] == "regression":
                scores = scores * 2.0 + 3.0
        elif CASES[name][1]["type"] in ("tag", "answer"):
            scores = model.scores(model.hidden(tokens_BT).hidden_BTD)
        else:
            scores = model(tokens_BT, tokens_BT) if name.startswith("t5") else model(tokens_BT)
    return scores


@pytest.mark.parametrize("name", CASES)
def test_peft_reads_an_adapter_and_scores_alike(name: str, tmp_path: Path) -> None:
    """A missing or foreign name would be a warning, which is an error here."""
    run = make_run(tmp_path / "run", *CASES[name])
    made = export_adapter(run, tmp_path / "adapter")
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {peft.CONFIG, peft.WEIGHTS}
    base = their_base(run, name)
    tokens_BT = torch.randint(200, (2, 11), generator=torch.Generator().manual_seed(2))
    plain = their_scores(base, name, tokens_BT)
    model = library.PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    found = their_scores(model, name, tokens_BT)
    torch.testing.assert_close(found, our_scores(run, name, tokens_BT), rtol=0, atol=1e-5)
    assert (found - plain).abs().max() > 1e-3, "the adapter does something"
    assert made.parameters == sum(
        t.numel() for t in files.read_safetensors(tmp_path / "adapter" / peft.WEIGHTS).values()
    )


@pytest.mark.parametrize("name", CASES)
def test_names_and_shapes_are_those_that_peft_writes(name: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", *CASES[name])
    export_adapter(run, tmp_path / "ours")
    config = json.loads((tmp_path / "ours" / peft.CONFIG).read_text())
    wanted = library.LoraConfig(
        r=3, lora_alpha=6, target_modules=config["target_modules"], modules_to_save=config["modules_to_save"],
        task_type=config["task_type"], fan_in_fan_out=config["fan_in_fan_out"],
        rank_pattern=config["rank_pattern"], alpha_pattern=config["alpha_pattern"],
    )  # fmt: skip
    library.get_peft_model(their_base(run, name), wanted).save_pretrained(str(tmp_path / "theirs"))
    ours, theirs = (files.read_safetensors(tmp_path / who / peft.WEIGHTS) for who in ("ours", "theirs"))
    assert {key: t.shape for key, t in ours.items()} == {key: t.shape for key, t in theirs.items()}


def swapped(plain: Any) -> Any:
    """Queries' matrices in the values' places: the same shapes."""

    def place(name: str, *others: Any) -> Any:
        return plain(name.replace(".query.", ".-.").replace(".value.", ".query.").replace(".-.", ".value."), *others)

    return place


def of_its_own_alpha(plain: Any) -> Any:
    """Stacked matrices of a larger rank with the alpha of the others."""
    return lambda *args, **options: plain(*args, **options) | {"alpha_pattern": {}}


def of_mixed_outputs(plain: Any) -> Any:
    """The blocks of B in the other order, those of A as they were."""

    def fused(parts: Any) -> Any:
        right = plain(parts)
        return right | {"lora_b": right["lora_b"].flip(0)}

    return fused


def without_a_norm(plain: Any) -> Any:
    """The last norm keeps its gain and shift, as in the base."""
    return lambda norm, *args, **options: {
        name: tensor for name, tensor in plain(norm, *args, **options).items() if "final_norm" not in name
    }


BUGS = [
    ("_place", swapped, "t5"), ("_place", swapped, "modernbert fused"), ("_place", swapped, "gpt2 fused"),
    ("adapter_config", of_its_own_alpha, "modernbert fused"), ("adapter_config", of_its_own_alpha, "gpt2 fused"),
    ("_fused", of_mixed_outputs, "modernbert gates"), ("heads", without_a_norm, "modernbert for tags"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "bug", "name"), BUGS)
def test_control_wrong_matrices_and_scales_are_noticed(
    where: str, bug: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each keeps names and shapes, and changes the scores."""
    run = make_run(tmp_path / "run", *CASES[name])
    module, where = (heads, "modernbert_head") if where == "heads" else (peft, where)
    monkeypatch.setattr(module, where, bug(getattr(module, where)))
    export_adapter(run, tmp_path / "adapter")
    tokens_BT = torch.arange(9)[None]
    model = library.PeftModel.from_pretrained(their_base(run, name), str(tmp_path / "adapter")).eval()
    assert (their_scores(model, name, tokens_BT) - our_scores(run, name, tokens_BT)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("model", "objective", "targets", "wanted"),
    [
        (CASES["modernbert"][0], CLASSES | {"pooling": "mean"}, ["query"], ["objective.pooling: mean", "--to hf"]),
        (CASES["modernbert"][0] | {"head_activation": "relu"}, CLASSES, ["query"], ["model.head_activation: relu"]),
        (BERT, CLASSES | {"pooling": "mean"}, ["query"], ["objective.pooling: mean"]),
        (SMALL | {"position": "alibi"}, {"type": "causal"}, ["query"], ["can't express model.position: alibi"]),
    ],
)
def test_what_has_no_place_there_is_refused(
    model: dict[str, Any], objective: dict[str, Any], targets: list[str], wanted: list[str], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", model, objective, targets)
    with pytest.raises(RecipeError) as caught:
        export_adapter(run, tmp_path / "adapter")
    assert all(part in str(caught.value) for part in wanted), str(caught.value)
    assert not (tmp_path / "adapter").exists()
