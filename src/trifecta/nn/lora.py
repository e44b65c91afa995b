"""LoRA: small matrices beside frozen ones, which alone are trained (Hu et al., 2021)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifecta.nn.dropout import Dropout

A, B = "lora_a", "lora_b"
"""Names of the two matrices beside a linear layer's `weight`."""


class LoraLinear(nn.Linear):
    """x W^T + b + (alpha / rank) * dropout(x) A^T B^T. B begins at 0: at first this is the linear layer exactly.

    A begins as U(+-1 / sqrt(in)), as in the peft library; `weight` and `bias` are the linear layer's own.

    Args:
        rank: rows of A, columns of B. alpha: the larger, the more the two weigh. dropout: at their input.
    """

    def __init__(self, linear: nn.Linear, *, rank: int, alpha: float, dropout: float):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.lora_a = nn.Parameter(linear.weight.new_empty(rank, self.in_features))
        self.lora_b = nn.Parameter(linear.weight.new_empty(self.out_features, rank))
        bound = 1 / math.sqrt(self.in_features)
        nn.init.uniform_(self.lora_a, -bound, bound)
        nn.init.zeros_(self.lora_b)
        self.scale = alpha / rank
        self.lora_dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        added = F.linear(F.linear(self.lora_dropout(x), self.lora_a), self.lora_b)
        return super().forward(x) + added * self.scale

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear layer that computes the same."""
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.weight + self.scale * (self.lora_b @ self.lora_a))
        linear.bias = self.bias
        return linear

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.lora_a.shape[0]}, scale={self.scale:g}"


def add_lora(model: nn.Module, *, rank: int, alpha: float, dropout: float, targets: Collection[str]) -> None:
    """Puts A and B beside every linear layer of the blocks whose name ends in one of the targets (`query`, `up`).

    A is drawn from torch's default generator, in the order of the model's modules. What is frozen stays so.
    """
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and "blocks." in name and name.rpartition(".")[2] in targets:
            _replace(model, name, LoraLinear(module, rank=rank, alpha=alpha, dropout=dropout))


def merge(model: nn.Module) -> None:
    """Makes plain linear layers of all that carry A and B; the model computes the same."""
    for name, module in list(lora_layers(model)):
        _replace(model, name, module.merged())


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """Every layer with A and B, by name."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLinear))


def merged_state(state: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The weights that a model has after `merge`, from those before it. scale: alpha / rank."""
    merged = {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] not in (A, B)}
    for name in state:
        prefix, _, leaf = name.rpartition(".")
        if leaf == A:
            weight = f"{prefix}.weight"
            merged[weight] = state[weight] + scale * (state[f"{prefix}.{B}"] @ state[name])
    return merged


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
