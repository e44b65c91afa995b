"""Which sample comes when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Protocol

import numpy as np

from trifecta.randomness import Int64, key, permute

Draws = tuple[Int64, Int64]
"""Samples, and for each one which visit of it this is: what is random about a sample follows from both."""

_FINEST_WEIGHT = 1_000_000


class Order(Protocol):
    """An order of samples, epoch after epoch; every place in it is computed on its own."""

    def __len__(self) -> int: ...

    def draws(self, epoch: int, start: int, stop: int) -> Draws:
        """(visits, samples) at positions start..stop-1 of an epoch; what lies beyond its end is left out."""


@dataclass(frozen=True)
class Sampler:
    """Each epoch visits every sample once, in an order of its own.

    Position k of epoch e is computed from (seed, e, k), so resuming in mid-epoch needs no replay.

    Args:
        size: number of samples. shuffle: False visits them in their order. purpose: other ones give other orders.
    """

    size: int
    seed: int
    shuffle: bool
    purpose: str = "shuffle"

    def __len__(self) -> int:
        return self.size

    def indices(self, epoch: int, start: int, stop: int) -> Int64:
        """Samples at positions start..stop-1 of an epoch; what lies beyond the epoch's end is left out."""
        positions = np.arange(start, min(stop, self.size), dtype=np.int64)
        if not self.shuffle or not len(positions):
            return positions
        return permute(positions, self.size, key(self.seed, self.purpose, epoch))

    def draws(self, epoch: int, start: int, stop: int) -> Draws:
        """The same, each visited for the epoch-th time."""
        indices = self.indices(epoch, start, stop)
        return np.full(len(indices), epoch, dtype=np.int64), indices


class Mixture:
    """Several corpora in one order, each as often as its weight says.

    After n samples a corpus has given n times its share, give or take as many samples as there are corpora.

    An epoch has as many samples as all corpora together. A corpus that comes round sooner is shuffled anew, and its
    samples are other visits.

    Args:
        sizes: samples of each corpus, whose samples are numbered one corpus after the other.
        weights: above 0; only their ratios count, to a millionth.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], *, seed: int, shuffle: bool, purpose: str):
        assert len(sizes) == len(weights) > 0 < min(weights), (sizes, weights)
        self.sizes = list(sizes)
        self._first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._weights = _whole(weights)
        self._corpora = [
            Sampler(size, seed, shuffle, f"{purpose} corpus {number}") for number, size in enumerate(sizes)
        ]

    def __len__(self) -> int:
        return int(self._first[-1])

    def counts(self, positions: Int64) -> Int64:
        """Samples of each corpus among the first n of the whole run, for each n: int64 [corpus, n].

        Corpus 0 has floor(n * w_0 / sum(w)), corpus 1 its share of what that leaves, and so on.
        """
        left, weight_left = positions, sum(self._weights)
        found = []
        for weight in self._weights[:-1]:
            found.append(left * weight // weight_left)
            left, weight_left = left - found[-1], weight_left - weight
        return np.stack([*found, left])

    def draws(self, epoch: int, start: int, stop: int) -> Draws:
        """(visits, samples) at positions start..stop-1 of an epoch."""
        places = epoch * len(self) + np.arange(start, min(stop, len(self)) + 1, dtype=np.int64)
        before = self.counts(places)
        visits, indices = np.zeros((2, max(0, len(places) - 1)), dtype=np.int64)
        for number, sampler in enumerate(self._corpora):
            here = np.flatnonzero(np.diff(before[number]))
            rounds, positions = np.divmod(before[number][here], len(sampler))
            for turn in np.unique(rounds):
                chosen = rounds == turn
                first, last = int(positions[chosen].min()), int(positions[chosen].max())
                local = sampler.indices(int(turn), first, last + 1)
                indices[here[chosen]] = self._first[number] + local[positions[chosen] - first]
            visits[here] = rounds
        return visits, indices


def _whole(weights: Sequence[float]) -> list[int]:
    """Whole numbers in the same ratios, the heaviest first weight at most a million times the lightest."""
    exact = [Fraction(str(weight)) / Fraction(str(max(weights))) for weight in weights]
    fine = [max(share.limit_denominator(_FINEST_WEIGHT), Fraction(1, _FINEST_WEIGHT)) for share in exact]
    common = lcm(*(share.denominator for share in fine))
    if common > _FINEST_WEIGHT:
        return [max(1, round(share * _FINEST_WEIGHT)) for share in fine]
    return [int(share * common) for share in fine]


class Curriculum:
    """Easy samples first: as long as only a share of them may be seen, draws come from the easiest (Platanios et al.,
    Competence-based Curriculum Learning, 2019), each drawn anew; after that every epoch visits each sample once.

    Args:
        order: samples, the easiest first. pacing: share of them that may be seen after this share of the growing time.
        samples: drawn until all may be seen.
    """

    def __init__(self, order: Int64, pacing: Callable[[float], float], samples: int, *, after: Sampler):
        assert len(order) == len(after), (len(order), len(after))
        self.order, self.pacing, self.samples, self.after = order, pacing, samples, after

    def __len__(self) -> int:
        return len(self.order)

    def allowed(self, place: int) -> int:
        """How many samples, the easiest ones, the draw at this place of the run chooses from."""
        share = self.pacing(place / self.samples) if place < self.samples else 1.0
        return min(len(self.order), max(1, round(share * len(self.order))))

    def draws(self, epoch: int, start: int, stop: int) -> Draws:
        """(visits, samples) at positions start..stop-1 of an epoch."""
        visits, indices = self.after.draws(epoch, start, stop)
        for number, position in enumerate(range(start, min(stop, len(self)))):
            place = epoch * len(self) + position
            if place >= self.samples:
                break
            drawn = key(self.after.seed, f"{self.after.purpose} curriculum", place) % self.allowed(place)
            # Numbers below 0 are visits that no epoch has.
            visits[number], indices[number] = -1 - place, self.order[drawn]
        return visits, indices


PACING: dict[str, Callable[[float, float], float]] = {
    "linear": lambda start, t: start + (1 - start) * t,
    "root": lambda start, t: float((start**2 + (1 - start**2) * t) ** 0.5),
    "exponential": lambda start, t: float(start ** (1 - t)),
}
"""Name -> (share at the beginning, share of the growing time) -> share of the samples."""
