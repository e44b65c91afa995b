"""Hugging Face's config.json as fields of our models; what they can't express is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trifecta.errors import CheckpointError

Config = Mapping[str, Any]
Read = tuple[dict[str, Any], int]
"""A model's keyword arguments, and its vocab_size."""

ACTIVATIONS = {
    "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu", "relu2": "relu2",
}  # fmt: skip
GATES = {"silu": "swiglu", "swish": "swiglu", "gelu_python": "geglu", "gelu_new": "geglu_tanh",
         "gelu_pytorch_tanh": "geglu_tanh"}  # fmt: skip
"""Their names of functions -> our activation, plain and gated. The exact gelu comes last: in T5 `gelu` is another."""

HEAD_ACTIVATIONS = ("gelu", "gelu_tanh", "relu")
_NEVER = ("quantization_config", "compression_config")


def from_hf_config(config: Config) -> Read:
    """Their config.json as a dict -> (keyword arguments of our model, vocab_size).

    Their residual dropout falls at attention's and feed-forward's outputs, ours is one rate for attention's weights and
    output: the attention rate is taken from theirs for the weights.

    Raises:
        CheckpointError: a model_type or a setting that our models can't express; all such settings are named.
    """
    model_type = config.get("model_type")
    if model_type not in READERS:
        raise CheckpointError(
            f"model_type {model_type!r} can't be read", where="config.json", fix=f"use one of: {', '.join(READERS)}"
        )
    _refuse(config, dict.fromkeys(_NEVER, (None,)))
    return READERS[model_type](config)


def _refuse(config: Config, wanted: Mapping[str, tuple[Any, ...]]) -> None:
    """wanted: key -> accepted values, the first being Hugging Face's default."""
    wrong = [key for key, accepted in wanted.items() if config.get(key, accepted[0]) not in accepted]
    if wrong:
        raise CheckpointError(
            f"our {'/'.join(sorted({_KINDS.get(str(config.get('model_type')), 'model')}))} can't express "
            + ", ".join(f"{key}={config[key]!r}" for key in wrong),
            where="config.json",
            fix="; ".join(f"{key} must be one of {', '.join(map(repr, wanted[key]))}" for key in wrong),
        )


def _function(config: Config, key: str, default: str, known: Mapping[str, str]) -> str:
    _refuse(config, {key: (default, *known)})
    return known[config.get(key, default)]


