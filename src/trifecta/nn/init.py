"""How the weights of a model begin."""

from __future__ import annotations

import math

import torch
from torch import nn

_RESIDUAL_OUTPUTS = ("attention.out", "feedforward.down")
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

    Residual outputs are the matrices that write into the residual path: attention.out and feedforward.down. A tied
    head is the token embedding. Biases begin at 0, gains at 1, shifts at 0. U(+-sqrt(3 / in)) has the standard
    deviation 1 / sqrt(in). xavier: Glorot and Bengio (2010); depth_scaled: GPT-2 (Radford et al., 2019);
    zero_residual: every block begins as the identity (Zhang et al., 2019), as in modded-nanogpt.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            module.weight.normal_(0.0, std)
        elif isinstance(module, nn.Linear):
            residual, head = name.endswith(_RESIDUAL_OUTPUTS), name == _HEAD
            if module.bias is not None:
                module.bias.zero_()
            if scheme == "zero_residual" and (residual or head):
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
