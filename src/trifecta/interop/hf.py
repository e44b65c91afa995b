"""Name maps between our GPT and Hugging Face's GPT-2 and Llama, as data, both ways. Needs no transformers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trifecta.errors import CheckpointError, RecipeError
from trifecta.models.gpt import Gpt


@dataclass(frozen=True)
class Row:
    """Our tensors, stacked by output feature, are their one tensor; `{i}` stands for the layer.

    transposed: theirs is (in, out), as in GPT-2's Conv1D. optional: absent without biases or with a tied head.
    """

    ours: tuple[str, ...]
    theirs: str
    transposed: bool = False
    optional: bool = False


def _linear(ours: tuple[str, ...], theirs: str, *, transposed: bool, bias_optional: bool) -> list[Row]:
    return [
        Row(tuple(f"{name}.weight" for name in ours), f"{theirs}.weight", transposed),
        Row(tuple(f"{name}.bias" for name in ours), f"{theirs}.bias", optional=bias_optional),
    ]


def _norm(ours: str, theirs: str) -> list[Row]:
    return [Row((f"{ours}.weight",), f"{theirs}.weight"), Row((f"{ours}.bias",), f"{theirs}.bias")]


def _conv(ours: tuple[str, ...], theirs: str) -> list[Row]:
    return _linear(ours, theirs, transposed=True, bias_optional=False)


def _dense(ours: str, theirs: str) -> list[Row]:
    return _linear((ours,), theirs, transposed=False, bias_optional=True)


_B, _G, _L = "blocks.{i}", "transformer.h.{i}", "model.layers.{i}"

NAMES: dict[str, list[Row]] = {
    "gpt2": [
        Row(("embedding.token.weight",), "transformer.wte.weight"),
        Row(("embedding.position.weight",), "transformer.wpe.weight"),
        *_norm(f"{_B}.attention_norm", f"{_G}.ln_1"),
        *_conv(tuple(f"{_B}.attention.{part}" for part in ("query", "key", "value")), f"{_G}.attn.c_attn"),
        *_conv((f"{_B}.attention.out",), f"{_G}.attn.c_proj"),
        *_norm(f"{_B}.feedforward_norm", f"{_G}.ln_2"),
        *_conv((f"{_B}.feedforward.up",), f"{_G}.mlp.c_fc"),
        *_conv((f"{_B}.feedforward.down",), f"{_G}.mlp.c_proj"),
        *_norm("norm", "transformer.ln_f"),
        Row(("head.weight",), "lm_head.weight", optional=True),
    ],
    "llama": [
        Row(("embedding.token.weight",), "model.embed_tokens.weight"),
        Row((f"{_B}.attention_norm.weight",), f"{_L}.input_layernorm.weight"),
        *_dense(f"{_B}.attention.query", f"{_L}.self_attn.q_proj"),
        *_dense(f"{_B}.attention.key", f"{_L}.self_attn.k_proj"),
        *_dense(f"{_B}.attention.value", f"{_L}.self_attn.v_proj"),
        *_dense(f"{_B}.attention.out", f"{_L}.self_attn.o_proj"),
        Row((f"{_B}.feedforward_norm.weight",), f"{_L}.post_attention_layernorm.weight"),
        *_dense(f"{_B}.feedforward.gate", f"{_L}.mlp.gate_proj"),
        *_dense(f"{_B}.feedforward.up", f"{_L}.mlp.up_proj"),
        *_dense(f"{_B}.feedforward.down", f"{_L}.mlp.down_proj"),
        Row(("norm.weight",), "model.norm.weight"),
        Row(("head.weight",), "lm_head.weight", optional=True),
    ],
}
"""model_type -> rows. Query and key rows keep their order: our rotary pairs are Hugging Face's (nn/position.py)."""

_NOT_WEIGHTS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
"""Buffers that old checkpoints hold beside the weights."""


# --------------------------------------------------------------------------------------------------------- weights


