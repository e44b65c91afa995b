"""The words of a text, and what may be done to them without changing what the text is about (EDA, Wei and Zou, 2019).

All of it is drawn from the generator that is given: a record's own stream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

Synonyms = Mapping[str, tuple[str, ...]]
"""Word in small letters -> others that may stand for it."""

WORD = re.compile(r"\w+(?:['’-]\w+)*")

_CLOSING = " \t\r\n,.;:!?)]}"
"""What goes with the word before it."""


@dataclass(frozen=True)
class Unit:
    """A word, or a run of text that must stay as it is.

    before: what stands between it and the unit before. fixed: nothing is done to it. origin: its number in the text as
    it was; None of a new word.
    """

    before: str
    text: str
    fixed: bool = False
    origin: int | None = None


Span = tuple[int, int, bool]
"""Characters [start, stop) of a unit, and whether it is fixed."""


def word_spans(text: str, fixed: Sequence[tuple[int, int]] = ()) -> list[Span]:
    """The words of a text from left to right; what touches a fixed range is one fixed unit with it."""
    spans: list[Span] = []
    waiting = sorted((start, stop) for start, stop in fixed if start < stop)
    marked = sorted([*((*match.span(), False) for match in WORD.finditer(text)), *((*span, True) for span in waiting)])
    for start, stop, is_fixed in marked:
        if spans and start < spans[-1][1]:
            before = spans.pop()
            start, stop, is_fixed = before[0], max(stop, before[1]), is_fixed or before[2]
        spans.append((start, stop, is_fixed))
    return spans


def units_of(text: str, spans: Sequence[Span]) -> tuple[list[Unit], str]:
    """The text as units, and what stands behind the last one. spans: from left to right, without overlap."""
    units, at = [], 0
    for number, (start, stop, fixed) in enumerate(spans):
        units.append(Unit(text[at:start], text[start:stop], fixed, number))
        at = stop
    return units, text[at:]


def text_of(units: Sequence[Unit], tail: str) -> tuple[str, list[int]]:
    """The text of units, and where each one begins."""
    parts, starts, at = [], [], 0
    for unit in units:
        starts.append(at + len(unit.before))
        parts += [unit.before, unit.text]
        at = starts[-1] + len(unit.text)
    return "".join([*parts, tail]), starts


@dataclass(frozen=True)
class WordEdits:
    """Synonyms for words, words added, words exchanged, words left out, in this order.

    Each number is a share of the words that aren't fixed: so many on average, in a text one of the two nearest whole
    numbers; `delete` is each word's own chance. A text keeps at least one word.

    replace: a synonym takes a word's place. insert: a synonym of any word comes in anywhere. swap: two words change
    places. synonyms: of words in small letters.
    """

    delete: float = 0.0
    swap: float = 0.0
    insert: float = 0.0
    replace: float = 0.0
    synonyms: Synonyms = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """Whether anything is changed."""
        return bool(self.delete or self.swap or self.insert or self.replace)

    def __call__(self, units: Sequence[Unit], generator: np.random.Generator) -> list[Unit]:
        """Changed units; fixed ones stay as they are, in their order."""
        made, words = list(units), sum(not unit.fixed for unit in units)
        self._replace(made, _count(self.replace * words, generator), generator)
        self._insert(made, _count(self.insert * words, generator), generator)
        self._swap(made, _count(self.swap * words, generator), generator)
        return self._deleted(made, generator) if self.delete else made

    def _replace(self, units: list[Unit], count: int, generator: np.random.Generator) -> None:
        known = self._known(units)
        for place in generator.permutation(len(known))[:count].tolist() if count else []:
            number = known[place]
            units[number] = replace(units[number], text=self._synonym(units[number].text, generator))

    def _insert(self, units: list[Unit], count: int, generator: np.random.Generator) -> None:
        for _ in range(count):
            known = self._known(units)
            if not known:
                return
            new = self._synonym(units[known[int(generator.integers(len(known)))]].text, generator)
            at = int(generator.integers(len(units) + 1))
            before = " "
            if at == 0:
                before, units[0] = units[0].before, replace(units[0], before=" ")
            units.insert(at, Unit(before, new))

    def _swap(self, units: list[Unit], count: int, generator: np.random.Generator) -> None:
        free = [number for number, unit in enumerate(units) if not unit.fixed]
        for _ in range(count if len(free) > 1 else 0):
            one, other = (free[i] for i in generator.choice(len(free), 2, replace=False).tolist())
            texts = units[one].text, units[other].text
            units[one], units[other] = replace(units[one], text=texts[1]), replace(units[other], text=texts[0])

    def _deleted(self, units: list[Unit], generator: np.random.Generator) -> list[Unit]:
        gone = (generator.random(len(units)) < self.delete) & ~np.array([unit.fixed for unit in units], np.bool_)
        if len(units) and gone.all():
            gone[int(generator.integers(len(units)))] = False
        kept: list[Unit] = []
        gap: str | None = None
        for unit, leaves in zip(units, gone.tolist(), strict=True):
            before = unit.before if gap is None else _joined(gap, unit.before, first=not kept)
            if not leaves:
                kept.append(replace(unit, before=before))
            gap = before if leaves else None
        return kept

    def _known(self, units: Sequence[Unit]) -> list[int]:
        """Numbers of the words that have synonyms."""
        return [n for n, unit in enumerate(units) if not unit.fixed and unit.text.casefold() in self.synonyms]

    def _synonym(self, word: str, generator: np.random.Generator) -> str:
        choices = self.synonyms[word.casefold()]
        return cased(choices[int(generator.integers(len(choices)))], word)


def cased(new: str, like: str) -> str:
    """A word with the capitals of another."""
    if like.isupper() and len(like) > 1:
        return new.upper()
    return new[:1].upper() + new[1:] if like[:1].isupper() else new


def _joined(before: str, after: str, *, first: bool) -> str:
    """What stands where a word was left out: punctuation stays, and one of two spaces."""
    if first:
        return before + after.lstrip(_CLOSING)
    if not before.strip():
        return after
    return before + after.lstrip() if after.strip() else before


def _count(mean: float, generator: np.random.Generator) -> int:
    """One of the two whole numbers nearest to the mean, so that it is the mean."""
    return int(mean + generator.random()) if mean else 0
