"""One transformer block: attention and feed-forward, in a decoder cross-attention between them, with residual paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from trifecta.nn.attention import Attention, KeysValues, LayerCache
from trifecta.nn.dropout import drop_path
from trifecta.nn.feedforward import FeedForward


class Block(nn.Module):
    """x + f(norm(x)) for each sub-layer f (pre), or norm(x + f(x)) (post; Vaswani et al., 2017).

    Args:
        cross: attention over another sequence, for decoders that have an encoder.
        drop_path: rate at which a sub-layer is left out while training, for a whole row at once.
    """

    def __init__(
        self,
        attention: Attention,
        feedforward: FeedForward,
        make_norm: Callable[[], nn.Module],
        *,
        pre: bool,
        cross: Attention | None = None,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.pre, self.drop_path = pre, drop_path
        self.attention_norm = make_norm()
        self.attention = attention
        self.cross_norm = make_norm() if cross is not None else None
        self.cross = cross
        self.feedforward_norm = make_norm()
        self.feedforward = feedforward

    def forward(
        self,
        x_BTD: Tensor,
        *,
        rotation: Tensor | None = None,
        bias: Tensor | None = None,
        cache: LayerCache | None = None,
        read: KeysValues | None = None,
        read_bias: Tensor | None = None,
    ) -> Tensor:
        """rotation, bias, cache: of the self-attention. read, read_bias: of the cross-attention."""
        x_BTD = self._added(
            x_BTD, self.attention_norm, lambda x: self.attention(x, rotation=rotation, bias=bias, cache=cache)
        )
        if (cross := self.cross) is not None:
            assert self.cross_norm is not None
            x_BTD = self._added(x_BTD, self.cross_norm, lambda x: cross(x, bias=read_bias, read=read))
        return self._added(x_BTD, self.feedforward_norm, self.feedforward)

    def _added(self, x_BTD: Tensor, norm: nn.Module, layer: Callable[[Tensor], Tensor]) -> Tensor:
        given = layer(norm(x_BTD) if self.pre else x_BTD)
        if self.training and self.drop_path:
            given = drop_path(given, self.drop_path)
        return x_BTD + given if self.pre else cast(Tensor, norm(x_BTD + given))
