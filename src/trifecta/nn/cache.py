"""Keys and values of the positions a model has already seen, so that a new token costs one position."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 256


class LayerCache:
    """One layer's keys and values, (B, H, S, K), in memory that grows by blocks of 256 positions.

    The first `extend` decides batch, heads, width, dtype and device.
    """

    def __init__(self) -> None:
        self.length = 0
        self._keys = self._values = torch.empty(0)

    def extend(self, keys_BHTK: Tensor, values_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Appends T positions; returns views of all S positions held."""
        stop = self.length + keys_BHTK.shape[2]
        if self._keys.dim() < 4 or stop > self._keys.shape[2]:
            self._keys, self._values = (
                self._grown(self._keys, keys_BHTK, stop),
                self._grown(self._values, values_BHTK, stop),
            )
        self._keys.narrow(2, self.length, stop - self.length).copy_(keys_BHTK)
        self._values.narrow(2, self.length, stop - self.length).copy_(values_BHTK)
        self.length = stop
        return self._keys.narrow(2, 0, stop), self._values.narrow(2, 0, stop)

    def reorder(self, rows_R: Tensor) -> None:
        """Keeps these rows of the batch, in this order; a row may come several times."""
        if self.length:
            self._keys, self._values = (self._of_rows(old, rows_R) for old in (self._keys, self._values))

    def select(self, positions_BS: Tensor) -> None:
        """Keeps these positions of each row, in this order."""
        B, S = positions_BS.shape
        for old in (self._keys, self._values):
            H, K = old.shape[1], old.shape[3]
            old[:, :, :S] = old.gather(2, positions_BS[:, None, :, None].expand(B, H, S, K))
        self.length = S

    def _of_rows(self, old: Tensor, rows_R: Tensor) -> Tensor:
        """Copies the positions that are held, not the whole blocks."""
        new = old.new_empty(len(rows_R), *old.shape[1:])
        torch.index_select(old[:, :, : self.length], 0, rows_R, out=new[:, :, : self.length])
        return new

    def _grown(self, old: Tensor, like_BHTK: Tensor, length: int) -> Tensor:
        B, H, _, K = like_BHTK.shape
        new = like_BHTK.new_empty(B, H, -(-length // _BLOCK) * _BLOCK, K)
        if self.length:
            new[:, :, : self.length] = old[:, :, : self.length]
        return new


def new_cache(num_layers: int) -> list[LayerCache]:
    """An empty cache for a model: one entry a layer."""
    return [LayerCache() for _ in range(num_layers)]