def from_hf_state(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights (or gradients) in their names -> in ours, each in memory of its own.

    config: their config.json as a dict; of it model_type, layers and tying are read.

    Raises:
        CheckpointError: a tensor is missing or unknown; all of them are named.
    """
    fields, _ = from_hf_config(config)
    rest = {_with_prefix(name, config["model_type"]): tensor for name, tensor in state.items()}
    if fields["tie_embeddings"]:
        rest.pop("lm_head.weight", None)
    ours: dict[str, Tensor] = {}
    missing = []
    for row in _rows(config["model_type"], fields["num_layers"]):
        if (theirs := rest.pop(row.theirs, None)) is not None:
            stacked = theirs.t() if row.transposed else theirs
            ours |= {
                name: part.clone().contiguous()
                for name, part in zip(row.ours, stacked.chunk(len(row.ours)), strict=True)
            }
        elif not row.optional:
            missing.append(row.theirs)
    unknown = [name for name in rest if not name.endswith(_NOT_WEIGHTS)]
    if missing or unknown:
        raise CheckpointError(
            f"the weights don't fit model_type {config['model_type']!r}: missing {_names(missing)}; "
            f"unknown {_names(unknown)}",
            fix="check that config.json belongs to these weights",
        )
    return ours


def to_hf_state(state: Mapping[str, Tensor], model_type: str) -> dict[str, Tensor]:
    """Weights (or gradients) in our names -> in theirs. A tied head is left out; transformers ties it on loading.

    Raises:
        CheckpointError: a tensor that this model_type lacks, or one missing.
    """
    rest = dict(state)
    num_layers = 1 + max((int(name.split(".")[1]) for name in state if name.startswith("blocks.")), default=-1)
    theirs: dict[str, Tensor] = {}
    missing = []
    for row in _rows(model_type, num_layers):
        parts = [rest.pop(name, None) for name in row.ours]
        if all(part is not None for part in parts):
            stacked = torch.cat([part for part in parts if part is not None])
            theirs[row.theirs] = stacked.t().contiguous() if row.transposed else stacked
        elif not row.optional:
            missing += [name for name, part in zip(row.ours, parts, strict=True) if part is None]
    if missing or rest:
        raise CheckpointError(
            f"the model doesn't fit model_type {model_type!r}: missing {_names(missing)}; unknown {_names(list(rest))}"
        )
    return theirs


def _rows(model_type: str, num_layers: int) -> list[Row]:
    rows = []
    for row in NAMES[model_type]:
        for i in range(num_layers if "{i}" in row.theirs else 1):
            ours = tuple(name.replace("{i}", str(i)) for name in row.ours)
            rows.append(Row(ours, row.theirs.replace("{i}", str(i)), row.transposed, row.optional))
    return rows


def _with_prefix(name: str, model_type: str) -> str:
    """The first GPT-2 checkpoints name `wte.weight` what later ones name `transformer.wte.weight`."""
    bare = model_type == "gpt2" and not name.startswith(("transformer.", "lm_head."))
    return f"transformer.{name}" if bare else name


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:4]) or "nothing"
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


# --------------------------------------------------------------------------------------------------------- configs


def from_hf_config(config: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Their config.json as a dict -> (fields of our `type: gpt`, vocab_size).

    Their residual dropout falls at attention's and feed-forward's outputs, ours is one rate for attention's weights and
    output: the attention rate is taken from theirs for the weights.

    Raises:
        CheckpointError: a model_type or a setting that our GPT can't express; all such settings are named.
    """
    readers: dict[str, Callable[[Mapping[str, Any]], tuple[dict[str, Any], int]]] = {
        "gpt2": _from_gpt2,
        "llama": _from_llama,
    }
    model_type = config.get("model_type")
    if model_type not in readers:
        raise CheckpointError(f"model_type {model_type!r} can't be read", fix=f"use one of: {', '.join(readers)}")
    return readers[model_type](config)


def _refuse(config: Mapping[str, Any], wanted: Mapping[str, tuple[Any, ...]]) -> None:
    """wanted: key -> accepted values, the first being Hugging Face's default."""
    wrong = [key for key, accepted in wanted.items() if config.get(key, accepted[0]) not in accepted]
    if wrong:
        raise CheckpointError(
            "our GPT can't express " + ", ".join(f"{key}={config[key]!r}" for key in wrong),
            where="config.json",
            fix="; ".join(f"{key} must be one of {', '.join(map(repr, wanted[key]))}" for key in wrong),
        )


_GPT2_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}


