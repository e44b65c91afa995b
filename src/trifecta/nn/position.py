"""How a model knows order: rotary and sinusoidal tables, linear and bucketed biases; and what may see what.

A learned table is an ordinary embedding and lives in nn/embedding.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

MASKED = -1e30
"""Added to the score of a forbidden key. Finite, so that a fully masked row gives numbers; its exponential is 0."""


class PositionTable(nn.Module):
    """Rows of a function of position, cached in fp32 and grown when a longer input comes.

    The buffer is not saved. It is computed in fp64, so that its values don't depend on when it grew.

    Args:
        row: positions (T, 1) in fp64 -> rows (T, W) in fp64.
    """

    table: Tensor

    def __init__(self, row: Callable[[Tensor], Tensor]):
        super().__init__()
        self.row = row
        self.register_buffer("table", torch.empty(0), persistent=False)

    def forward(self, start: int, stop: int) -> Tensor:
        """Rows start..stop-1, fp32, on the model's device."""
        if stop > len(self.table) or self.table.dtype != torch.float32:
            self._grow(stop)
        return self.table[start:stop]

    def _grow(self, length: int) -> None:
        rows = 1 << max(7, (length - 1).bit_length())
        with torch.inference_mode(False), torch.no_grad():  # an inference tensor couldn't serve training afterwards
            positions = torch.arange(rows, dtype=torch.float64, device=self.table.device)[:, None]
            self.table = self.row(positions).float()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PositionTable:
        self.table = self.table[:0]  # a cast or a move starts it afresh: never rounded, never left uninitialised
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]


def rotary_table(head_width: int, theta: float) -> PositionTable:
    """Cosines and signed sines of rotary embedding (Su et al., 2021), each head_width wide, side by side.

    Feature i turns with feature i + head_width / 2 (the pairing of GPT-NeoX and Llama in Hugging Face's layout) by the
    angle position * theta ** (-2i / head_width).
    """
    assert head_width % 2 == 0, head_width

    def row(positions: Tensor) -> Tensor:
        exponents = torch.arange(0, head_width, 2, dtype=torch.float64, device=positions.device) / head_width
        angles = positions * theta**-exponents
        cosines, sines = angles.cos(), angles.sin()
        return torch.cat((cosines, cosines, -sines, sines), -1)

    return PositionTable(row)


def rotate(x_BTHK: Tensor, rows: Tensor) -> Tensor:
    """x turned by a rotary table's rows (T, 2K): x * cos + (x with its halves swapped) * signed sin."""
    K = x_BTHK.shape[-1]
    cosines, signed_sines = rows[:, None, :K], rows[:, None, K:]
    return torch.addcmul(x_BTHK * cosines, x_BTHK.roll(K // 2, -1), signed_sines).to(x_BTHK.dtype)


def sinusoidal_table(d_model: int) -> PositionTable:
    """Sines in the even and cosines in the odd features (Vaswani et al., 2017), amplitude 1.

    Feature 2i has the angle position * 10000 ** (-2i / d_model).
    """

    def row(positions: Tensor) -> Tensor:
        exponents = torch.arange(0, d_model, 2, dtype=torch.float64, device=positions.device) / d_model
        angles = positions * 10000.0**-exponents
        return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)[:, :d_model]

    return PositionTable(row)


@functools.cache
def alibi_slopes(num_heads: int) -> tuple[float, ...]:
    """One slope a head: 2 ** (-8h / H) for h = 1..H (Press et al., 2021).

    When H is no power of two: those of the power below, then every other one of the power above (the paper's code).
    """
    below = 2 ** math.floor(math.log2(num_heads))
    slopes = [2.0 ** (-8 * h / below) for h in range(1, below + 1)]
    more = [2.0 ** (-8 * h / (2 * below)) for h in range(1, 2 * below + 1, 2)]
    return tuple(slopes + more[: num_heads - below])


def causal_bias(T: int, S: int, like: Tensor) -> Tensor:
    """Scores to add for T queries that are the last T of S positions: (T, S), 0 where allowed, MASKED elsewhere."""
    return like.new_full((T, S), MASKED).triu_(S - T + 1)


def alibi_bias(num_heads: int, T: int, S: int, like: Tensor) -> Tensor:
    """Causal linear biases, (H, T, S): slope * (key position - query position), MASKED for later keys."""
    placed: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
    slopes = torch.tensor(alibi_slopes(num_heads), **placed)
    distance = torch.arange(S, **placed) - torch.arange(S - T, S, **placed)[:, None]
    return (slopes[:, None, None] * distance).masked_fill_(distance > 0, MASKED)


def packed_bias(queries_BT: Tensor, keys_BS: Tensor, like: Tensor, *, causal: bool) -> Tensor:
    """Scores to add, (B, 1, T, S), where rows hold several documents: 0 within a document, MASKED elsewhere.

    Args:
        queries_BT, keys_BS: the document of each position, numbered in its row; 0 is padding.
        causal: the T queries are the last of the S positions, and see no later key.
    """
    apart_BTS = queries_BT[:, :, None] != keys_BS[:, None, :]
    if causal:
        T, S = apart_BTS.shape[1:]
        apart_BTS = apart_BTS | torch.ones(T, S, dtype=torch.bool, device=like.device).triu_(S - T + 1)
    return torch.zeros(apart_BTS.shape, dtype=like.dtype, device=like.device).masked_fill_(apart_BTS, MASKED)[:, None]


class RelativeBias(nn.Module):
    """A learned bias for each head and each bucket of distances (Raffel et al., 2020); one for all layers of a stack.

    Half of the buckets are exact distances, the other half grow logarithmically up to max_distance.

    Args:
        both_ways: distances to later keys have buckets of their own.
    """

    def __init__(self, num_heads: int, *, num_buckets: int, max_distance: int, both_ways: bool):
        super().__init__()
        self.num_buckets, self.max_distance, self.both_ways = num_buckets, max_distance, both_ways
        self.table = nn.Embedding(num_buckets, num_heads)

    def forward(self, T: int, S: int) -> Tensor:
        """Scores to add, (H, T, S), for T queries that are the last of S positions."""
        positions = torch.arange(S, device=self.table.weight.device)
        buckets_TS = self.bucket(positions[None, :] - positions[S - T :, None])
        bias: Tensor = self.table(buckets_TS).permute(2, 0, 1)
        return bias

    def bucket(self, distance: Tensor) -> Tensor:
        """The bucket of each key position - query position."""
        buckets, number = torch.zeros_like(distance), self.num_buckets
        if self.both_ways:
            number //= 2
            buckets = (distance > 0).long() * number
        far = distance.abs() if self.both_ways else (-distance).clamp(min=0)
        exact = number // 2
        grown = torch.log(far.float().clamp(min=1) / exact) / math.log(self.max_distance / exact) * (number - exact)
        logarithmic = (exact + grown.long()).clamp(max=number - 1)
        return buckets + torch.where(far < exact, far, logarithmic)
