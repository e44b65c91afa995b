"""Tokens of an example hidden or left out: word dropout (Iyyer et al., 2015; Bowman et al., 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trifecta.tokenizers.vocabulary import KNOWN_NAMES, Vocabulary
from trifecta.types import Example

Bool = npt.NDArray[np.bool_]

_ALONGSIDE = ("types", "choice")
"""Arrays with an item for each token."""


@dataclass(frozen=True)
class Noise:
    """Each ordinary token is hidden with probability `mask`, and of those that stay left out with probability `drop`.

    What is to be learned stays right: a text's next tokens, and what a decoder writes, are as they were; tags keep
    their words and answers their tokens, whose places are found anew; a question isn't touched. At least one token
    stays, and neither special tokens nor the beginning `prefix` change.

    vocabulary: of the objective. prefix: tokens at the beginning of what is read that aren't the user's. outside: the
    label of words that are no entity's.
    """

    vocabulary: Vocabulary
    mask: float = 0.0
    drop: float = 0.0
    prefix: int = 0
    outside: int = 0

    def __call__(self, example: Example, generator: np.random.Generator) -> Example:
        """A changed copy."""
        tokens = example.arrays["tokens"]
        movable, fixed = self._free(example)
        drawn = generator.random((2, len(tokens)))
        others = generator.integers(len(self.vocabulary.ordinary), size=len(tokens))
        hidden = movable & (drawn[0] < self.mask)
        hider = mask_id(self.vocabulary)
        made = np.where(hidden, self.vocabulary.ordinary[others] if hider is None else hider, tokens)
        gone = movable & ~fixed & ~hidden & (drawn[1] < self.drop)
        if (movable & gone).sum() == movable.sum() > 0:
            gone[np.flatnonzero(gone)[int(others[0]) % int(gone.sum())]] = False
        return _without(Example({**example.arrays, "tokens": made}, example.cut), gone)

    def _free(self, example: Example) -> tuple[Bool, Bool]:
        """Tokens that may be changed, and those among them that may be hidden but not left out."""
        arrays = example.arrays
        tokens = arrays["tokens"]
        movable = ~self.vocabulary.is_special[tokens]
        movable[: self.prefix] = False
        fixed = np.zeros(len(tokens), np.bool_)
        if "places" in arrays:
            movable &= ~_of_entities(arrays["places"], arrays["labels"] != self.outside, len(tokens))
            fixed[arrays["places"]] = True
        if "choice" in arrays:
            at = np.flatnonzero(arrays["choice"])
            movable &= arrays["choice"] == 1
            first, last = arrays["answer"].tolist()
            movable[at[first] : at[last] + 1] = False
        return movable, fixed


def _of_entities(places: Any, inside: Any, length: int) -> Bool:
    """Tokens of words that are an entity's: from such a word's first token to the next word's."""
    found = np.zeros(length, np.bool_)
    for start, stop, entity in zip(places, [*places[1:], length][: len(places)], inside, strict=True):
        found[start:stop] = entity
    return found


def _without(example: Example, gone: Bool) -> Example:
    """The example without these tokens."""
    if not gone.any():
        return example
    arrays = dict(example.arrays)
    if "places" in arrays:
        arrays["places"] = arrays["places"] - np.cumsum(gone)[arrays["places"]]
    if "choice" in arrays:
        at = np.flatnonzero(arrays["choice"])
        arrays["answer"] = arrays["answer"] - np.cumsum(gone[at])[arrays["answer"]]
    for name in ("tokens", *_ALONGSIDE):
        if name in arrays:
            arrays[name] = arrays[name][~gone]
    return Example(arrays, example.cut)


def mask_id(vocabulary: Vocabulary) -> int | None:
    """What a hidden token is shown as: `[MASK]`, T5's first gap, or the unknown token; None where there is none."""
    ids, tokenizer = vocabulary.ids, vocabulary.tokenizer
    for name in ("[MASK]", "<extra_id_0>"):
        own = ids.get(name, tokenizer.special_id(*KNOWN_NAMES.get(name, (name,))))
        if own is not None:
            return own
    return tokenizer.unk_id
