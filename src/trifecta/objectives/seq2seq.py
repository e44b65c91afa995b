"""From one text to another: a translation, a summary, an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trifecta.data.tasks import Pair
from trifecta.objectives.base import Int64, Needs, Text
from trifecta.objectives.collate import arrays_of, written_batch
from trifecta.objectives.loss import NO_PENALTIES, Penalties, guessed_loss
from trifecta.objectives.span import start_id
from trifecta.tokenizers.vocabulary import Vocabulary
from trifecta.types import Batch, Example, LossSum

TERM = "written"


class Seq2Seq:
    """Write the target of a source, then the end (Raffel et al., 2020). Arguments: `recipe.components.Seq2Seq`.

    The encoder reads `prefix + source` and the end of text. The decoder begins as in span corruption: with the padding
    token where the tokenizer has one, else with its end of text.
    """

    needs: Needs = "encoder-decoder"
    covers_text = corrupts = False
    window, overlap = 0, 0

    def __init__(self, text: Text, *, prefix: str = "", max_target_length: int = 128):
        self.vocabulary = Vocabulary(text.tokenizer)
        self.prefix, self.max_target_length = prefix, max_target_length
        self.eos_id = text.tokenizer.eos_id
        self.start_id = self.pad_id = start_id(text.tokenizer)
        self._limits = {"BT": text.sequence_length, "BU": max_target_length}

    def read(self, source: str) -> tuple[Int64, int]:
        """What the encoder reads, at most sequence_length tokens, and how many were cut."""
        return _ended(self.vocabulary.tokenizer.encode(self.prefix + source), self.eos_id, self._limits["BT"])

    def prepare(self, sample: Pair) -> Example:
        """tokens (T,), decoder_tokens and targets (U,): the decoder has read targets 0..u-1 when it writes target u."""
        tokens, cut = self.read(sample.source)
        targets, more = _ended(self.vocabulary.tokenizer.encode(sample.target), self.eos_id, self._limits["BU"])
        arrays = arrays_of(tokens=tokens, decoder_tokens=np.append(self.start_id, targets[:-1]), targets=targets).arrays
        return Example(arrays, cut + more)

    def corrupt(self, example: Example, generator: np.random.Generator) -> Example:
        """Changes nothing."""
        del generator
        return example

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Pairs packed into rows: the sources of a row and the targets of that row belong together."""
        return written_batch(examples, TERM, pad_id=self.pad_id, limits=self._limits)

    def loss(self, model: Any, batch: Batch, penalties: Penalties = NO_PENALTIES) -> LossSum:
        """Sum of the cross-entropies of written tokens in nats, their count, and how many were likeliest."""
        return guessed_loss(model, batch, TERM, "targets_BU", penalties)


def _ended(ids: Int64, eos_id: int, limit: int) -> tuple[Int64, int]:
    """The ids' beginning and an end, at most `limit` in all, and how many were cut."""
    kept = ids[: limit - 1]
    return np.append(kept, eos_id).astype(np.int64), len(ids) - len(kept)
