"""Next-token prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trifecta.objectives.base import Needs, Text
from trifecta.objectives.collate import packed
from trifecta.objectives.loss import NO_PENALTIES, Penalties, cross_entropy_sum
from trifecta.tokenizers.vocabulary import Vocabulary
from trifecta.types import IGNORE, Batch, Example, LossSum

TERM = "next_token"


class Causal:
    """Predict each next token (Radford et al., 2018)."""

    needs: Needs = "decoder"
    covers_text = True
    corrupts = False

    def __init__(self, text: Text):
        self.vocabulary = Vocabulary(text.tokenizer)
        self._text = text
        self.window, self.overlap = text.sequence_length + 1, 1

    def prepare(self, window: npt.NDArray[np.int64]) -> Example:
        """Tokens 0..T-1 of a window of T + 1 and, as targets, tokens 1..T: the target at t is token t + 1."""
        return Example({"tokens": window[:-1], "targets": window[1:]})

    def corrupt(self, example: Example, generator: np.random.Generator) -> Example:
        """Changes nothing."""
        del generator
        return example

    def collate(self, examples: Sequence[Example]) -> Batch:
        """tokens_BT and targets_BT (int64); short windows are filled up at the right, documents share rows."""
        if self._text.documents:
            sides = {"BT": {"tokens": 0, "targets": IGNORE}}
            inputs = packed(examples, sides, {"BT": self._text.sequence_length})
        else:
            inputs = _rows(examples)
        targets_BT = inputs.pop("targets_BT")
        return Batch(
            inputs=inputs,
            targets={"targets_BT": targets_BT},
            weights={TERM: float((targets_BT != IGNORE).sum())},
            samples=len(examples),
            tokens=sum(len(example.arrays["tokens"]) for example in examples),
        )

    def loss(self, model: Any, batch: Batch, penalties: Penalties = NO_PENALTIES) -> LossSum:
        """Sum of next-token cross-entropies in nats, and their count."""
        return next_token_loss(model, batch, penalties)


def next_token_loss(model: Any, batch: Batch, penalties: Penalties = NO_PENALTIES) -> LossSum:
    """Sum of the cross-entropies of targets_BT in nats, and their count."""
    output = model.hidden(**batch.inputs)
    total = cross_entropy_sum(
        output.hidden_BTD, batch.targets["targets_BT"], model.logits, model.head_parameters(),
        vocab_size=model.vocab_size, supervised=int(batch.weights[TERM]), penalties=penalties,
    )  # fmt: skip
    return LossSum({TERM: (total, batch.weights[TERM])})


def _rows(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    length = max(len(example.arrays["tokens"]) for example in examples)
    tokens_BT = np.zeros((len(examples), length), dtype=np.int64)
    targets_BT = np.full((len(examples), length), IGNORE, dtype=np.int64)
    for row, example in enumerate(examples):
        tokens_BT[row, : len(example.arrays["tokens"])] = example.arrays["tokens"]
        targets_BT[row, : len(example.arrays["targets"])] = example.arrays["targets"]
    return {"tokens_BT": torch.from_numpy(tokens_BT), "targets_BT": torch.from_numpy(targets_BT)}
