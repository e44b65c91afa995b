"""The ragged texts of the rows on BERT and T5: the same sentences, tokens and gaps for both sides."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.text import halves
from trifecta.data.units import split_documents
from trifecta.objectives.base import Text
from trifecta.objectives.masked import Masked
from trifecta.objectives.span import Span
from trifecta.randomness import numpy_generator
from trifecta.tokenizers import Tokenizer, load_tokenizer
from trifecta.tokenizers.trainers import bpe
from trifecta.types import Example

HELD_OUT = 1000
"""Sentences on which both sides are compared in the end."""


@dataclass(frozen=True)
class Sentences:
    """Sentences of a text, one a line, each of 2 to length - 2 tokens; and a BPE tokenizer trained on them.

    train, validation, tokenizer_path: files. length: tokens of the longest, [CLS] and [SEP] among them.
    """

    train: Path
    validation: Path
    tokenizer_path: Path
    length: int

    @classmethod
    def of(cls, text: str, folder: str, vocab_size: int, length: int) -> Sentences:
        """Cuts the text, once for all legs of a row."""
        place = Path(folder) / "sentences"
        made = cls(place / "train.txt", place / "validation.txt", place / "tokenizer.json", length)
        if made.validation.exists():
            return made
        place.mkdir(exist_ok=True)
        parts = [_cut(part) for part in halves(text)]
        tokenizer = bpe(parts[0], vocab_size=vocab_size)
        made.tokenizer_path.write_text(tokenizer.to_json(), encoding="utf-8")
        for path, sentences in zip((made.train, made.validation), parts, strict=True):
            lengths = map(len, tokenizer.encode_batch(sentences))
            fitting = [s for s, size in zip(sentences, lengths, strict=True) if 2 <= size <= length - 2]
            if path is made.validation:
                random.Random(0).shuffle(fitting)
                fitting = fitting[:HELD_OUT]
            path.write_text("\n".join(fitting) + "\n", encoding="utf-8")
        return made

    @property
    def tokenizer(self) -> Tokenizer:
        """As trifecta has it."""
        return load_tokenizer(self.tokenizer_path)

    def ids(self, path: Path) -> list[list[int]]:
        """Each sentence of a file as tokens."""
        return [ids.tolist() for ids in self.tokenizer.encode_batch(path.read_text(encoding="utf-8").splitlines())]

    @property
    def settings(self) -> dict[str, Any]:
        """These sentences as a recipe's."""
        return {
            "data.samples": "lines", "data.sequence_length": self.length,
            "data.validation_paths": [str(self.validation)],
            "tokenizer": {"type": "file", "path": str(self.tokenizer_path)},
        }  # fmt: skip

    def masked(self) -> Masked:
        """BERT's objective."""
        return Masked(Text(self.tokenizer, self.length, documents=True))

    def span(self) -> Span:
        """T5's objective."""
        return Span(Text(self.tokenizer, self.length, documents=True))

    def held_out_loss(self, objective: Any, sums_of: Callable[[list[Example]], tuple[float, float]]) -> float:
        """Mean loss in nats on the held-out sentences, which always have the same gaps.

        Args:
            sums_of: some of them -> the sum of their losses, and of how many targets.
        """
        examples = [
            objective.corrupt(objective.prepare(np.array(sentence)), numpy_generator(0, "held out", number))
            for number, sentence in enumerate(self.ids(self.validation))
        ]
        with torch.inference_mode():
            sums = [sums_of(examples[start : start + 32]) for start in range(0, len(examples), 32)]
        nats, targets = map(sum, zip(*sums, strict=True))
        return nats / targets


def _cut(text: str) -> list[str]:
    """Sentences, each on a line."""
    units = split_documents([("", [text])], "sentence")
    return [" ".join("".join(chunks).split()) for _, chunks in units]


def alone(examples: list[Example], name: str, filler: int) -> Tensor:
    """An array of each example as a row of its own, filled up to the longest."""
    rows = [torch.from_numpy(example.arrays[name]) for example in examples]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=filler)
