"""Which sample comes when."""

from __future__ import annotations

import numpy as np

from trifecta.randomness import Int64, key, permute


class Sampler:
    """Each epoch visits every sample once, in an order of its own.

    Position k of epoch e is computed from (seed, e, k), so resuming in mid-epoch needs no replay.

    Args:
        size: number of samples. shuffle: False visits them in their order.
    """

    def __init__(self, size: int, *, seed: int, shuffle: bool):
        self.size, self.seed, self.shuffle = size, seed, shuffle

    def __len__(self) -> int:
        return self.size

    def indices(self, epoch: int, start: int, stop: int) -> Int64:
        """Samples at positions start..stop-1 of an epoch; what lies beyond the epoch's end is left out."""
        positions = np.arange(start, min(stop, self.size), dtype=np.int64)
        if not self.shuffle or not len(positions):
            return positions
        return permute(positions, self.size, key(self.seed, "shuffle", epoch))
