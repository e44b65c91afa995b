"""First weights from elsewhere: another run, a folder of Hugging Face's, or a BERT of Keras."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trifecta.errors import CheckpointError, UnsafeError, did_you_mean
from trifecta.models.layers import bare, is_head
from trifecta.nn.lora import merged_state
from trifecta.recipe.schema import Recipe
from trifecta.run import build, folder
from trifecta.tokenizers import Tokenizer, load_tokenizer
from trifecta.training import checkpoint, files

KERAS = (".h5", ".hdf5")
_CONFIG = "config.json"
_MEANING = (
    "num_heads", "num_kv_heads", "position", "rope_theta", "norm", "norm_position", "norm_epsilon", "activation",
    "relative_max_distance",
)  # fmt: skip
"""Settings of a model without which its weights mean something else, and which no shape tells."""


@dataclass(frozen=True)
class Base:
    """A trained model that another one is to begin with: its recipe, and the tokenizer with all of its tokens."""

    recipe: Recipe
    tokenizer: Tokenizer


@dataclass(frozen=True)
class _Weights:
    """state: tensors by our names. fields: the model's keyword arguments. name: what they are of."""

    state: Mapping[str, Tensor]
    fields: Mapping[str, Any]
    name: str


def read_base(source: str) -> Base:
    """The recipe and tokenizer of a run, a checkpoint or a Hugging Face folder.

    Raises:
        CheckpointError: there is none, or our models can't express theirs. UnsafeError: its weights are pickled.
    """
    path = Path(source)
    require(source)
    if not _is_hf(path):
        found = _found(path)
        return Base(folder.read_recipe(found.folder), load_tokenizer(found.folder / folder.TOKENIZER))
    from trifecta.run.convert import recipe_of_folder

    imported, found_folder = _read_hf(path)
    tokenizer, recipe = recipe_of_folder(imported, found_folder, path)
    return Base(recipe, tokenizer)


def require(source: str) -> None:
    """Says early that there is nothing of this name.

    Raises:
        CheckpointError: with similar names beside it.
    """
    path = Path(source)
    if path.exists():
        return
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    known = [p.name for p in beside if (p / folder.RECIPE).is_file() or _is_hf(p) or p.suffix in KERAS]
    near = did_you_mean(path.name, known)
    others = f"; there: {', '.join(sorted(known)[:5])}" if known else ""
    raise CheckpointError(
        "nothing is here to take weights from", where=source,
        fix=(near or "name a run, a folder with a config.json, or a .h5 file; nothing is downloaded") + others,
    )  # fmt: skip


def take_weights(model: Any, source: str, fields: Mapping[str, Any] | None = None) -> list[str]:
    """Copies trained weights into a model, all but a head of another size; what the user should know.

    Args:
        source: a run, a checkpoint, a Hugging Face folder, or a .h5 file. fields: the model's keyword arguments, which
            must mean the same there.

    Raises:
        CheckpointError: nothing there, or weights that don't fit; each is named.
    """
    require(source)
    weights = _read(Path(source))
    theirs = {bare(name): tensor for name, tensor in weights.state.items()}
    ours = {bare(name): tensor for name, tensor in checkpoint.model_tensors(model).items()}
    fresh = {name for name in ours if is_head(name) and (name not in theirs or not _alike(ours, theirs, name))}
    problems = _misfits(ours, theirs, fresh) + _other_meanings(weights.fields, fields or {})
    if problems:
        raise CheckpointError(
            "the weights don't fit the model:\n  " + "\n  ".join(sorted(problems)), where=source,
            fix="give the model the settings that these weights were trained with, and their tokenizer",
        )  # fmt: skip
    taken = (ours.keys() & theirs.keys()) - fresh
    with torch.no_grad():
        for name in taken:
            ours[name].copy_(theirs[name])
    new = f"; begins fresh: {', '.join(sorted(fresh))}" if fresh else ""
    return [f"weights of {weights.name}: {len(taken)} tensors{new}"]


def _alike(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], name: str) -> bool:
    return ours[name].shape == theirs[name].shape


def _misfits(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], fresh: set[str]) -> list[str]:
    problems = [f"{name} is missing" for name in ours.keys() - theirs.keys() - fresh]
    problems += [f"{name} isn't part of this model" for name in theirs.keys() - ours.keys() if not is_head(name)]
    for name in (ours.keys() & theirs.keys()) - fresh:
        if not _alike(ours, theirs, name):
            problems.append(f"{name} is {list(theirs[name].shape)} there, {list(ours[name].shape)} here")
        elif not theirs[name].isfinite().all():
            problems.append(f"{name} holds NaN or infinity")
    return problems


def _other_meanings(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    def of(fields: Mapping[str, Any], name: str) -> Any:
        return fields.get(name) or (fields.get("num_heads") if name == "num_kv_heads" else None)

    rotary = ours.get("position") == "rope"
    names = [name for name in _MEANING if name in theirs and name in ours and (rotary or name != "rope_theta")]
    return [
        f"model.{name} is {of(theirs, name)} there, {of(ours, name)} here"
        for name in names
        if of(theirs, name) != of(ours, name)
    ]


def _read(path: Path) -> _Weights:
    if path.suffix.lower() in KERAS:
        from trifecta.interop.h5 import read_keras_bert

        fields, state = read_keras_bert(path)
        return _Weights(state, fields, str(path))
    if _is_hf(path):
        imported, _ = _read_hf(path)
        return _Weights(imported.state, imported.fields, str(path))
    found = _found(path)
    recipe = folder.read_recipe(found.folder)
    state, training = checkpoint.averaged(found), recipe.training
    if training.lora_rank is not None:
        state = merged_state(state, training.lora_alpha / training.lora_rank)
    return _Weights(state, build.fields(recipe.model), f"{path} (step {found.step})")


def _is_hf(path: Path) -> bool:
    return (path / _CONFIG).is_file() and not (path / folder.RECIPE).is_file()


def _found(path: Path) -> checkpoint.Checkpoint:
    return folder.find_checkpoint(path, lambda message: warnings.warn(message, stacklevel=2))


def _read_hf(path: Path) -> tuple[Any, Any]:
    """The model, and the folder's other files."""
    from trifecta.interop import folders, hf

    try:
        found = folders.read_folder(path, files.read_safetensors)
        return hf.from_hf(found.config, found.tensors), found
    except UnsafeError as error:
        error.fix = f"`trifecta import {path} --allow-pickle` reads the weights alone and makes a run to begin with"
        raise
    except CheckpointError as error:
        if error.where in (None, _CONFIG):
            error.where = str(path / (error.where or ""))
        raise