def _gpt2(config: Config) -> Read:
    _refuse(
        config,
        {
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
        "activation": _function(config, "activation_function", "gelu_new", ACTIVATIONS),
        "tie_embeddings": get("tie_word_embeddings", True),
        "bias": True,
        "init": "depth_scaled",
        "init_std": get("initializer_range", 0.02),
    }
    return fields, get("vocab_size", 50257)


def _rotary(config: Config, **defaults: Any) -> Read:
    """What Llama and its kin have in common; defaults: theirs, by their names."""

    def get(key: str) -> Any:
        return config.get(key, defaults[key])

    d_model, num_heads, length = get("hidden_size"), get("num_attention_heads"), get("max_position_embeddings")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    _refuse(
        {**config, "rope_type": rope.get("rope_type", rope.get("type", "default")), "head_dim": get("head_dim")},
        {"rope_type": ("default",), "head_dim": (None, d_model // num_heads)},
    )
    if config.get("use_sliding_window", "sliding_window" in config) and (get("sliding_window") or length) < length:
        _refuse(config, {"sliding_window": (None,)})
    fields = {
        "d_model": d_model,
        "num_heads": num_heads,
        "num_kv_heads": get("num_key_value_heads") or num_heads,
        "num_layers": get("num_hidden_layers"),
        "d_ff": get("intermediate_size"),
        "dropout": 0.0,
        "attention_dropout": config.get("attention_dropout", 0.0),
        "position": "rope",
        "rope_theta": float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        "max_sequence_length": length,
        "norm": "rmsnorm",
        "norm_epsilon": config.get("rms_norm_eps", 1e-6),
        "activation": "swiglu",
        "tie_embeddings": get("tie_word_embeddings"),
        "bias": False,
        "init_std": config.get("initializer_range", 0.02),
    }
    return fields, get("vocab_size")


def _llama(config: Config) -> Read:
    bias = config.get("attention_bias", False)
    _refuse(config, {"hidden_act": ("silu",), "mlp_bias": (False,) if not bias else (bias,)})
    if bias:
        _refuse({"mlp_bias": False, **config}, {"mlp_bias": (True,)})
    fields, vocab_size = _rotary(
        config, hidden_size=4096, num_attention_heads=32, num_key_value_heads=None, num_hidden_layers=32,
        intermediate_size=11008, max_position_embeddings=2048, head_dim=None, sliding_window=None,
        tie_word_embeddings=False, vocab_size=32000,
    )  # fmt: skip
    return fields | {"bias": bias}, vocab_size


def _qwen3(config: Config) -> Read:
    _refuse(config, {"hidden_act": ("silu",), "attention_bias": (False,)})
    fields, vocab_size = _rotary(
        config, hidden_size=4096, num_attention_heads=32, num_key_value_heads=32, num_hidden_layers=32,
        intermediate_size=22016, max_position_embeddings=32768, head_dim=128, sliding_window=4096,
        tie_word_embeddings=False, vocab_size=151936,
    )  # fmt: skip
    return fields | {"qk_norm": True}, vocab_size


def _starcoder2(config: Config) -> Read:
    activation = _function(config, "hidden_act", "gelu_pytorch_tanh", ACTIVATIONS)
    fields, vocab_size = _rotary(
        config, hidden_size=3072, num_attention_heads=24, num_key_value_heads=2, num_hidden_layers=30,
        intermediate_size=12288, max_position_embeddings=4096, head_dim=None, sliding_window=None,
        tie_word_embeddings=True, vocab_size=49152,
    )  # fmt: skip
    return fields | {
        "norm": "layernorm",
        "norm_epsilon": config.get("norm_epsilon", 1e-5),
        "activation": activation,
        "dropout": config.get("residual_dropout", 0.0),
        "embedding_dropout": config.get("embedding_dropout", 0.0),
        "bias": config.get("use_bias", True),
    }, vocab_size


def _bert(config: Config) -> Read:
    """BERT, and RoBERTa, whose table has rows for the padding and those before it, which nothing reads."""
    get, roberta = config.get, config["model_type"] == "roberta"
    _refuse(config, {"position_embedding_type": ("absolute",), "is_decoder": (False,), "add_cross_attention": (False,)})
    activation = _function(config, "hidden_act", "gelu", ACTIVATIONS)
    head = "gelu" if roberta else activation
    if head not in HEAD_ACTIVATIONS:
        _refuse(config, {"hidden_act": ("gelu", "gelu_new", "relu")})
    skipped = get("pad_token_id", 1) + 1 if roberta else 0
    fields = {
        "d_model": get("hidden_size", 768),
        "num_heads": get("num_attention_heads", 12),
        "num_layers": get("num_hidden_layers", 12),
        "d_ff": get("intermediate_size", 3072),
        "dropout": get("hidden_dropout_prob", 0.1),
        "attention_dropout": get("attention_probs_dropout_prob", 0.1),
        "max_sequence_length": get("max_position_embeddings", 512) - skipped,
        "segment_types": get("type_vocab_size", 2),
        "norm_epsilon": get("layer_norm_eps", 1e-12),
        "tie_embeddings": get("tie_word_embeddings", True),
        "init_std": get("initializer_range", 0.02),
    }
    return _post_norm(activation, head) | fields, get("vocab_size", 50265 if roberta else 30522)


def _distilbert(config: Config) -> Read:
    get = config.get
    activation = _function(config, "activation", "gelu", {"gelu": "gelu", "relu": "relu"})
    fields = {
        "d_model": get("dim", 768),
        "num_heads": get("n_heads", 12),
        "num_layers": get("n_layers", 6),
        "d_ff": get("hidden_dim", 3072),
        "dropout": get("dropout", 0.1),
        "attention_dropout": get("attention_dropout", 0.1),
        "max_sequence_length": get("max_position_embeddings", 512),
        "segment_types": 0,
        "norm_epsilon": 1e-12,
        "tie_embeddings": get("tie_word_embeddings", True),
        "init_std": get("initializer_range", 0.02),
    }
    return _post_norm(activation, activation) | fields, get("vocab_size", 30522)


def _post_norm(activation: str, head_activation: str) -> dict[str, Any]:
    return {
        "position": "learned", "norm": "layernorm", "norm_position": "post", "bias": True, "pooler": False,
        "activation": activation, "head_activation": head_activation,
    }  # fmt: skip


def _modernbert(config: Config) -> Read:
    get, num_layers = config.get, config.get("num_hidden_layers", 22)
    bias = get("attention_bias", False)
    every = get("global_attn_every_n_layers", 3)
    kinds = get("layer_types") or ["sliding_attention" if i % every else "full_attention" for i in range(num_layers)]
    rope = (get("rope_parameters") or {}).get("full_attention", {})
    asked = {"norm_bias": False, **config, "attention": ", ".join(sorted(set(kinds)))}
    asked["rope_type"] = rope.get("rope_type", "default")
    same = dict.fromkeys(("mlp_bias", "classifier_bias"), (False,) if not bias else (True,))
    asked = {"mlp_bias": False, "classifier_bias": False, **asked}
    _refuse(asked, {"norm_bias": (True,), "decoder_bias": (True,), "attention": ("full_attention",),
                    "rope_type": ("default",), **same})  # fmt: skip
    head = _function(config, "classifier_activation", "gelu", ACTIVATIONS)
    if head not in HEAD_ACTIVATIONS:
        _refuse(config, {"classifier_activation": ("gelu", "gelu_new", "relu")})
    fields = {
        "d_model": get("hidden_size", 768),
        "num_heads": get("num_attention_heads", 12),
        "num_layers": num_layers,
        "d_ff": get("intermediate_size", 1152),
        "dropout": get("mlp_dropout", 0.0),
        "attention_dropout": get("attention_dropout", 0.0),
        "embedding_dropout": get("embedding_dropout", 0.0),
        "position": "rope",
        "rope_theta": float(rope.get("rope_theta", get("global_rope_theta", 160000.0))),
        "max_sequence_length": get("max_position_embeddings", 8192),
        "segment_types": 0,
        "pooler": False,
        "norm": "layernorm",
        "norm_position": "pre",
        "norm_epsilon": get("norm_eps", 1e-5),
        "activation": _function(config, "hidden_activation", "gelu", GATES | {"gelu": "geglu"}),
        "head_activation": head,
        "tie_embeddings": get("tie_word_embeddings", True),
        "bias": bias,
        "init_std": get("initializer_range", 0.02),
    }
    return fields, get("vocab_size", 50368)


def _t5(config: Config) -> Read:
    """feed_forward_proj `gated-gelu` means the approximation. `scale_decoder_outputs`: how newer files say tied."""
    known = ACTIVATIONS | {f"gated-{name}": ours for name, ours in {**GATES, "gelu": "geglu_tanh"}.items()}
    _refuse(config, {"is_encoder_decoder": (True,), "is_decoder": (False,)})
    get = config.get
    fields = {
        "d_model": get("d_model", 512),
        "num_heads": get("num_heads", 8),
        "head_width": get("d_kv", 64),
        "num_layers": get("num_layers", 6),
        "num_decoder_layers": get("num_decoder_layers") or get("num_layers", 6),
        "d_ff": get("d_ff", 2048),
        "dropout": get("dropout_rate", 0.1),
        "relative_buckets": get("relative_attention_num_buckets", 32),
        "relative_max_distance": get("relative_attention_max_distance", 128),
        "norm_epsilon": get("layer_norm_epsilon", 1e-6),
        "activation": _function(config, "feed_forward_proj", "relu", known),
        "tie_embeddings": get("scale_decoder_outputs", get("tie_word_embeddings", True)) is not False,
        "init": "t5",
        "init_std": float(get("initializer_factor", 1.0)),
    }
    return fields, get("vocab_size", 32128)


def _vit(config: Config) -> Read:
    _refuse(config, {"qkv_bias": (True,)})
    get = config.get
    sizes = [size if isinstance(size, int) else tuple(size) for size in (get("image_size", 224), get("patch_size", 16))]
    sides = [size if isinstance(size, int) else size[0] for size in sizes]
    if any(isinstance(size, tuple) and len(set(size)) > 1 for size in sizes):
        _refuse(config, {"image_size": (sides[0],), "patch_size": (sides[1],)})
    fields = {
        "image_size": sides[0],
        "patch_size": sides[1],
        "channels": get("num_channels", 3),
        "d_model": get("hidden_size", 768),
        "num_heads": get("num_attention_heads", 12),
        "num_layers": get("num_hidden_layers", 12),
        "d_ff": get("intermediate_size", 3072),
        "dropout": get("hidden_dropout_prob", 0.0),
        "attention_dropout": get("attention_probs_dropout_prob", 0.0),
        "pooling": "first",
        "norm": "layernorm",
        "norm_epsilon": get("layer_norm_eps", 1e-12),
        "activation": _function(config, "hidden_act", "gelu", ACTIVATIONS),
        "bias": True,
        "init_std": get("initializer_range", 0.02),
    }
    return fields, 0


READERS: dict[str, Callable[[Config], Read]] = {
    "gpt2": _gpt2, "llama": _llama, "qwen3": _qwen3, "starcoder2": _starcoder2,
    "bert": _bert, "roberta": _bert, "distilbert": _distilbert, "modernbert": _modernbert, "t5": _t5, "vit": _vit,
}  # fmt: skip
_KINDS = dict.fromkeys(("gpt2", "llama", "qwen3", "starcoder2"), "GPT") | dict.fromkeys(
    ("bert", "roberta", "distilbert", "modernbert"), "BERT") | {"t5": "T5", "vit": "ViT"}  # fmt: skip
