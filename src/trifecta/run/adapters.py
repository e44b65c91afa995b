"""What LoRA has trained, by itself: small files beside a model that others have already."""

from __future__ import annotations

import warnings
from pathlib import Path

from trifecta.errors import RecipeError
from trifecta.interop import folders, hf, peft
from trifecta.models.layers import bare, is_head
from trifecta.nn.lora import A, B
from trifecta.recipe import components
from trifecta.recipe.schema import Recipe
from trifecta.run import build, folder
from trifecta.run.convert import Conversion, new_folder, refuse_full, write_weights
from trifecta.tokenizers import load_tokenizer
from trifecta.training import files


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
    vocabulary = build.objective_of(recipe, load_tokenizer(found.folder / folder.TOKENIZER)).vocabulary
    fields = build.fields(recipe.model)
    if "max_sequence_length" in fields and fields["max_sequence_length"] is None:
        fields["max_sequence_length"] = recipe.data.sequence_length
    model_type = str(hf.to_hf_config(fields, vocabulary.size, kind=recipe.model.type)["model_type"])
    heads = _heads(recipe, model_type)
    tensors = files.read_safetensors(found.folder / "model.safetensors")
    trained = {
        name: tensor
        for name, tensor in tensors.items()
        if name.rpartition(".")[2] in (A, B) or (is_head(name) and bare(name).startswith(heads))
    }
    state = peft.adapter_state(trained, model_type, objective)
    base = training.init_from
    config = peft.adapter_config(
        state, model_type, objective, alpha=training.lora_alpha, dropout=training.lora_dropout, base=base
    )
    with new_folder(out) as beside:
        files.replace_text(beside / peft.CONFIG, folders.as_json(config))
        write_weights(beside / peft.WEIGHTS, state)
    parameters = sum(tensor.numel() for tensor in state.values())
    return Conversion(out, model_type, parameters, vocabulary.size, (f"it adapts the weights of {base}",))


def _heads(recipe: Recipe, model_type: str) -> tuple[str, ...]:
    """Beginnings of the names of what was trained beside LoRA's matrices and is exported with them.

    Raises:
        RecipeError: transformers' class for the task computes something else.
    """
    objective = recipe.objective
    if objective.type not in peft.HEADS:
        return ("head", "pooler", "pair_head") if getattr(objective, "pairs", "none") != "none" else ()
    if objective.type != "classify":
        return ("head",)
    pooler = getattr(recipe.model, "pooler", False)
    assert isinstance(objective, components.Classify)
    if model_type == "bert" and not (pooler and objective.pooling == "first" and objective.kind != "regression"):
        raise RecipeError(
            "transformers' BERT judges classes by the first position, through a pooler, and numbers as they are; this "
            f"run has model.pooler: {str(pooler).lower()}, objective.pooling: {objective.pooling}, objective.kind: "
            f"{objective.kind}",
            fix="use the run itself (trifecta predict)",
        )  # fmt: skip
    return ("head", "pooler")
