"""One transformer block: attention and feed-forward, each with a residual path."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from trifecta.nn.attention import Attention, LayerCache
from trifecta.nn.feedforward import FeedForward


class Block(nn.Module):
    """x + f(norm(x)) for each sub-layer f (pre), or norm(x + f(x)) (post; Vaswani et al., 2017)."""

    def __init__(
        self, attention: Attention, feedforward: FeedForward, make_norm: Callable[[], nn.Module], *, pre: bool
    ):
        super().__init__()
        self.pre = pre
        self.attention_norm = make_norm()
        self.attention = attention
        self.feedforward_norm = make_norm()
        self.feedforward = feedforward

    def forward(
        self,
        x_BTD: Tensor,
        *,
        rotation: Tensor | None = None,
        bias: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        if self.pre:
            x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), rotation=rotation, bias=bias, cache=cache)
            added: Tensor = x_BTD + self.feedforward(self.feedforward_norm(x_BTD))
            return added
        x_BTD = self.attention_norm(x_BTD + self.attention(x_BTD, rotation=rotation, bias=bias, cache=cache))
        normed: Tensor = self.feedforward_norm(x_BTD + self.feedforward(x_BTD))
        return normed
