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
from trifecta.interop import hf, peft
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
CLASSES = {"type": "classify", "kind": "single", "labels": ["a", "b", "c"], "head_dropout": 0.0}
EVERY = ["query", "key", "value", "out", "up", "down"]

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "llama": (GPT, {"type": "causal"}, [*EVERY, "gate"]),
    "qwen3": (GPT | {"qk_norm": True, "num_kv_heads": 1}, {"type": "causal"}, ["query", "value"]),
    "starcoder2": (SMALL, {"type": "causal"}, EVERY),
    "gpt2": (SMALL | {"position": "learned"}, {"type": "causal"}, ["out", "up", "down"]),
    "bert": (BERT | {"pooler": False}, {"type": "masked"}, EVERY),
    "bert for classes": (BERT, CLASSES, ["query", "out", "down"]),
    "bert for tags": (BERT, {"type": "tag", "labels": ["O", "B-X", "I-X"], "head_dropout": 0.0}, ["query", "value"]),
    "modernbert": (SMALL | {"type": "bert", "activation": "geglu"}, {"type": "masked"}, ["out", "down"]),
    "t5": (SMALL | {"type": "t5", "activation": "relu"}, {"type": "span"}, EVERY),
    "t5 gated": (SMALL | {"type": "t5", "tie_embeddings": False}, {"type": "seq2seq"}, [*EVERY, "gate"]),
}
CLASSES_OF_THEIRS = {
    "llama": "AutoModelForCausalLM", "qwen3": "AutoModelForCausalLM", "starcoder2": "AutoModelForCausalLM",
    "gpt2": "AutoModelForCausalLM", "bert": "AutoModelForMaskedLM", "modernbert": "AutoModelForMaskedLM",
    "bert for classes": "AutoModelForSequenceClassification", "bert for tags": "AutoModelForTokenClassification",
    "t5": "AutoModelForSeq2SeqLM", "t5 gated": "AutoModelForSeq2SeqLM",
}  # fmt: skip


def make_run(place: Path, model: dict[str, Any], objective: dict[str, Any], targets: list[str]) -> Path:
    """A run of LoRA as training leaves it, with B away from 0."""
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
            or recipe.objective.type not in peft.HEADS}  # fmt: skip
    size = len(body["embedding.token.weight"])
    config = hf.to_hf_config(fields, size, kind=recipe.model.type)
    made: nn.Module = getattr(transformers, CLASSES_OF_THEIRS[name]).from_config(
        transformers.AutoConfig.for_model(config.pop("model_type"), **config, **(
            {"num_labels": 3} if recipe.objective.type in peft.HEADS else {}))
    )  # fmt: skip
    theirs = hf.to_hf_state(body, made.config.model_type)  # type: ignore[union-attr, arg-type]
    if name == "t5 gated":  # made with its head tied, which loading from a folder undoes
        made.lm_head.weight = nn.Parameter(theirs["lm_head.weight"].clone())  # type: ignore[union-attr]
    missing, _ = made.load_state_dict(theirs, strict=False)
    assert not [key for key in missing if "layer" in key or "block" in key], missing
    return made.eval()


def their_scores(model: nn.Module, name: str, tokens_BT: Tensor) -> Tensor:
    with torch.no_grad():
        inputs = {"decoder_input_ids": tokens_BT} if name.startswith("t5") else {}
        scores: Tensor = model(input_ids=tokens_BT, **inputs).logits
    return scores


def our_scores(run: Path, name: str, tokens_BT: Tensor) -> Tensor:
    model = load(run).model
    with torch.no_grad():
        if name == "bert for classes":
            scores: Tensor = model.scores(model.pooled(model.hidden(tokens_BT).hidden_BTD[:, 0]))
        elif name == "bert for tags":
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
    )  # fmt: skip
    library.get_peft_model(their_base(run, name), wanted).save_pretrained(str(tmp_path / "theirs"))
    ours, theirs = (files.read_safetensors(tmp_path / who / peft.WEIGHTS) for who in ("ours", "theirs"))
    assert {key: t.shape for key, t in ours.items()} == {key: t.shape for key, t in theirs.items()}


def test_control_swapped_matrices_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries' matrices under the values' names: the same shapes, other scores."""
    run = make_run(tmp_path / "run", *CASES["t5"])
    plain = peft._theirs

    def swapped(name: str, *others: Any) -> str:
        return plain(name.replace(".query.", ".-.").replace(".value.", ".query.").replace(".-.", ".value."), *others)

    monkeypatch.setattr(peft, "_theirs", swapped)
    export_adapter(run, tmp_path / "adapter")
    tokens_BT = torch.arange(9)[None]
    model = library.PeftModel.from_pretrained(their_base(run, "t5"), str(tmp_path / "adapter")).eval()
    assert (their_scores(model, "t5", tokens_BT) - our_scores(run, "t5", tokens_BT)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("model", "objective", "targets", "wanted"),
    [
        (CASES["gpt2"][0], {"type": "causal"}, ["query"], ["gpt2 has query, key, value as one matrix", "--to hf"]),
        (CASES["modernbert"][0], {"type": "masked"}, ["up"], ["modernbert has gate, up as one matrix"]),
        (BERT | {"pooler": False}, CLASSES, ["query"], ["through a pooler", "model.pooler: false"]),
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
