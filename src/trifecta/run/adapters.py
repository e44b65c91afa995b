"""What LoRA has trained, by itself: small files beside a model that others have already."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from trifecta.errors import RecipeError
from trifecta.interop import folders, heads, hf, peft
from trifecta.models.layers import bare
from trifecta.nn.lora import A, B
from trifecta.recipe import components
from trifecta.recipe.schema import Recipe
from trifecta.run import build, folder
from trifecta.run.convert import Conversion, new_folder, refuse_full, write_weights
from trifecta.tokenizers import load_tokenizer
from trifecta.training import checkpoint, files

_OF_PAIRS = ("head", "pooler", "pair_head")
"""What is trained beside LoRA's matrices where a second text is judged too."""


def export_adapter(run: str | Path, out: Path) -> Conversion:
    """Writes adapter_config.json and adapter_model.safetensors, as the peft library reads them.

    They belong to the model that the run began with; a run of ours becomes one by `trifecta export RUN --to hf`.

    Raises:
        CheckpointError: no such run. RecipeError: it was trained without LoRA, `out` isn't empty, or Hugging Face's
            model has no place for what was trained.
    """
    refuse_full(out)
    found = folder.find_checkpoint(Path(run), lambda message: warnings.warn(message, stacklevel=2))
    recipe = folder.read_recipe(found.folder)
    training, objective = recipe.training, recipe.objective.type
    if training.lora_rank is None:
        raise RecipeError("this run was trained without LoRA", where=str(run), fix="export it with --to hf")
    if recipe.model.type == "vit":
        raise RecipeError("adapters of a ViT can't be exported by themselves", where=str(run),
                          fix="export the whole model with --to hf")  # fmt: skip
    is_task = objective in heads.CLASSES
    vocabulary = build.objective_of(recipe, load_tokenizer(found.folder / folder.TOKENIZER)).vocabulary
    fields = build.fields(recipe.model)
    if "max_sequence_length" in fields and fields["max_sequence_length"] is None:
        fields["max_sequence_length"] = recipe.data.sequence_length
    fields = heads.without_token_head(fields) if is_task else fields
    model_type = str(hf.to_hf_config(fields, vocabulary.size, kind=recipe.model.type)["model_type"])
    tensors = {bare(n): t for n, t in checkpoint.averaged(found).items()}
    whole = _OF_PAIRS if getattr(recipe.objective, "pairs", "none") != "none" else ()
    trained = {
        name: tensor for name, tensor in tensors.items() if name.rpartition(".")[2] in (A, B) or name.startswith(whole)
    }
    state = peft.adapter_state(trained, model_type)
    if is_task:
        state |= peft.with_prefix(_head(recipe, model_type, tensors))
    base = training.init_from
    config = peft.adapter_config(
        state, model_type, objective, rank=training.lora_rank, alpha=training.lora_alpha, dropout=training.lora_dropout,
        base=base,
    )  # fmt: skip
    with new_folder(out) as beside:
        files.replace_text(beside / peft.CONFIG, folders.as_json(config))
        write_weights(beside / peft.WEIGHTS, state)
    notes = [f"it adapts the weights of {base}"]
    if is_task:
        labels = dict(enumerate(getattr(recipe.objective, "labels", ()) or ("value",)))
        known = "" if objective == "answer" else f" with id2label={labels}"
        notes.append(f"load them as AutoModelFor{heads.CLASSES[objective]}{known}")
    if is_task and model_type == "modernbert":
        notes.append(heads.SMALL_NOTE)
    parameters = sum(tensor.numel() for tensor in state.values())
    return Conversion(out, model_type, parameters, vocabulary.size, tuple(notes))


def _head(recipe: Recipe, model_type: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A task's head, and the pooler before it, by transformers' names.

    Raises:
        RecipeError: transformers' class for the task computes something else.
    """
    objective, model = recipe.objective, recipe.model
    head = heads.Head.of(objective.type, objective, tensors["head.weight"], tensors["head.bias"])
    if model_type == "modernbert":
        assert isinstance(model, components.Bert)
        norm = tensors["norm.weight"], tensors["norm.bias"]
        return heads.modernbert_head(
            norm, head, activation=model.head_activation, epsilon=model.norm_epsilon, bias=model.bias
        )
    pooler = {f"bert.pooler.dense.{n}": tensors[f"pooler.{n}"] for n in ("weight", "bias") if f"pooler.{n}" in tensors}
    return heads.bert_head(head, pooler)
