"""Names of tensors here and in Hugging Face's models, as data that is read both ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["gpt", "bert", "t5", "vit"]
"""A recipe's model.type."""


@dataclass(frozen=True)
class Row:
    """Our tensors, stacked by output feature, are their one tensor; `{i}` stands for the layer.

    transposed: theirs is (in, out), as in GPT-2's Conv1D. optional: absent without biases, with a tied head, or in
    files of a model without a head. shape: theirs has a first dimension of 1 more (row), or is a convolution's (out,
    channels, side, side), of which ours is (out, channels * side * side) (kernel).
    """

    ours: tuple[str, ...]
    theirs: str
    transposed: bool = False
    optional: bool = False
    shape: Literal["same", "row", "kernel"] = "same"


@dataclass(frozen=True)
class Family:
    """One of their model_types.

    rows: the first is the token embedding. prefix: of all their names but those that begin with one of `outside`; files
    of the bare model lack it. head: their head's matrix, a copy of the embedding where it is tied. ignored: endings of
    what isn't read: buffers, copies, and heads for other tasks. renamed: patterns of the names that newer versions of
    transformers have in memory, and what stands for them in files.
    """

    kind: Kind
    rows: tuple[Row, ...]
    prefix: str
    outside: tuple[str, ...]
    head: str
    ignored: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()


def _linear(ours: tuple[str, ...], theirs: str, *, transposed: bool = False, optional: bool = False) -> list[Row]:
    return [
        Row(tuple(f"{name}.weight" for name in ours), f"{theirs}.weight", transposed, optional),
        Row(tuple(f"{name}.bias" for name in ours), f"{theirs}.bias", optional=optional),
    ]


def _norm(ours: str, theirs: str, *, optional: bool = False) -> list[Row]:
    return [Row((f"{ours}.{part}",), f"{theirs}.{part}", optional=optional) for part in ("weight", "bias")]


def _gain(ours: str, theirs: str) -> Row:
    return Row((f"{ours}.weight",), f"{theirs}.weight")


def _conv(ours: tuple[str, ...], theirs: str) -> list[Row]:
    return _linear(ours, theirs, transposed=True)


def _dense(ours: str | tuple[str, ...], theirs: str) -> list[Row]:
    """A linear layer whose bias may be absent."""
    weight, bias = _linear((ours,) if isinstance(ours, str) else ours, theirs)
    return [weight, Row(bias.ours, bias.theirs, optional=True)]


_B, _L = "blocks.{i}", "model.layers.{i}"
_QKV = tuple(f"{_B}.attention.{part}" for part in ("query", "key", "value"))
_TOKENS = "embedding.token.weight"


def _head(theirs: str) -> Row:
    return Row(("head.weight",), theirs, optional=True)


def _projections(ours: str, theirs: str, names: tuple[str, str, str, str]) -> list[Row]:
    """Queries, keys, values and output of an attention, each by itself."""
    parts = zip(("query", "key", "value", "out"), names, strict=True)
    return [row for part, name in parts for row in _dense(f"{ours}.{part}", f"{theirs}.{name}")]


_PROJECTIONS = _projections(f"{_B}.attention", f"{_L}.self_attn", ("q_proj", "k_proj", "v_proj", "o_proj"))
_SWIGLU = [
    *_dense(f"{_B}.feedforward.gate", f"{_L}.mlp.gate_proj"),
    *_dense(f"{_B}.feedforward.up", f"{_L}.mlp.up_proj"),
    *_dense(f"{_B}.feedforward.down", f"{_L}.mlp.down_proj"),
]
_G = "transformer.h.{i}"
_GPT2 = [
    Row((_TOKENS,), "transformer.wte.weight"),
    Row(("embedding.position.weight",), "transformer.wpe.weight"),
    *_norm(f"{_B}.attention_norm", f"{_G}.ln_1"),
    *_conv(_QKV, f"{_G}.attn.c_attn"),
    *_conv((f"{_B}.attention.out",), f"{_G}.attn.c_proj"),
    *_norm(f"{_B}.feedforward_norm", f"{_G}.ln_2"),
    *_conv((f"{_B}.feedforward.up",), f"{_G}.mlp.c_fc"),
    *_conv((f"{_B}.feedforward.down",), f"{_G}.mlp.c_proj"),
    *_norm("norm", "transformer.ln_f"),
    _head("lm_head.weight"),
]
_LLAMA = [
    Row((_TOKENS,), "model.embed_tokens.weight"),
    _gain(f"{_B}.attention_norm", f"{_L}.input_layernorm"),
    *_PROJECTIONS,
    _gain(f"{_B}.feedforward_norm", f"{_L}.post_attention_layernorm"),
    *_SWIGLU,
    _gain("norm", "model.norm"),
    _head("lm_head.weight"),
]
_QWEN3 = [
    *_LLAMA,
    _gain(f"{_B}.attention.query_norm", f"{_L}.self_attn.q_norm"),
    _gain(f"{_B}.attention.key_norm", f"{_L}.self_attn.k_norm"),
]
_STARCODER2 = [
    Row((_TOKENS,), "model.embed_tokens.weight"),
    *_norm(f"{_B}.attention_norm", f"{_L}.input_layernorm"),
    *_PROJECTIONS,
    *_norm(f"{_B}.feedforward_norm", f"{_L}.post_attention_layernorm"),
    *_dense(f"{_B}.feedforward.up", f"{_L}.mlp.c_fc"),
    *_dense(f"{_B}.feedforward.down", f"{_L}.mlp.c_proj"),
    *_norm("norm", "model.norm"),
    _head("lm_head.weight"),
]


