"""Samples of a token store: windows of neighbouring tokens, or documents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trifecta.data.store import Int64, TokenStore


class Windows:
    """Windows of `length` tokens, each beginning `length - overlap` after the one before.

    With an overlap of 1 the last target of one is the first input of the next, so every token of the store but the
    first is a target exactly once. The last window may be shorter, but has more than the overlap.
    """

    def __init__(self, store: TokenStore, length: int, overlap: int = 0):
        self.store, self.length, self.overlap = store, length, overlap

    def __len__(self) -> int:
        return max(0, -(-(len(self.store.tokens) - self.overlap) // (self.length - self.overlap)))

    def __getitem__(self, index: int) -> Int64:
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        start = index * (self.length - self.overlap)
        return self.store.read(start, start + self.length)


class Documents:
    """Documents, each cut into windows where it is longer than one; no window crosses a document's end."""

    def __init__(self, store: TokenStore, length: int, overlap: int = 0):
        self.store, self.length, self.overlap = store, length, overlap
        starts = np.asarray(store.documents, dtype=np.int64)
        self._ends = np.append(starts[1:], len(store.tokens))
        self._starts = starts
        stride = length - overlap
        # A document of no more tokens than the overlap still is a sample, of which nothing can be learned.
        counts = np.maximum(1, -(-(self._ends - starts - overlap) // stride))
        self._first = np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> Int64:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        document = int(np.searchsorted(self._first, index, side="right")) - 1
        start = int(self._starts[document]) + (index - int(self._first[document])) * (self.length - self.overlap)
        return self.store.read(start, min(start + self.length, int(self._ends[document])))


class Several:
    """Samples of several corpora, numbered one corpus after the other."""

    def __init__(self, corpora: Sequence[Windows | Documents]):
        self.corpora = list(corpora)
        self._first = np.concatenate([[0], np.cumsum([len(samples) for samples in corpora])])

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> Int64:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        corpus = int(np.searchsorted(self._first, index, side="right")) - 1
        return self.corpora[corpus][index - int(self._first[corpus])]
