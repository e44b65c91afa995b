"""How the weights of a model begin."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn

from trifecta.nn.attention import Attention

_RESIDUAL_OUTPUTS = ("attention.out", "cross.out", "feedforward.down")
_BIAS_TABLE = "relative.table"
_UNSCALED_QUERIES = ("attention.query", "cross.query")
_HEAD = "head"

_MATRICES: Mapping[str, Callable[[torch.Tensor, float], object]] = {
    "truncated_normal": lambda weight, std: nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std),
    "xavier": lambda weight, _: nn.init.xavier_uniform_(weight),
    "xavier_normal": lambda weight, _: nn.init.xavier_normal_(weight),
    "he_uniform": lambda weight, _: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "he_normal": lambda weight, _: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "orthogonal": lambda weight, _: nn.init.orthogonal_(weight),
}
"""Schemes under which all matrices begin alike: (out, in) weight and std -> None."""


@torch.no_grad()
def initialise(model: nn.Module, scheme: str, *, std: float, num_layers: int) -> None:
    """Draws every weight anew from torch's default generator, in the order of the model's modules.

    | scheme           | matrices                   | residual outputs               | embeddings | free head |
    |------------------|----------------------------|--------------------------------|------------|-----------|
    | normal           | N(0, std)                  | N(0, std)                      | N(0, std)  | N(0, std) |
    | truncated_normal | N(0, std) within +-2 std   | as matrices                    | as matrices| as matrices |
    | xavier           | U(+-sqrt(6 / (in + out)))  | as matrices                    | N(0, std)  | N(0, std) |
    | xavier_normal    | N(0, sqrt(2 / (in + out))) | as matrices                    | N(0, std)  | N(0, std) |
    | he_uniform       | U(+-sqrt(6 / in))          | as matrices                    | N(0, std)  | N(0, std) |
    | he_normal        | N(0, sqrt(2 / in))         | as matrices                    | N(0, std)  | N(0, std) |
    | orthogonal       | W W^T or W^T W = identity  | as matrices                    | N(0, std)  | N(0, std) |
    | depth_scaled     | N(0, std)                  | N(0, std / sqrt(2 num_layers)) | N(0, std)  | N(0, std) |
    | zero_residual    | U(+-sqrt(3 / in))          | 0                              | N(0, std)  | 0         |
    | t5               | N(0, 1 / sqrt(in))         | as matrices                    | N(0, std)  | as matrices |

    Embeddings are those of tokens and of positions.

    Residual outputs are the matrices that write into the residual path: attention.out and feedforward.down. A tied
    head is the token embedding. Biases begin at 0, gains at 1, shifts at 0. U(+-sqrt(3 / in)) has the standard
    deviation 1 / sqrt(in). xavier: Glorot and Bengio (2010); he: He et al. (2015); orthogonal: Saxe et al. (2013);
    truncated_normal, whose standard deviation is 0.8796 std: BERT (Devlin et al., 2018); depth_scaled: GPT-2
    (Radford et al., 2019); zero_residual: every block begins as the identity (Zhang et al., 2019), as in
    modded-nanogpt. t5: queries are divided by sqrt(head width) too, since T5's scores aren't (Raffel et al., 2020),
    and biases of distances are N(0, 1 / sqrt(d_model)); for other models it doesn't do so.
    """
    for name, module in model.named_modules():
        if scheme == "t5" and name.endswith(_BIAS_TABLE):
            module.weight.normal_(0.0, _width(model) ** -0.5)
        elif isinstance(module, nn.Embedding) and scheme == "truncated_normal":
            _MATRICES[scheme](module.weight, std)
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
            elif scheme in _MATRICES and (not head or scheme == "truncated_normal"):
                _MATRICES[scheme](module.weight, std)
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
