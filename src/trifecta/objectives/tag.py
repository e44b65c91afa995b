"""A tag for each word of a text: named entities and the like."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from trifecta.data.tasks import Tagged
from trifecta.models.heads import Headed
from trifecta.objectives.base import Needs, Text
from trifecta.objectives.collate import arrays_of, packed
from trifecta.objectives.loss import NO_PENALTIES, Penalties
from trifecta.objectives.masked import SPECIAL
from trifecta.objectives.texts import framed
from trifecta.objectives.windows import hidden_of, owners, places_of, window_starts
from trifecta.tokenizers.vocabulary import Vocabulary
from trifecta.types import IGNORE, Batch, Example, LossSum

TERM = "tag"
OUTSIDE = "O"
_STEP = 3 / 4
"""Share of a window by which the next one begins later."""

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TagWindow:
    """Part of a text, and the words that are judged here.

    tokens: (n,). words: their numbers in the record, (w,). at: each one's first token in this window, (w,).
    """

    record: Tagged
    tokens: Int64
    words: Int64
    at: Int64


class Tag:
    """A linear head over the first token of each word (Devlin et al., 2018, section 5.3); cross-entropy of its tag.

    A text longer than a row becomes windows that share a quarter of their tokens; each word is learned in the one that
    shows most around it, so nothing is lost and nothing counts twice. Where several words are one token, its tag is
    that of the first of them. Arguments: `recipe.components.Tag`.
    """

    needs: Needs = "encoder"
    covers_text = corrupts = False
    window, overlap = 0, 0

    def __init__(self, text: Text, *, labels: Sequence[str] = (), head_dropout: float = 0.1):
        self.vocabulary = Vocabulary(text.tokenizer, SPECIAL)
        self.labels = tuple(labels)
        self._number = {label: number for number, label in enumerate(labels)}
        self._limit, self._head_dropout = text.sequence_length, head_dropout

    def headed(self, body: Any) -> Headed:
        """The body with a score for each tag."""
        return Headed(body, max(1, len(self.labels)), dropout=self._head_dropout)

    def expand(self, records: Iterable[Tagged]) -> list[TagWindow]:
        """The windows of each record, in order."""
        return [window for record in records for window in self._windows(record)]

    def _windows(self, record: Tagged) -> list[TagWindow]:
        tokens, ranges = self.vocabulary.tokenizer.encode_with_offsets(record.text)
        words, at = first_tokens(ranges, record.words)
        room = self._limit - 2
        starts = window_starts(len(tokens), room, int(room * _STEP))
        owner = owners(len(tokens), starts, room)[at]
        return [
            TagWindow(record, tokens[start : start + room], words[owner == number], at[owner == number] - start)
            for number, start in enumerate(starts)
        ]

    def prepare(self, sample: TagWindow) -> Example:
        """`[CLS] tokens [SEP]`; places (w,) of the judged words among them, and labels (w,)."""
        tokens, types = framed(self.vocabulary, [sample.tokens])
        labels = [self._number[sample.record.tags[word]] for word in sample.words]
        return arrays_of(tokens=tokens, types=types, places=sample.at + 1, labels=labels)

    def corrupt(self, example: Example, generator: np.random.Generator) -> Example:
        """Changes nothing."""
        del generator
        return example

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Texts packed into rows; words_BT numbers the judged words of the batch where each begins."""
        numbered, count = [], 0
        for example in examples:
            tokens, places = example.arrays["tokens"], example.arrays["places"]
            words = np.full(len(tokens), IGNORE)
            words[places] = np.arange(count, count + len(places))
            count += len(places)
            numbered.append(arrays_of(tokens=tokens, types=example.arrays["types"], words=words))
        sides = {"BT": {"tokens": self.vocabulary["[PAD]"], "types": 0, "words": IGNORE}}
        inputs = packed(numbered, sides, {"BT": self._limit})
        words_BT = inputs.pop("words_BT")
        labels_N = torch.from_numpy(np.concatenate([example.arrays["labels"] for example in examples]))
        return Batch(
            inputs=inputs, targets={"words_BT": words_BT, "labels_N": labels_N}, weights={TERM: float(count)},
            samples=len(examples), tokens=sum(len(example.arrays["tokens"]) for example in examples),
        )  # fmt: skip

    def loss(self, model: Headed, batch: Batch, penalties: Penalties = NO_PENALTIES) -> LossSum:
        """Sum over words in nats, their count, and how many tags were right."""
        labels_N, count = batch.targets["labels_N"], batch.weights[TERM]
        scores_NC = self.scores(model, batch)
        right = (scores_NC.detach().argmax(1) == labels_N).sum()
        total = F.cross_entropy(scores_NC, labels_N, reduction="sum", label_smoothing=penalties.label_smoothing)
        return LossSum({TERM: (total, count)}, {"accuracy": (right, count)})

    def scores(self, model: Headed, batch: Batch) -> Tensor:
        """Scores of each judged word, (N, C), in the order of the examples."""
        places = places_of(batch.targets["words_BT"], len(batch.targets["labels_N"]))
        return model.scores(hidden_of(model, batch)[places])


def first_tokens(ranges: Int64, words: Sequence[tuple[int, int]]) -> tuple[Int64, Int64]:
    """Numbers of the words with a first token of their own, and that token's place.

    Args:
        ranges: characters of each token, (n, 2). words: characters of each word, from left to right.
    """
    spans = np.array(words, dtype=np.int64).reshape(-1, 2)
    at = np.searchsorted(ranges[:, 1], spans[:, 0], side="right")
    found = np.flatnonzero(at < len(ranges))
    found = found[ranges[at[found], 0] < spans[found, 1]]
    places, first = np.unique(at[found], return_index=True)
    return found[first].astype(np.int64), places.astype(np.int64)
