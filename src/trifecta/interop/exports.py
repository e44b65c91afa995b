"""Fields of our models as Hugging Face's config.json; what no model of theirs can express is refused by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from trifecta.errors import RecipeError
from trifecta.interop.imports import ACTIVATIONS, GATES
from trifecta.interop.names import Kind
from trifecta.models import MODELS

Fields = Mapping[str, Any]
Wanted = dict[str, tuple[Any, ...]]

_PLAIN = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())} | {"gelu_tanh": "gelu_pytorch_tanh"}
_GATED = {ours: theirs for theirs, ours in reversed(GATES.items())} | {"geglu_tanh": "gelu_pytorch_tanh"}
_OF_GPT2 = _PLAIN | {"gelu_tanh": "gelu_new"}
"""Our activations -> names of theirs that compute the same; GPT-2's own has another order of its operations."""


def to_hf_config(
    fields: Fields, vocab_size: int, *, kind: Kind = "gpt", eos_id: int | None = None,
    special: Mapping[str, int | None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Keyword arguments of our model -> their config.json as a dict.

    GPT: GPT-2 for learned positions; for rotary ones Starcoder2 (LayerNorm), Qwen3 (with qk_norm) or Llama. BERT: BERT
    where norms come after additions, else ModernBERT. T5: T5. ViT: ViT, whose classes are the caller's to add.

    Args:
        eos_id: end of text; it begins one too.
        special: further ids by their keys, such as `pad_token_id`.

    Raises:
        RecipeError: none can express the model; each setting that stands in the way is named.
    """
    signature = inspect.signature(MODELS[kind]).parameters.values()
    defaults = {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}
    model = {**defaults, **{key: value for key, value in fields.items() if key != "type"}}
    model_type = _model_type(kind, model)
    _require(model_type, model)
    config = _WRITERS[model_type](model)
    if kind == "vit":
        return {**config, "dtype": "float32", "model_type": model_type}
    shared = {"vocab_size": vocab_size, "bos_token_id": eos_id, "eos_token_id": eos_id, **(special or {})}
    tied = {"tie_word_embeddings": model["tie_embeddings"], "dtype": "float32", "model_type": model_type}
    return {**config, **shared, **tied}


def _model_type(kind: Kind, model: Fields) -> str:
    if kind in ("t5", "vit"):
        return kind
    if kind == "bert":
        return "bert" if model["norm_position"] == "post" else "modernbert"
    if model["position"] == "learned":
        return "gpt2"
    if model["norm"] == "layernorm":
        return "starcoder2"
    return "qwen3" if model["qk_norm"] else "llama"


def _require(model_type: str, model: Fields) -> None:
    wanted = dict(_EXPORTABLE[model_type])
    if model_type in ("gpt2", "bert", "modernbert"):
        wanted["num_kv_heads"] = (None, model["num_heads"])
    if model_type == "bert":
        wanted["head_activation"] = (model["activation"],)  # theirs is one setting
    wrong = [key for key, accepted in wanted.items() if model[key] not in accepted]
    if wrong:
        raise RecipeError(
            f"Hugging Face's {model_type} can't express " + ", ".join(f"model.{key}: {model[key]}" for key in wrong),
            fix="; ".join(f"model.{key} must be {' or '.join(str(v) for v in wanted[key] if v is not None) or 'null'}"
                          for key in wrong),
        )  # fmt: skip


_GPT: Wanted = {"norm_position": ("pre",), "logit_soft_cap": (None,)}
_ROPE: Wanted = {**_GPT, "position": ("rope",)}
_PLAIN_ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "relu2")
_EXPORTABLE: dict[str, Wanted] = {
    "gpt2": {**_GPT, "norm": ("layernorm",), "activation": _PLAIN_ACTIVATIONS, "bias": (True,), "qk_norm": (False,)},
    "llama": {**_ROPE, "activation": ("swiglu",)},
    "qwen3": {**_ROPE, "activation": ("swiglu",), "bias": (False,)},
    "starcoder2": {**_ROPE, "activation": _PLAIN_ACTIVATIONS, "qk_norm": (False,)},
    "bert": {
        "position": ("learned",), "norm": ("layernorm",), "activation": _PLAIN_ACTIVATIONS, "bias": (True,),
        "qk_norm": (False,),
    },
    "modernbert": {
        "position": ("rope",), "norm": ("layernorm",), "activation": ("geglu", "geglu_tanh", "swiglu"),
        "qk_norm": (False,), "segment_types": (0,), "pooler": (False,),
    },
    "t5": {},
    "vit": {
        "pooling": ("first",), "norm": ("layernorm",), "activation": _PLAIN_ACTIVATIONS, "bias": (True,),
        "qk_norm": (False,),
    },
}  # fmt: skip
"""model_type -> our settings that it can express; a setting that isn't listed can be anything. Dropout rates, of which
theirs have fewer, don't count: they matter to training alone."""


def _rate(model: Fields, part: str) -> float:
    own = model[f"{part}_dropout"]
    return float(model["dropout"] if own is None else own)


def _gpt2(model: Fields) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": model["d_model"],
        "n_head": model["num_heads"],
        "n_layer": model["num_layers"],
        "n_inner": model["d_ff"],
        "n_positions": model["max_sequence_length"],
        "activation_function": _OF_GPT2[model["activation"]],
        "resid_pdrop": _rate(model, "feedforward"),
        "attn_pdrop": _rate(model, "attention"),
        "embd_pdrop": _rate(model, "embedding"),
        "layer_norm_epsilon": model["norm_epsilon"],
        "initializer_range": model["init_std"],
    }


def _rotary(model: Fields, architecture: str) -> dict[str, Any]:
    length = model["max_sequence_length"]
    return {
        "architectures": [architecture],
        "hidden_size": model["d_model"],
        "num_attention_heads": model["num_heads"],
        "num_key_value_heads": model["num_kv_heads"] or model["num_heads"],
        "head_dim": model["d_model"] // model["num_heads"],
        "num_hidden_layers": model["num_layers"],
        "intermediate_size": model["d_ff"],
        "attention_dropout": _rate(model, "attention"),
        "initializer_range": model["init_std"],
        "rope_parameters": {"rope_type": "default", "rope_theta": model["rope_theta"]},
    } | ({"max_position_embeddings": length} if length else {})


def _llama(model: Fields) -> dict[str, Any]:
    own = {"attention_bias": model["bias"], "mlp_bias": model["bias"]}
    return _rotary(model, "LlamaForCausalLM") | {"hidden_act": "silu", "rms_norm_eps": model["norm_epsilon"]} | own


def _qwen3(model: Fields) -> dict[str, Any]:
    own = {"attention_bias": False, "use_sliding_window": False}
    return _rotary(model, "Qwen3ForCausalLM") | {"hidden_act": "silu", "rms_norm_eps": model["norm_epsilon"]} | own


def _starcoder2(model: Fields) -> dict[str, Any]:
    return _rotary(model, "Starcoder2ForCausalLM") | {
        "hidden_act": _PLAIN[model["activation"]],
        "norm_epsilon": model["norm_epsilon"],
        "use_bias": model["bias"],
        "sliding_window": None,
        "residual_dropout": _rate(model, "feedforward"),
        "embedding_dropout": _rate(model, "embedding"),
    }


def _bert(model: Fields) -> dict[str, Any]:
    return {
        "architectures": ["BertForMaskedLM"],
        "hidden_size": model["d_model"],
        "num_attention_heads": model["num_heads"],
        "num_hidden_layers": model["num_layers"],
        "intermediate_size": model["d_ff"],
        "hidden_act": _PLAIN[model["activation"]],
        "hidden_dropout_prob": _rate(model, "feedforward"),
        "attention_probs_dropout_prob": _rate(model, "attention"),
        "max_position_embeddings": model["max_sequence_length"],
        "type_vocab_size": max(1, model["segment_types"]),
        "layer_norm_eps": model["norm_epsilon"],
        "initializer_range": model["init_std"],
    }


def _modernbert(model: Fields) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": model["rope_theta"]}
    length = model["max_sequence_length"]
    return {
        "architectures": ["ModernBertForMaskedLM"],
        "hidden_size": model["d_model"],
        "num_attention_heads": model["num_heads"],
        "num_hidden_layers": model["num_layers"],
        "intermediate_size": model["d_ff"],
        "hidden_activation": {**_GATED, "geglu": "gelu"}[model["activation"]],
        "classifier_activation": _PLAIN[model["head_activation"]],
        "global_attn_every_n_layers": 1,
        "layer_types": ["full_attention"] * model["num_layers"],
        "rope_parameters": {"full_attention": rope, "sliding_attention": rope},
        "attention_bias": model["bias"],
        "mlp_bias": model["bias"],
        "classifier_bias": model["bias"],
        **dict.fromkeys(("pad_token_id", "cls_token_id", "sep_token_id")),  # else it has ids of its own
        "norm_bias": True,
        "decoder_bias": True,
        "norm_eps": model["norm_epsilon"],
        "attention_dropout": _rate(model, "attention"),
        "mlp_dropout": _rate(model, "feedforward"),
        "embedding_dropout": _rate(model, "embedding"),
        "initializer_range": model["init_std"],
    } | ({"max_position_embeddings": length} if length else {})


def _t5(model: Fields) -> dict[str, Any]:
    plain, gates = _PLAIN, {**_GATED, "geglu_tanh": "gelu"}
    activation = model["activation"]
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "is_encoder_decoder": True,
        "d_model": model["d_model"],
        "d_kv": model["head_width"] or model["d_model"] // model["num_heads"],
        "d_ff": model["d_ff"],
        "num_heads": model["num_heads"],
        "num_layers": model["num_layers"],
        "num_decoder_layers": model["num_decoder_layers"] or model["num_layers"],
        "feed_forward_proj": plain[activation] if activation in plain else f"gated-{gates[activation]}",
        "dropout_rate": model["dropout"],
        "relative_attention_num_buckets": model["relative_buckets"],
        "relative_attention_max_distance": model["relative_max_distance"],
        "layer_norm_epsilon": model["norm_epsilon"],
        "initializer_factor": model["init_std"],
    }


def _vit(model: Fields) -> dict[str, Any]:
    return {
        "architectures": ["ViTForImageClassification"],
        "image_size": model["image_size"],
        "patch_size": model["patch_size"],
        "num_channels": model["channels"],
        "hidden_size": model["d_model"],
        "num_attention_heads": model["num_heads"],
        "num_hidden_layers": model["num_layers"],
        "intermediate_size": model["d_ff"],
        "hidden_act": _PLAIN[model["activation"]],
        "hidden_dropout_prob": _rate(model, "feedforward"),
        "attention_probs_dropout_prob": _rate(model, "attention"),
        "layer_norm_eps": model["norm_epsilon"],
        "initializer_range": model["init_std"],
        "qkv_bias": True,
    }


_WRITERS: dict[str, Callable[[Fields], dict[str, Any]]] = {
    "gpt2": _gpt2, "llama": _llama, "qwen3": _qwen3, "starcoder2": _starcoder2, "bert": _bert,
    "modernbert": _modernbert, "t5": _t5, "vit": _vit,
}  # fmt: skip
