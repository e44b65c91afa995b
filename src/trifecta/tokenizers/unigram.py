"""Trains a unigram language model of pieces (Kudo, Subword Regularization, 2018), the same on every call.

The `tokenizers` library trains one too, but in the order of hash tables that differs between processes, and without
keeping to the size asked for; so the training is ours and only the encoding is the library's.

Start with many substrings of the words; fit their probabilities by expectation-maximisation over all segmentations of
all words; drop those whose loss costs least likelihood; repeat until the vocabulary has its size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

LONGEST_PIECE = 16
_LONGEST_WORD = 24  # longer ones are cut for training, so that products of probabilities stay in range
_MOST_WORDS = 200_000
_SEEDS_PER_PIECE = 8
_EM_ROUNDS = 2
_KEPT_SHARE = 0.75
_LEAST_COUNT = 1e-3


def train_pieces(words: Mapping[str, int], size: int) -> list[tuple[str, float]]:
    """At most `size` pieces and their natural log probabilities, likeliest first.

    Characters come first: the most frequent, up to half of the room; text with others falls back to bytes.

    Args:
        words: each word of the text, with its count.
    """
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
    kept = sorted(letters, key=lambda letter: (-letters[letter], letter))[: max(1, size // 2)]
    parts = _parts(words, frozenset(kept))
    pieces = [*kept, *_seeds(parts, _SEEDS_PER_PIECE * size)]
    if not kept:
        return []
    alive = np.arange(len(pieces))
    index = {piece: i for i, piece in enumerate(pieces)}
    text = _Lattice(list(parts), index, np.array(list(parts.values()), np.float64), whole=True)
    alternatives = _Lattice(pieces, index, np.ones(len(pieces)), whole=False)
    share = text.fit(np.full(len(pieces), 1 / len(pieces)), alive)
    while len(alive) > size:
        goal = max(size, int(_KEPT_SHARE * len(alive)))
        loss = share * np.log(
            share / np.maximum(alternatives.likelihood(share), 1e-300), where=share > 0, out=share * 0
        )
        loss[: len(kept)] = np.inf
        alive = np.sort(alive[np.argsort(-loss[alive], kind="stable")[:goal]])
        share = text.fit(share, alive)
    logs = np.round(np.log(share[alive]), 6)
    found = [(pieces[i], float(log)) for i, log in zip(alive, logs, strict=True)]
    return sorted(found, key=lambda piece: (-piece[1], piece[0]))


def _parts(words: Mapping[str, int], letters: frozenset[str]) -> dict[str, int]:
    """Stretches of known letters of bounded length, with their counts; the most frequent, in a fixed order."""
    parts: Counter[str] = Counter()
    for word, count in words.items():
        known = "".join(letter if letter in letters else "\0" for letter in word)
        for stretch in known.split("\0"):
            for start in range(0, len(stretch), _LONGEST_WORD):
                parts[stretch[start : start + _LONGEST_WORD]] += count
    chosen = sorted(parts.items(), key=lambda part: (-part[1], part[0]))[:_MOST_WORDS]
    return dict(chosen)


def _seeds(parts: Mapping[str, int], most: int) -> list[str]:
    """Substrings of two letters or more that occur twice or more, those that cover most text first."""
    counts: Counter[str] = Counter()
    for part, count in parts.items():
        for start, end in _spans(len(part)):
            if end - start > 1:
                counts[part[start:end]] += count
    frequent = [piece for piece, count in counts.items() if count > 1]
    return sorted(frequent, key=lambda piece: (-counts[piece] * len(piece), piece))[:most]


def _spans(length: int) -> Iterator[tuple[int, int]]:
    for start in range(length):
        for end in range(start + 1, min(length, start + LONGEST_PIECE) + 1):
            yield start, end


class _Lattice:
    """All ways to put strings together from pieces: one edge for each place where a piece fits.

    Args:
        index: piece -> id. weights: how much each string counts. whole: whether a piece may span its whole string.
    """

    def __init__(self, strings: Sequence[str], index: Mapping[str, int], weights: Float64, *, whole: bool):
        edges: list[tuple[int, int, int, int]] = []
        for row, string in enumerate(strings):
            for start, end in _spans(len(string)):
                piece = index.get(string[start:end])
                if piece is not None and (whole or end - start < len(string)):
                    edges.append((row, start, end, piece))
        self._edges = np.array(edges, np.int32).reshape(-1, 4)
        self._weights, self._lengths = weights, np.array([len(string) for string in strings], np.int64)
        self._rows, self._longest = np.arange(len(strings)), int(self._lengths.max(initial=0))

    def fit(self, share: Float64, alive: npt.NDArray[Any]) -> Float64:
        """Probabilities of the pieces after a few rounds of expectation-maximisation; 0 for those not alive."""
        keeps = np.zeros(len(share), bool)
        keeps[alive] = True
        self._edges = self._edges[keeps[self._edges[:, 3]]]
        share = np.where(keeps, share, 0.0)
        for _ in range(_EM_ROUNDS):
            counts = np.where(keeps, np.maximum(self._expected_counts(share), _LEAST_COUNT), 0.0)
            share = counts / counts.sum()
        return share

    def likelihood(self, share: Float64) -> Float64:
        """Probability of each string, over all segmentations."""
        forward = self._forward(share)
        return np.asarray(forward[self._lengths, self._rows])

    def _forward(self, share: Float64) -> Float64:
        forward = np.zeros((self._longest + 1, len(self._rows)))
        forward[0] = 1.0
        for row, start, _, piece, end in self._by_position(2):
            forward[end] = np.bincount(row, forward[start, row] * share[piece], len(self._rows))
        return forward

    def _expected_counts(self, share: Float64) -> Float64:
        forward = self._forward(share)
        total = forward[self._lengths, self._rows]
        backward = np.zeros_like(forward)
        backward[self._lengths, self._rows] = np.divide(self._weights, total, out=np.zeros_like(total), where=total > 0)
        counts = np.zeros_like(share)
        for row, _, end, piece, start in reversed(list(self._by_position(1))):
            after = backward[end, row] * share[piece]
            backward[start] += np.bincount(row, after, len(self._rows))
            counts += np.bincount(piece, forward[start, row] * after, len(share))
        return counts

    def _by_position(self, column: int) -> Iterator[tuple[Any, Any, Any, Any, int]]:
        """Columns of the edges that share a position, position after position. column: 1 start, 2 end."""
        order = np.argsort(self._edges[:, column], kind="stable")
        edges = self._edges[order]
        bounds = np.searchsorted(edges[:, column], np.arange(self._longest + 2))
        for position in range(self._longest + 1):
            if bounds[position] < bounds[position + 1]:
                yield (*edges[bounds[position] : bounds[position + 1]].T, position)


def count_words(texts: Iterable[str], cut: Any) -> Counter[str]:
    """Words of the texts, as a pre-tokenizer of the library cuts them."""
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in cut.pre_tokenize_str(text))
    return words
