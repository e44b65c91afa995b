"""The position-wise feed-forward layer, plain and gated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from trifecta.nn.dropout import Dropout


def relu2(x: Tensor) -> Tensor:
    """max(x, 0) ** 2 (So et al., 2021)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "gelu": (F.gelu, False),
    "gelu_tanh": (partial(F.gelu, approximate="tanh"), False),
    "relu": (F.relu, False),
    "relu2": (relu2, False),
    "swiglu": (F.silu, True),
    "geglu": (F.gelu, True),
    "geglu_tanh": (partial(F.gelu, approximate="tanh"), True),
}
"""Name -> (function, gated). gelu and geglu: 0.5 x (1 + erf(x / sqrt(2))) (Hendrycks and Gimpel, 2016); gelu_tanh:
its approximation in GPT-2 (geglu_tanh: in T5 v1.1), which makes the layer a quarter slower on a CPU."""


class FeedForward(nn.Module):
    """down(act(up(x))), or down(act(gate(x)) * up(x)) when gated (Shazeer, 2020). Dropout at the output."""

    def __init__(self, d_model: int, d_ff: int, *, activation: str, bias: bool, dropout: float):
        super().__init__()
        self.activation, gated = ACTIVATIONS[activation]
        self.gate = nn.Linear(d_model, d_ff, bias=bias) if gated else None
        self.up = nn.Linear(d_model, d_ff, bias=bias)
        self.down = nn.Linear(d_ff, d_model, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        if self.gate is None:
            inner_BTF = self.activation(self.up(x_BTD))
        else:
            inner_BTF = self.activation(self.gate(x_BTD)) * self.up(x_BTD)
        out: Tensor = self.dropout(self.down(inner_BTF))
        return out