def _bert(prefix: str) -> list[Row]:
    """All of a BERT but its head for masked tokens; RoBERTa has the same names under another prefix."""
    layer = f"{prefix}.encoder.layer.{{i}}"
    return [
        Row((_TOKENS,), f"{prefix}.embeddings.word_embeddings.weight"),
        Row(("embedding.position.weight",), f"{prefix}.embeddings.position_embeddings.weight"),
        Row(("embedding.segment.weight",), f"{prefix}.embeddings.token_type_embeddings.weight"),
        *_norm("embedding.norm", f"{prefix}.embeddings.LayerNorm"),
        *_projections(f"{_B}.attention", f"{layer}.attention.self", ("query", "key", "value", "-"))[:6],
        *_linear((f"{_B}.attention.out",), f"{layer}.attention.output.dense"),
        *_norm(f"{_B}.attention_norm", f"{layer}.attention.output.LayerNorm"),
        *_linear((f"{_B}.feedforward.up",), f"{layer}.intermediate.dense"),
        *_linear((f"{_B}.feedforward.down",), f"{layer}.output.dense"),
        *_norm(f"{_B}.feedforward_norm", f"{layer}.output.LayerNorm"),
        *_linear(("pooler",), f"{prefix}.pooler.dense", optional=True),
    ]


def _masked_head(dense: str, norm: str, bias: str, matrix: str) -> list[Row]:
    return [
        *_linear(("head_dense",), dense, optional=True),
        *_norm("head_norm", norm, optional=True),
        Row(("head_bias",), bias, optional=True),
        _head(matrix),
    ]


_C, _D, _M = "cls.predictions", "distilbert.transformer.layer.{i}", "model.layers.{i}"
_DISTILBERT = [
    Row((_TOKENS,), "distilbert.embeddings.word_embeddings.weight"),
    Row(("embedding.position.weight",), "distilbert.embeddings.position_embeddings.weight"),
    *_norm("embedding.norm", "distilbert.embeddings.LayerNorm"),
    *_projections(f"{_B}.attention", f"{_D}.attention", ("q_lin", "k_lin", "v_lin", "out_lin")),
    *_norm(f"{_B}.attention_norm", f"{_D}.sa_layer_norm"),
    *_linear((f"{_B}.feedforward.up",), f"{_D}.ffn.lin1"),
    *_linear((f"{_B}.feedforward.down",), f"{_D}.ffn.lin2"),
    *_norm(f"{_B}.feedforward_norm", f"{_D}.output_layer_norm"),
    *_masked_head("vocab_transform", "vocab_layer_norm", "vocab_projector.bias", "vocab_projector.weight"),
]
_MODERNBERT = [
    Row((_TOKENS,), "model.embeddings.tok_embeddings.weight"),
    *_norm("embedding.norm", "model.embeddings.norm"),
    *_norm(f"{_B}.attention_norm", f"{_M}.attn_norm", optional=True),  # the first block has none
    *_dense(_QKV, f"{_M}.attn.Wqkv"),
    *_dense(f"{_B}.attention.out", f"{_M}.attn.Wo"),
    *_norm(f"{_B}.feedforward_norm", f"{_M}.mlp_norm"),
    *_dense((f"{_B}.feedforward.gate", f"{_B}.feedforward.up"), f"{_M}.mlp.Wi"),
    *_dense(f"{_B}.feedforward.down", f"{_M}.mlp.Wo"),
    *_norm("norm", "model.final_norm"),
    *_masked_head("head.dense", "head.norm", "decoder.bias", "decoder.weight"),
]


