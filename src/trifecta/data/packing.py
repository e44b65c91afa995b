"""Windows of neighbouring tokens."""

from __future__ import annotations

from trifecta.data.store import Int64, TokenStore


class Windows:
    """Windows of sequence_length + 1 tokens with stride sequence_length.

    Neighbours share one token: the last target of one is the first input of the next. So every token of the store but
    the first is a target exactly once. The last window may be shorter, never under 2 tokens.
    """

    def __init__(self, store: TokenStore, sequence_length: int):
        self.store, self.sequence_length = store, sequence_length

    def __len__(self) -> int:
        return max(0, -(-(len(self.store.tokens) - 1) // self.sequence_length))

    def __getitem__(self, index: int) -> Int64:
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        start = index * self.sequence_length
        return self.store.read(start, start + self.sequence_length + 1)
