"""Tiny random models of Hugging Face, which the reference tests compare ours with."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

V, T = 61, 24
WIDE = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 48, "vocab_size": V}
BERT = WIDE | {"max_position_embeddings": T, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
MODERN = {
    "global_attn_every_n_layers": 1, "norm_bias": True, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None,
    "cls_token_id": None, "sep_token_id": None,
}  # fmt: skip
T5 = {"d_model": 32, "d_kv": 6, "d_ff": 48, "num_heads": 4, "num_layers": 3, "num_decoder_layers": 2, "vocab_size": V}


def make(name: str, config: type, **settings: Any) -> nn.Module:
    """A tiny random model, its biases and gains away from 0 and 1, where errors would hide."""
    torch.manual_seed(0)
    built = config(**settings)
    model = getattr(transformers, name)(built)
    if not getattr(built, "scale_decoder_outputs", True):  # T5 v1.1 has a head of its own
        model.lm_head.weight = nn.Parameter(0.2 * torch.randn_like(model.lm_head.weight))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def gpt2(**changes: Any) -> nn.Module:
    settings = {"n_embd": 32, "n_head": 4, "n_layer": 3, "n_positions": T, "vocab_size": V, "initializer_range": 0.2}
    return make("GPT2LMHeadModel", transformers.GPT2Config, **settings, bos_token_id=0, eos_token_id=0, **changes)


def llama(**changes: Any) -> nn.Module:
    return make("LlamaForCausalLM", transformers.LlamaConfig, **WIDE, initializer_range=0.2, **changes)


def qwen3(**changes: Any) -> nn.Module:
    settings = {"head_dim": 8, "num_key_value_heads": 4, "initializer_range": 0.2} | changes
    return make("Qwen3ForCausalLM", transformers.Qwen3Config, **WIDE, **settings)


def starcoder2(**changes: Any) -> nn.Module:
    settings = {"bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.2}
    return make("Starcoder2ForCausalLM", transformers.Starcoder2Config, **WIDE, **settings, **changes)


def bert(name: str = "BertForMaskedLM", **changes: Any) -> nn.Module:
    return make(name, transformers.BertConfig, **(BERT | {"initializer_range": 0.2} | changes))


def roberta() -> nn.Module:
    settings = BERT | {"max_position_embeddings": T + 2, "type_vocab_size": 1, "pad_token_id": 1}
    return make("RobertaForMaskedLM", transformers.RobertaConfig, **settings, initializer_range=0.2)


def distilbert() -> nn.Module:
    settings = {"dim": 32, "n_heads": 4, "n_layers": 3, "hidden_dim": 48, "vocab_size": V, "initializer_range": 0.2}
    return make("DistilBertForMaskedLM", transformers.DistilBertConfig, **settings, max_position_embeddings=T)


def modernbert(**changes: Any) -> nn.Module:
    settings = WIDE | MODERN | {"initializer_range": 0.2} | changes
    return make("ModernBertForMaskedLM", transformers.ModernBertConfig, **settings)


def t5(**changes: Any) -> nn.Module:
    return make("T5ForConditionalGeneration", transformers.T5Config, **T5, decoder_start_token_id=0, **changes)


VARIANTS = {
    "gpt2": lambda: gpt2(),
    "gpt2 exact gelu, free head": lambda: gpt2(activation_function="gelu", tie_word_embeddings=False),
    "llama": lambda: llama(),
    "llama grouped": lambda: llama(num_key_value_heads=2),
    "llama one key head, tied, biases": lambda: llama(
        num_key_value_heads=1, tie_word_embeddings=True, attention_bias=True, mlp_bias=True
    ),
    "llama theta": lambda: llama(rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
    "qwen3 tied": lambda: qwen3(tie_word_embeddings=True),
    "qwen3 grouped, free head": lambda: qwen3(num_key_value_heads=2, tie_word_embeddings=False),
    "starcoder2": lambda: starcoder2(num_key_value_heads=4, hidden_act="gelu"),
    "starcoder2 grouped, no biases": lambda: starcoder2(num_key_value_heads=2, use_bias=False),
    "bert": lambda: bert(),
    "bert for pretraining, relu": lambda: bert("BertForPreTraining", hidden_act="relu"),
    "bert free head": lambda: bert(tie_word_embeddings=False),
    "roberta": lambda: roberta(),
    "distilbert": lambda: distilbert(),
    "modernbert": lambda: modernbert(),
    "modernbert silu, biases, free head": lambda: modernbert(
        hidden_activation="silu", attention_bias=True, mlp_bias=True, classifier_bias=True, tie_word_embeddings=False
    ),
    "t5": lambda: t5(dropout_rate=0.0),
    "t5 gated, free head": lambda: t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "t5 gated silu": lambda: t5(feed_forward_proj="gated-silu"),
}
IMPORT_ONLY = {"roberta", "distilbert"}
"""Variants that have no way back."""