def _t5(gated: bool) -> list[Row]:
    rows = [Row((_TOKENS,), "shared.weight"), _head("lm_head.weight")]
    for stack in ("encoder", "decoder"):
        ours, theirs, last = f"{stack}.{_B}", f"{stack}.block.{{i}}.layer", 2 if stack == "decoder" else 1
        rows += [
            Row(
                (f"{stack}.relative.table.weight",),
                f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            ),
            _gain(f"{ours}.attention_norm", f"{theirs}.0.layer_norm"),
            *_projections(f"{ours}.attention", f"{theirs}.0.SelfAttention", ("q", "k", "v", "o"))[::2],
            _gain(f"{ours}.feedforward_norm", f"{theirs}.{last}.layer_norm"),
            _gain(f"{ours}.feedforward.up", f"{theirs}.{last}.DenseReluDense.{'wi_1' if gated else 'wi'}"),
            _gain(f"{ours}.feedforward.down", f"{theirs}.{last}.DenseReluDense.wo"),
            _gain(f"{stack}.norm", f"{stack}.final_layer_norm"),
        ]
        if gated:
            rows.append(_gain(f"{ours}.feedforward.gate", f"{theirs}.{last}.DenseReluDense.wi_0"))
        if stack == "decoder":
            rows.append(_gain(f"{ours}.cross_norm", f"{theirs}.1.layer_norm"))
            rows += _projections(f"{ours}.cross", f"{theirs}.1.EncDecAttention", ("q", "k", "v", "o"))[::2]
    return rows


_E, _I = "vit.embeddings", "vit.encoder.layer.{i}"
_VIT = [
    Row(("embedding.first.weight",), f"{_E}.cls_token", shape="row"),
    Row(("embedding.position.weight",), f"{_E}.position_embeddings", shape="row"),
    Row(("embedding.patch.weight",), f"{_E}.patch_embeddings.projection.weight", shape="kernel"),
    Row(("embedding.patch.bias",), f"{_E}.patch_embeddings.projection.bias"),
    *_norm(f"{_B}.attention_norm", f"{_I}.layernorm_before"),
    *_projections(f"{_B}.attention", f"{_I}.attention.attention", ("query", "key", "value", "-"))[:6],
    *_linear((f"{_B}.attention.out",), f"{_I}.attention.output.dense"),
    *_norm(f"{_B}.feedforward_norm", f"{_I}.layernorm_after"),
    *_linear((f"{_B}.feedforward.up",), f"{_I}.intermediate.dense"),
    *_linear((f"{_B}.feedforward.down",), f"{_I}.output.dense"),
    *_norm("norm", "vit.layernorm"),
    *_linear(("head",), "classifier", optional=True),
]
_VIT_RENAMED = (
    (r"^vit\.layers\.", "vit.encoder.layer."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)

_T5_COPIES = (
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "EncDecAttention.relative_attention_bias.weight",
)
_BERT_OTHERS = (
    ".position_ids",
    "cls.predictions.decoder.bias",
    "cls.seq_relationship.weight",
    "cls.seq_relationship.bias",
)
_ROPE = (".rotary_emb.inv_freq",)

FAMILIES: dict[str, Family] = {
    "gpt2": Family("gpt", tuple(_GPT2), "transformer.", ("lm_head.",), "lm_head.weight",
                   (".attn.bias", ".attn.masked_bias")),
    "llama": Family("gpt", tuple(_LLAMA), "model.", ("lm_head.",), "lm_head.weight", _ROPE),
    "qwen3": Family("gpt", tuple(_QWEN3), "model.", ("lm_head.",), "lm_head.weight", _ROPE),
    "starcoder2": Family("gpt", tuple(_STARCODER2), "model.", ("lm_head.",), "lm_head.weight", _ROPE),
    "bert": Family(
        "bert",
        (*_bert("bert"), *_masked_head(f"{_C}.transform.dense", f"{_C}.transform.LayerNorm", f"{_C}.bias",
                                       f"{_C}.decoder.weight")),
        "bert.", ("cls.",), f"{_C}.decoder.weight", _BERT_OTHERS,
    ),
    "roberta": Family(
        "bert",
        (*_bert("roberta"), *_masked_head("lm_head.dense", "lm_head.layer_norm", "lm_head.bias",
                                          "lm_head.decoder.weight")),
        "roberta.", ("lm_head.",), "lm_head.decoder.weight", (".position_ids", "lm_head.decoder.bias"),
    ),
    "distilbert": Family("bert", tuple(_DISTILBERT), "distilbert.", ("vocab_",), "vocab_projector.weight"),
    "modernbert": Family("bert", tuple(_MODERNBERT), "model.", ("head.", "decoder."), "decoder.weight"),
    "vit": Family("vit", tuple(_VIT), "vit.", ("classifier.",), "classifier.weight",
                  (".pooler.dense.weight", ".pooler.dense.bias", ".mask_token"), _VIT_RENAMED),
    "t5": Family("t5", tuple(_t5(gated=False)), "", (), "lm_head.weight", _T5_COPIES),
    "t5 gated": Family("t5", tuple(_t5(gated=True)), "", (), "lm_head.weight", _T5_COPIES),
}  # fmt: skip
"""model_type -> names. Query and key rows keep their order: our rotary pairs are Hugging Face's (nn/position.py).

`t5 gated` is T5 v1.1, whose model_type is `t5` too.
"""


def family_of(model_type: str, *, gated: bool) -> Family:
    """gated: the feed-forward layers have a gate, which T5 names otherwise."""
    return FAMILIES["t5 gated" if model_type == "t5" and gated else model_type]
