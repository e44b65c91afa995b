"""Weights and settings of Hugging Face's models as ours, both ways. Needs no transformers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trifecta.errors import CheckpointError
from trifecta.interop.exports import to_hf_config
from trifecta.interop.heads import without_head
from trifecta.interop.imports import from_hf_config
from trifecta.interop.names import FAMILIES, Family, Kind, Row, family_of

__all__ = ["Imported", "from_hf", "from_hf_config", "from_hf_state", "kind_of", "to_hf_config", "to_hf_state"]

_TOKEN_TYPES = "bert.embeddings.token_type_embeddings.weight"
_POSITIONS = "roberta.embeddings.position_embeddings.weight"


@dataclass(frozen=True)
class Imported:
    """One of their models as one of ours.

    kind: model.type. fields: the model's keyword arguments. state: its weights, fp32; those of a head or pooler may be
    absent where the file has none. labels: the classes of a model that judges images. left_out: their names of a task's
    head, which isn't read.
    """

    kind: Kind
    fields: Mapping[str, Any]
    vocab_size: int
    state: Mapping[str, Tensor]
    labels: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def kind_of(config: Mapping[str, Any]) -> Kind:
    """The model.type of a model_type that is known."""
    return FAMILIES[config["model_type"]].kind


def from_hf(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Imported:
    """Their config.json as a dict, and their weights.

    Raises:
        CheckpointError: what our models can't express, or weights that don't belong to the config.
    """
    config, state, left_out = without_head(config, state)
    fields, vocab_size = from_hf_config(config)
    ours = {name: tensor.float() for name, tensor in from_hf_state(state, config).items()}
    if kind_of(config) == "bert":
        fields["pooler"] = "pooler.weight" in ours
    labels: tuple[str, ...] = ()
    if kind_of(config) == "vit":
        named = {int(number): str(label) for number, label in (config.get("id2label") or {}).items()}
        count = len(ours["head.weight"]) if "head.weight" in ours else len(named)
        labels = tuple(named.get(number, f"LABEL_{number}") for number in range(count))
    return Imported(kind_of(config), fields, vocab_size, ours, labels, left_out)


def from_hf_state(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights (or gradients) in their names -> in ours, each in memory of its own.

    config: their config.json as a dict; of it model_type, layers and tying are read.

    Raises:
        CheckpointError: a tensor is missing or unknown; all of them are named.
    """
    fields, _ = from_hf_config(config)
    family = family_of(config["model_type"], gated=_is_gated(fields))
    rest = _prepared(state, config, family, tied=fields.get("tie_embeddings", False))
    ours: dict[str, Tensor] = {}
    missing = []
    for row in _rows(family, {"": fields["num_layers"], "decoder.": fields.get("num_decoder_layers") or 0}):
        if (theirs := rest.pop(row.theirs, None)) is not None:
            stacked = _ours_shaped(theirs.t() if row.transposed else theirs, row)
            ours |= {
                name: part.clone().contiguous()
                for name, part in zip(row.ours, stacked.chunk(len(row.ours)), strict=True)
            }
        elif not row.optional:
            missing.append(row.theirs)
    if missing or rest:
        raise CheckpointError(
            f"the weights don't fit model_type {config['model_type']!r}: missing {_names(missing)}; "
            f"unknown {_names(list(rest))}",
            fix="check that config.json belongs to these weights",
        )
    return ours


def to_hf_state(state: Mapping[str, Tensor], model_type: str, *, channels: int = 3) -> dict[str, Tensor]:
    """Weights (or gradients) in our names -> in theirs. A tied head is left out; transformers ties it on loading.

    channels: of a ViT's images, which the shape of ours doesn't tell.

    Raises:
        CheckpointError: a tensor that this model_type lacks, or one missing.
    """
    rest = dict(state)
    family = family_of(model_type, gated=any(".feedforward.gate." in name for name in state))
    theirs: dict[str, Tensor] = {}
    if model_type == "bert" and "embedding.segment.weight" not in state:  # theirs always adds one
        rest["embedding.segment.weight"] = torch.zeros_like(state["embedding.token.weight"][:1])
    missing = []
    for row in _rows(family, {"": _layers(state, "(encoder.)?"), "decoder.": _layers(state, "decoder.")}):
        parts = [rest.pop(name, None) for name in row.ours]
        if all(part is not None for part in parts):
            stacked = _theirs_shaped(torch.cat([part for part in parts if part is not None]), row, channels)
            theirs[row.theirs] = stacked.t().contiguous() if row.transposed else stacked
        elif not row.optional:
            missing += [name for name, part in zip(row.ours, parts, strict=True) if part is None]
    if model_type == "bert" and family.head in theirs:  # untied, theirs reads this bias instead
        theirs["cls.predictions.decoder.bias"] = theirs["cls.predictions.bias"].clone()
    if missing or rest:
        raise CheckpointError(
            f"the model doesn't fit model_type {model_type!r}: missing {_names(missing)}; unknown {_names(list(rest))}"
        )
    return theirs