def _from_gpt2(config: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    _refuse(
        config,
        {
            "activation_function": tuple(_GPT2_ACTIVATIONS),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "add_cross_attention": (False,),
        },
    )
    get = config.get
    d_model = get("n_embd", 768)
    fields = {
        "d_model": d_model,
        "num_heads": get("n_head", 12),
        "num_layers": get("n_layer", 12),
        "d_ff": get("n_inner") or 4 * d_model,
        "dropout": get("resid_pdrop", 0.1),
        "attention_dropout": get("attn_pdrop", 0.1),
        "embedding_dropout": get("embd_pdrop", 0.1),
        "position": "learned",
        "max_sequence_length": get("n_positions", 1024),
        "norm": "layernorm",
        "norm_epsilon": get("layer_norm_epsilon", 1e-5),
        "activation": _GPT2_ACTIVATIONS[get("activation_function", "gelu_new")],
        "tie_embeddings": get("tie_word_embeddings", True),
        "bias": True,
        "init": "depth_scaled",
        "init_std": get("initializer_range", 0.02),
    }
    return fields, get("vocab_size", 50257)


def _from_llama(config: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    get = config.get
    d_model, num_heads = get("hidden_size", 4096), get("num_attention_heads", 32)
    rope = get("rope_parameters") or get("rope_scaling") or {}
    bias = get("attention_bias", False)
    _refuse(
        {**config, "rope_type": rope.get("rope_type", rope.get("type", "default"))},
        {
            "hidden_act": ("silu",),
            "rope_type": ("default",),
            "head_dim": (None, d_model // num_heads),
            "mlp_bias": (False,) if not bias else (bias,),
        },
    )
    fields = {
        "d_model": d_model,
        "num_heads": num_heads,
        "num_kv_heads": get("num_key_value_heads") or num_heads,
        "num_layers": get("num_hidden_layers", 32),
        "d_ff": get("intermediate_size", 11008),
        "dropout": 0.0,
        "attention_dropout": get("attention_dropout", 0.0),
        "position": "rope",
        "rope_theta": float(rope.get("rope_theta", get("rope_theta", 10000.0))),
        "max_sequence_length": get("max_position_embeddings", 2048),
        "norm": "rmsnorm",
        "norm_epsilon": get("rms_norm_eps", 1e-6),
        "activation": "swiglu",
        "tie_embeddings": get("tie_word_embeddings", False),
        "bias": bias,
        "init_std": get("initializer_range", 0.02),
    }
    return fields, get("vocab_size", 32000)


_EXPORTABLE: dict[str, dict[str, tuple[Any, ...]]] = {
    "gpt2": {
        "position": ("learned",),
        "norm": ("layernorm",),
        "activation": ("gelu_tanh", "gelu", "relu"),
        "bias": (True,),
    },
    "llama": {"position": ("rope",), "norm": ("rmsnorm",), "activation": ("swiglu",)},
}
_EXPORTABLE_BOTH: dict[str, tuple[Any, ...]] = {
    "norm_position": ("pre",),
    "qk_norm": (False,),
    "logit_soft_cap": (None,),
}


def to_hf_config(fields: Mapping[str, Any], vocab_size: int, *, eos_id: int | None = None) -> dict[str, Any]:
    """Fields of our `type: gpt` -> their config.json as a dict: GPT-2's for learned positions, Llama's for rotary ones.

    Raises:
        RecipeError: neither can express the model; each setting that stands in the way is named.
    """
    defaults = {p.name: p.default for p in inspect.signature(Gpt).parameters.values() if p.kind is p.KEYWORD_ONLY}
    model = {**defaults, **{key: value for key, value in fields.items() if key != "type"}}
    model["num_kv_heads"] = model["num_kv_heads"] or model["num_heads"]
    model_type = "gpt2" if model["position"] == "learned" else "llama"
    wanted = _EXPORTABLE[model_type] | _EXPORTABLE_BOTH
    if model_type == "gpt2":
        wanted = wanted | {"num_kv_heads": (model["num_heads"],)}
    wrong = [key for key, accepted in wanted.items() if model[key] not in accepted]
    if wrong:
        raise RecipeError(
            f"Hugging Face's {model_type} can't express " + ", ".join(f"model.{key}: {model[key]}" for key in wrong),
            fix="; ".join(f"model.{key} must be {' or '.join(map(str, wanted[key]))}" for key in wrong),
        )
    config = _to_gpt2(model) if model_type == "gpt2" else _to_llama(model)
    shared = {
        "vocab_size": vocab_size,
        "initializer_range": model["init_std"],
        "bos_token_id": eos_id,
        "eos_token_id": eos_id,
    }
    return {**config, **shared, "tie_word_embeddings": model["tie_embeddings"]}


def _rate(model: Mapping[str, Any], part: str) -> float:
    own = model[f"{part}_dropout"]
    return float(model["dropout"] if own is None else own)


def _to_gpt2(model: Mapping[str, Any]) -> dict[str, Any]:
    theirs = {ours: theirs for theirs, ours in reversed(_GPT2_ACTIVATIONS.items())}
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": model["d_model"],
        "n_head": model["num_heads"],
        "n_layer": model["num_layers"],
        "n_inner": model["d_ff"],
        "n_positions": model["max_sequence_length"],
        "activation_function": theirs[model["activation"]],
        "resid_pdrop": _rate(model, "feedforward"),
        "attn_pdrop": _rate(model, "attention"),
        "embd_pdrop": _rate(model, "embedding"),
        "layer_norm_epsilon": model["norm_epsilon"],
    }


def _to_llama(model: Mapping[str, Any]) -> dict[str, Any]:
    length = model["max_sequence_length"]
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": model["d_model"],
        "num_attention_heads": model["num_heads"],
        "num_key_value_heads": model["num_kv_heads"],
        "head_dim": model["d_model"] // model["num_heads"],
        "num_hidden_layers": model["num_layers"],
        "intermediate_size": model["d_ff"],
        "hidden_act": "silu",
        "attention_bias": model["bias"],
        "mlp_bias": model["bias"],
        "attention_dropout": _rate(model, "attention"),
        "rms_norm_eps": model["norm_epsilon"],
        "rope_parameters": {"rope_type": "default", "rope_theta": model["rope_theta"]},
    } | ({"max_position_embeddings": length} if length else {})
