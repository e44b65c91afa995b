"""How the weights of a model begin."""

from __future__ import annotations

import math

import torch
from torch import nn

from trifecta.nn.attention import Attention

_RESIDUAL_OUTPUTS = ("attention.out", "cross.out", "feedforward.down")
_BIAS_TABLE = "relative.table"
_UNSCALED_QUERIES = ("attention.query", "cross.query")
_HEAD = "head"


@torch.no_grad()
def initialise(model: nn.Module, scheme: str, *, std: float, num_layers: int) -> None:
    """Draws every weight anew from torch's default generator, in the order of the model's modules.

    | scheme        | matrices               | residual outputs               | embeddings, positions | free head |
    |---------------|------------------------|--------------------------------|-----------------------|-----------|
    | normal        | N(0, std)              | N(0, std)                      | N(0, std)             | N(0, std) |
    | xavier        | U(+-sqrt(6 / (in+out)))| U(+-sqrt(6 / (in + out)))      | N(0, std)             | N(0, std) |
    | depth_scaled  | N(0, std)              | N(0, std / sqrt(2 num_layers)) | N(0, std)             | N(0, std) |
    | zero_residual | U(+-sqrt(3 / in))      | 0                              | N(0, std)             | 0         |
    | t5            | N(0, 1 / sqrt(in))     | N(0, 1 / sqrt(in))             | N(0, std)             | as others |

    Residual outputs are the matrices that write into the residual path: attention.out and feedforward.down. A tied
    head is the token embedding. Biases begin at 0, gains at 1, shifts at 0. U(+-sqrt(3 / in)) has the standard
    deviation 1 / sqrt(in). xavier: Glorot and Bengio (2010); depth_scaled: GPT-2 (Radford et al., 2019);
    zero_residual: every block begins as the identity (Zhang et al., 2019), as in modded-nanogpt. t5: queries are
    divided by sqrt(head width) too, since T5's scores aren't (Raffel et al., 2020), and biases of distances are
    N(0, 1 / sqrt(d_model)); for other models it doesn't do so.
    """
    for name, module in model.named_modules():
        if scheme == "t5" and name.endswith(_BIAS_TABLE):
            module.weight.normal_(0.0, _width(model) ** -0.5)
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(0.0, std)
        elif isinstance(module, nn.Linear):
            residual, head = name.endswith(_RESIDUAL_OUTPUTS), name == _HEAD
            if module.bias is not None:
                module.bias.zero_()
            if scheme == "t5":
                module.weight.normal_(0.0, module.in_features**-0.5 * _query_factor(model, name))
            elif scheme == "zero_residual" and (residual or head):
                module.weight.zero_()
            elif scheme == "zero_residual":
                bound = math.sqrt(3 / module.in_features)
                module.weight.uniform_(-bound, bound)
            elif scheme == "xavier" and not head:
                nn.init.xavier_uniform_(module.weight)
            elif scheme == "depth_scaled" and residual:
                module.weight.normal_(0.0, std / math.sqrt(2 * num_layers))
            else:
                module.weight.normal_(0.0, std)
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
            module.reset_parameters()


def _query_factor(model: nn.Module, name: str) -> float:
    """1 / sqrt(head width) for the queries of an attention whose scores aren't divided by it; else 1."""
    if not name.endswith(_UNSCALED_QUERIES):
        return 1.0
    attention = model.get_submodule(name.rpartition(".")[0])
    assert isinstance(attention, Attention)
    return 1.0 if attention.scale is None else attention.scale * attention.head_width**-0.5


def _width(model: nn.Module) -> int:
    """d_model, the width of the token embedding."""
    return max(module.embedding_dim for module in model.modules() if isinstance(module, nn.Embedding))
