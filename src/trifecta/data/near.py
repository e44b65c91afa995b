"""Which texts are nearly the same: MinHash signatures (Broder, 1997) compared by bands (Leskovec et al., 2014, 3.4).

A text is the set of its runs of five words, in small letters and without punctuation; two are near when their sets have
at least a share of their union in common (Jaccard). Estimated from 128 numbers, so within about 0.08 of the truth. Our
own lines instead of a library's, since the split must be the same wherever and whenever it is made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from trifecta.data.pieces import Piece
from trifecta.data.words import WORD
from trifecta.randomness import key

UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]
Int64 = npt.NDArray[np.int64]

VERSION = 1
"""To be raised when other texts would be near."""
_NUMBERS = 128
_RUN = 5
_AT_ONCE = 4096
_LONGEST_BUCKET = 64
_MISSED = 1e-3
"""Chance that two texts right at the threshold share no band."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_KEYS = np.array([key(0, "near", number) for number in range(_NUMBERS)], dtype=np.uint64)


def signature(text: str) -> UInt32:
    """For each of 128 hashes the least of any run of words, (128,); of a text of less than five words all are a run."""
    words = [match.group().casefold() for match in WORD.finditer(text)] or [text.strip()]
    hashes = np.array([_hash(word) for word in words], dtype=np.uint64)
    runs = hashes[: max(1, len(hashes) - _RUN + 1)].copy()
    if len(hashes) < _RUN:
        for number in hashes[1:]:
            runs = runs * _MULTIPLIER + number
    else:
        for shift in range(1, _RUN):
            runs = runs * _MULTIPLIER + hashes[shift : shift + len(runs)]
    runs = np.unique(runs)
    least: UInt64 = np.full(_NUMBERS, np.iinfo(np.uint64).max, dtype=np.uint64)
    for start in range(0, len(runs), _AT_ONCE):
        least = np.minimum(least, _mixed(runs[start : start + _AT_ONCE, None] ^ _KEYS[None]).min(0))
    return (least >> np.uint64(32)).astype(np.uint32)


def signatures(texts: Iterable[str]) -> UInt32:
    """Those of texts, (N, 128)."""
    return _stacked([signature(text) for text in texts])


def signatures_of_pieces(pieces: Iterable[Piece], report: Callable[[int], None] = lambda _: None) -> UInt32:
    """Those of documents that come in pieces, (N, 128); runs across two pieces don't count."""
    found: list[UInt32] = []
    open_one: UInt32 | None = None
    for piece in pieces:
        of_piece = signature(piece.text)
        open_one = of_piece if open_one is None else np.minimum(open_one, of_piece)
        if piece.ends_document:
            found.append(open_one)
            open_one = None
            report(len(found))
    if open_one is not None:
        found.append(open_one)
    return _stacked(found)


def near_groups(signatures_NK: UInt32, threshold: float) -> Int64:
    """For each text the first one of its group, (N,): near ones, and what is near to those."""
    distinct, inverse = np.unique(signatures_NK, axis=0, return_inverse=True)
    parents = np.arange(len(distinct))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = number = int(parents[parents[number]])
        return number

    rows = rows_of_a_band(threshold)
    for start in range(0, _NUMBERS, rows):
        for bucket in _buckets(distinct[:, start : start + rows]):
            for place, number in enumerate(bucket[:_LONGEST_BUCKET].tolist()):
                alike = (distinct[bucket[place + 1 :]] == distinct[number]).mean(1) >= threshold
                for other in bucket[place + 1 :][alike].tolist():
                    one, two = root(number), root(other)
                    parents[max(one, two)] = min(one, two)
    roots = np.array([root(number) for number in range(len(distinct))], dtype=np.int64)[inverse.reshape(-1)]
    firsts: dict[int, int] = {}
    return np.array([firsts.setdefault(r, n) for n, r in enumerate(roots.tolist())], dtype=np.int64)


def rows_of_a_band(threshold: float) -> int:
    """Numbers that must agree for two texts to be compared: as many as let almost no near ones pass unseen."""
    fitting = [rows for rows in (1, 2, 4, 8, 16, 32, 64, 128) if (1 - threshold**rows) ** (_NUMBERS // rows) <= _MISSED]
    return max(fitting, default=1)


@dataclass(frozen=True)
class Apart:
    """A split after groups were put on one side each.

    validation: whether each text is for validation, (N,). groups: those of two texts or more; texts: in them. leaks:
    texts that the plain split would have validated on with a near one among those trained on.
    """

    validation: npt.NDArray[np.bool_]
    groups: int
    texts: int
    leaks: int


def put_apart(validation: npt.NDArray[np.bool_], firsts: Int64) -> Apart:
    """Each group goes where its first text is. firsts: from `near_groups`."""
    sizes = np.bincount(firsts, minlength=len(firsts))
    return Apart(
        validation[firsts], int((sizes > 1).sum()), int(sizes[sizes > 1].sum()), count_leaks(validation, firsts)
    )


def count_leaks(validation: npt.NDArray[np.bool_], firsts: Int64) -> int:
    """Validation texts in whose group there is one that is trained on."""
    trained = np.zeros(len(firsts), np.bool_)
    trained[firsts[~validation]] = True
    return int((validation & trained[firsts]).sum())


def leak_note(leaks: int, validated: int, what: str, threshold: float) -> str:
    """What is said of validation data that is given."""
    return (
        f"{leaks:,} of {validated:,} validation {what} have a near-duplicate ({threshold:g} or more in common) among "
        "those that are trained on"
    )


def apart_note(apart: Apart, what: str, threshold: float) -> str:
    """What is said of a split that was made."""
    return (
        f"near-duplicates ({threshold:g} or more in common): {apart.groups:,} groups of {apart.texts:,} {what} in all, "
        f"each on one side of the split; a plain split would have validated on {apart.leaks:,} that are nearly trained "
        "on"
    )


def _buckets(band_NR: UInt32) -> list[Any]:
    """Numbers of the rows that are equal, of each kind with two or more."""
    _, kinds, counts = np.unique(band_NR, axis=0, return_inverse=True, return_counts=True)
    kinds = kinds.reshape(-1)
    order = np.argsort(kinds, kind="stable")
    return [bucket for bucket in np.split(order, np.cumsum(counts)[:-1]) if len(bucket) > 1]


@lru_cache(maxsize=1 << 20)
def _hash(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _mixed(x: UInt64) -> UInt64:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _stacked(found: Sequence[UInt32]) -> UInt32:
    return np.stack(found) if found else np.zeros((0, _NUMBERS), np.uint32)
