"""Span corruption (Raffel et al., 2020): write what stood in the gaps of a text, gap by gap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trifecta.errors import RecipeError
from trifecta.objectives.base import Needs, Text
from trifecta.objectives.collate import arrays_of, written_batch
from trifecta.objectives.loss import NO_PENALTIES, Penalties, guessed_loss
from trifecta.tokenizers import Tokenizer
from trifecta.tokenizers.vocabulary import Vocabulary
from trifecta.types import Batch, Example, LossSum

TERM = "span"
Int64 = npt.NDArray[np.int64]


class Span:
    """Runs of tokens become one sentinel each; the decoder writes each sentinel and what it stands for, then the end.

    Arguments: `recipe.components.Span`. The decoder begins with the padding token where the tokenizer has one
    (as T5), else with its end of text.

    Raises:
        RecipeError: sentinels that are tokens of the text, or fewer than the longest text has gaps.
    """

    needs: Needs = "encoder-decoder"
    covers_text = False
    corrupts = True

    def __init__(
        self,
        text: Text,
        *,
        rate: float = 0.15,
        mean_span_length: float = 3.0,
        sentinels: int = 100,
        sentinel_start_id: int | None = None,
        sentinel_order: str = "ascending",
    ):
        self._text, self.rate, self.mean_span_length = text, rate, mean_span_length
        self.vocabulary = _vocabulary(text, sentinels, sentinel_start_id, sentinel_order)
        self._sentinels = np.array([self.vocabulary[sentinel_name(n)] for n in range(sentinels)], dtype=np.int64)
        self._ordinary = torch.from_numpy(~self.vocabulary.is_special)
        self.eos_id = text.tokenizer.eos_id
        self.start_id = self.pad_id = start_id(text.tokenizer)
        self.window, self.overlap = self._longest(text.sequence_length), 0
        noise, spans = self._noise(self.window)
        self._limits = {"BT": text.sequence_length, "BU": noise + spans + 1}
        if spans > sentinels:
            raise RecipeError(
                f"{self.window} tokens have up to {spans} gaps, but there are {sentinels} sentinels",
                where="objective.sentinels",
                fix=f"set objective.sentinels to at least {spans}, or shorten data.sequence_length",
            )

    def _noise(self, length: int) -> tuple[int, int]:
        """How many of so many tokens are taken out, in how many runs."""
        if length < 2:
            return 0, 0
        noise = min(max(round(length * self.rate), 1), length - 1)
        return noise, min(max(round(noise / self.mean_span_length), 1), noise, length - noise)

    def _longest(self, sequence_length: int) -> int:
        """The longest text whose corrupted form fits sequence_length positions."""

        def corrupted(length: int) -> int:
            noise, spans = self._noise(length)
            return length - noise + spans

        length = sequence_length
        while corrupted(length + 1) <= sequence_length:
            length += 1
        return length

    def prepare(self, window: Int64) -> Example:
        """The text's tokens."""
        return Example({"tokens": self._text.without_end(window)})

    def corrupt(self, example: Example, generator: np.random.Generator) -> Example:
        """What the encoder reads, what the decoder has written before each token, and that token."""
        tokens = example.arrays["tokens"]
        noise, spans = self._noise(len(tokens))
        # The run after the last gap may be empty. (T5 has none, so that a short text's only gap is always its end.)
        stay = _parts(len(tokens) - noise + 1, spans + 1, generator)[:-1] if spans else _parts(0, 0, generator)
        go = _parts(noise, spans, generator)
        read, written = self.split(tokens, stay, go)
        return arrays_of(tokens=read, decoder_tokens=np.append(self.start_id, written[:-1]), targets=written)

    def split(self, tokens: Int64, stay: Sequence[int] | Int64, go: Sequence[int] | Int64) -> tuple[Int64, Int64]:
        """Input and target of a text whose runs stay and go in turn, beginning with one that stays; the rest stays."""
        read, written = [], []
        at = 0
        for number, (kept, taken) in enumerate(zip(stay, go, strict=True)):
            sentinel = self._sentinels[number : number + 1]
            read += [tokens[at : at + kept], sentinel]
            written += [sentinel, tokens[at + kept : at + kept + taken]]
            at += kept + taken
        read.append(tokens[at:])
        return np.concatenate(read), np.concatenate([*written, [self.eos_id]]).astype(np.int64)

    def restore(self, read: Int64, written: Int64) -> Int64:
        """The text of an input and a target."""
        parts = np.split(written[:-1], np.flatnonzero(np.isin(written[:-1], self._sentinels)))
        runs = {int(part[0]): part[1:] for part in parts if len(part)}
        pieces = [runs[int(token)] if int(token) in runs else np.array([token]) for token in read]
        return np.concatenate(pieces) if pieces else read

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Examples packed into rows: the inputs of a row and the targets of that row belong together."""
        return written_batch(examples, TERM, pad_id=self.pad_id, limits=self._limits)

    def loss(self, model: Any, batch: Batch, penalties: Penalties = NO_PENALTIES) -> LossSum:
        """Sum of the cross-entropies of written tokens in nats, their count, and how many tokens of text were right.

        Where text stands, sentinels aren't among the guesses: gaps end at random.
        """
        return guessed_loss(model, batch, TERM, "targets_BU", penalties, self._ordinary)


def start_id(tokenizer: Tokenizer) -> int:
    """What a decoder begins with, and what fills rows up: the padding token if there is one, else the end of text."""
    pad = tokenizer.special_id("<pad>", "[PAD]")
    return tokenizer.eos_id if pad is None else pad


def sentinel_name(number: int) -> str:
    """T5's names of its sentinels."""
    return f"<extra_id_{number}>"


def _vocabulary(text: Text, sentinels: int, lowest_id: int | None, order: str) -> Vocabulary:
    """Sentinel n has the n-th id from the start, or from the end where the order is descending (as in T5 itself)."""
    names = [sentinel_name(n) for n in range(sentinels)]
    own = all(text.tokenizer.special_id(name) is not None for name in names)
    if own and lowest_id is None:
        return Vocabulary(text.tokenizer, names)
    first = text.tokenizer.vocab_size if lowest_id is None else lowest_id
    numbered = names if order == "ascending" else names[::-1]
    return Vocabulary(text.tokenizer, fixed={name: first + n for n, name in enumerate(numbered)})


def _parts(total: int, parts: int, generator: np.random.Generator) -> Int64:
    """A random way to write a number as a sum of so many positive ones, each equally likely."""
    if parts == 0:
        return np.zeros(0, dtype=np.int64)
    cuts = np.sort(generator.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)