def _ours_shaped(theirs: Tensor, row: Row) -> Tensor:
    if row.shape == "row":
        return theirs[0]
    return theirs.flatten(1) if row.shape == "kernel" else theirs


def _theirs_shaped(ours: Tensor, row: Row, channels: int) -> Tensor:
    if row.shape == "row":
        return ours[None]
    if row.shape == "same":
        return ours
    side = math.isqrt(ours.shape[1] // channels)
    return ours.view(len(ours), channels, side, side)


def _is_gated(fields: Mapping[str, Any]) -> bool:
    return str(fields["activation"]).startswith(("geglu", "swiglu"))


def _layers(names: Iterable[str], prefix: str) -> int:
    found = (re.match(rf"{prefix}blocks\.(\d+)\.", name) for name in names)
    return 1 + max((int(match[match.lastindex or 0]) for match in found if match), default=-1)


def _rows(family: Family, layers: Mapping[str, int]) -> list[Row]:
    """Every row, once for each of its stack's layers."""
    rows = []
    for row in family.rows:
        number = layers["decoder." if row.ours[0].startswith("decoder.") else ""]
        for i in range(number if "{i}" in row.theirs else 1):
            ours = tuple(name.replace("{i}", str(i)) for name in row.ours)
            rows.append(replace(row, ours=ours, theirs=row.theirs.replace("{i}", str(i))))
    return rows


def _prepared(
    state: Mapping[str, Tensor], config: Mapping[str, Any], family: Family, *, tied: bool
) -> dict[str, Tensor]:
    """Their tensors under their newest names, without buffers and copies.

    Raises:
        CheckpointError: a head that should be the embedding isn't.
    """
    named = {_newest_name(name, family): tensor for name, tensor in state.items()}
    rest = {name: tensor for name, tensor in named.items() if not name.endswith(family.ignored)}
    embedding = rest.get(family.rows[0].theirs)
    if tied:
        head = rest.pop(family.head, None)
        if head is not None and embedding is not None and not torch.equal(head, embedding):
            raise CheckpointError(
                f"{family.head} differs from the embedding, but config.json says that they are one",
                where="config.json", fix="set tie_word_embeddings to false there",
            )  # fmt: skip
    elif family.kind == "t5" and embedding is not None:
        rest.setdefault(family.head, embedding)  # v1.1's config says no more than that the head isn't scaled
    own_bias = named.get(family.head.replace(".weight", ".bias"))
    if not tied and own_bias is not None and family.head.endswith(".decoder.weight"):  # else one with the head's other
        rest[family.head.replace("decoder.weight", "bias")] = own_bias
    if _POSITIONS in rest:  # positions are counted from the row after the padding's
        rest[_POSITIONS] = rest[_POSITIONS][config.get("pad_token_id", 1) + 1 :]
    return rest


def _newest_name(name: str, family: Family) -> str:
    """TensorFlow's `gamma` and `beta` as `weight` and `bias`; files of a bare model have no prefix."""
    name = re.sub(r"(LayerNorm|layer_norm)\.gamma$", r"\1.weight", name)
    name = re.sub(r"(LayerNorm|layer_norm)\.beta$", r"\1.bias", name)
    name = name if name.startswith((family.prefix, *family.outside)) else f"{family.prefix}{name}"
    for pattern, older in family.renamed:
        name = re.sub(pattern, older, name)
    return name


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:4]) or "nothing"
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
