"""BERT's weights in Keras's HDF5 layout, as `TFBertModel.save_weights` writes `bert-base-uncased.h5`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trifecta.errors import CheckpointError
from trifecta.interop import hf

HEAD_WIDTH = 64
"""Of every BERT that Google published; a file of weights says nothing about heads."""
_LARGEST = 1 << 34

_INNER = re.compile(r"(?:^|/)((?:embeddings|encoder|pooler|predictions)(?:/.+)?)$")
_LEAVES = {
    "kernel": "weight", "gamma": "weight", "weight": "weight", "embeddings": "weight", "beta": "bias", "bias": "bias",
}  # fmt: skip
"""Keras's names of a layer's arrays -> torch's. A kernel is (in, out)."""


def read_keras_bert(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Keyword arguments of our Bert (without vocab_size, which is the embedding's rows), and its weights.

    Sizes follow from the weights. Heads, epsilon and dropout come from a config.json beside the file where there is
    one; else heads are 64 wide, and the rest is as in every BERT that Google published. A file without the head for
    masked tokens gives no weights for it.

    Raises:
        CheckpointError: h5py is missing, or the file isn't such a BERT.
    """
    tensors = _named(_read(path))
    beside = path.with_name("config.json")
    config = _sizes(tensors, path) | (_read_config(beside) if beside.is_file() else {})
    try:
        found = hf.from_hf(config, tensors)
    except CheckpointError as error:
        error.where = str(path)
        raise
    return dict(found.fields), dict(found.state)


def _read(path: Path) -> dict[str, Tensor]:
    """Every array of numbers by its path in the file."""
    try:
        import h5py
    except ImportError as error:
        raise CheckpointError(
            "a .h5 file needs the package h5py", where=str(path), fix="pip install 'trifecta[h5]'"
        ) from error
    found: dict[str, Tensor] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and item.nbytes < _LARGEST:
            found[name] = torch.from_numpy(item[()].astype("float32"))

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)  # follows no link to another file
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"this isn't a whole HDF5 file: {error}", where=str(path)) from error
    return found


def _named(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Arrays under transformers' names: `.../bert/encoder/layer_._0/output/dense/kernel:0` is
    `bert.encoder.layer.0.output.dense.weight`. What lies elsewhere, such as an optimizer's moments, is left out."""
    tensors = {}
    for place, tensor in arrays.items():
        leaf = place.rpartition("/")[2].removesuffix(":0")
        found = _INNER.search(place.rpartition("/")[0])
        if found is None or leaf not in _LEAVES:
            continue
        inner = found[1].replace("layer_._", "layer/").replace("/", ".")
        prefix = "cls" if inner.startswith("predictions") else "bert"
        tensors[f"{prefix}.{inner}.{_LEAVES[leaf]}"] = tensor.t() if leaf == "kernel" else tensor
    return tensors


def _sizes(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """config.json as far as the weights say it.

    Raises:
        CheckpointError: they aren't a BERT's.
    """

    def shape(name: str) -> tuple[int, int]:
        tensor = tensors.get(f"bert.{name}.weight")
        if tensor is None or tensor.dim() != 2:
            raise CheckpointError(
                f"there is no matrix {name.replace('.', '/')} in it", where=str(path),
                fix="give the weights of a TFBertModel, as save_weights writes them",
            )  # fmt: skip
        return tensor.shape[0], tensor.shape[1]

    vocab_size, width = shape("embeddings.word_embeddings")
    layers = {match[1] for name in tensors if (match := re.match(r"bert\.encoder\.layer\.(\d+)\.", name))}
    return {
        "model_type": "bert",
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, width // HEAD_WIDTH),
        "intermediate_size": shape("encoder.layer.0.intermediate.dense")[0],
        "max_position_embeddings": shape("embeddings.position_embeddings")[0],
        "type_vocab_size": shape("embeddings.token_type_embeddings")[0],
    }


def _read_config(path: Path) -> dict[str, Any]:
    """What a config.json says beyond the sizes: heads, activation, epsilon, dropout."""
    kept = ("num_attention_heads", "hidden_act", "layer_norm_eps", "hidden_dropout_prob",
            "attention_probs_dropout_prob", "initializer_range")  # fmt: skip
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return {key: config[key] for key in kept if key in config}
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"this isn't a config.json: {error}", where=str(path)) from error
