"""What every objective is given, and what it offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from trifecta.objectives.loss import Penalties
from trifecta.tokenizers import Tokenizer
from trifecta.tokenizers.vocabulary import Vocabulary
from trifecta.types import Batch, Example, LossSum

Int64 = npt.NDArray[np.int64]

Needs = Literal["decoder", "encoder", "encoder-decoder"]
"""The kind of model that an objective can train."""


@dataclass(frozen=True)
class Text:
    """The text that an objective is to be trained on, or the shape of the images.

    sequence_length: longest row of a batch. documents: samples are whole documents (cut where they are too long),
    not windows of neighbouring tokens. image: side in pixels and channels of what the model sees.
    """

    tokenizer: Tokenizer
    sequence_length: int
    documents: bool = False
    image: tuple[int, int] | None = None

    def without_end(self, tokens: Int64) -> Int64:
        """A whole document without the end of text that follows it in the store."""
        ended = self.documents and len(tokens) > 1 and tokens[-1] == self.tokenizer.eos_id
        return tokens[:-1] if ended else tokens


class Objective(Protocol):
    """What is to be learned: from a sample's tokens to the sums and counts of a batch.

    vocabulary: what the model must know. corrupts: whether `corrupt` does anything. covers_text: whether the losses
    of all samples are those of every token of the text. window: tokens of text in one sample; overlap: how many of
    them the next window begins with again.
    """

    covers_text: bool
    corrupts: bool
    vocabulary: Vocabulary
    window: int
    overlap: int

    def prepare(self, sample: Any) -> Example:
        """A sample as arrays."""

    def corrupt(self, example: Example, generator: np.random.Generator) -> Example:
        """What is random about it, anew in each epoch; pure."""

    def collate(self, examples: Sequence[Example]) -> Batch:
        """A batch; deterministic."""

    def loss(self, model: Any, batch: Batch, *penalties: Penalties) -> LossSum:
        """Sums and counts of one batch; with penalties where the recipe has any for this objective."""
