"""Next-token prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trifecta.objectives.loss import cross_entropy_sum
from trifecta.types import IGNORE, Batch, Example, LossSum

TERM = "next_token"


class Causal:
    """Predict each next token (Radford et al., 2018)."""

    needs = "decoder"

    def prepare(self, window: npt.NDArray[np.int64]) -> Example:
        """Tokens 0..T-1 of a window of T + 1 and, as targets, tokens 1..T: the target at t is token t + 1."""
        return Example({"tokens": window[:-1], "targets": window[1:]})

    def corrupt(self, example: Example, generator: np.random.Generator) -> Example:
        """Changes nothing."""
        del generator
        return example

    def collate(self, examples: Sequence[Example]) -> Batch:
        """tokens_BT and targets_BT (int64), short examples filled up at the right with token 0 and IGNORE."""
        length = max(len(example.arrays["tokens"]) for example in examples)
        tokens_BT = np.zeros((len(examples), length), dtype=np.int64)
        targets_BT = np.full((len(examples), length), IGNORE, dtype=np.int64)
        for row, example in enumerate(examples):
            tokens_BT[row, : len(example.arrays["tokens"])] = example.arrays["tokens"]
            targets_BT[row, : len(example.arrays["targets"])] = example.arrays["targets"]
        return Batch(
            inputs={"tokens_BT": torch.from_numpy(tokens_BT)},
            targets={"targets_BT": torch.from_numpy(targets_BT)},
            weights={TERM: float((targets_BT != IGNORE).sum())},
        )

    def loss(self, model: Any, batch: Batch) -> LossSum:
        """Sum of next-token cross-entropies in nats, and their count."""
        output = model.hidden(batch.inputs["tokens_BT"])
        total = cross_entropy_sum(
            output.hidden_BTD, batch.targets["targets_BT"], model.logits, model.head_parameters(),
            vocab_size=model.vocab_size, supervised=int(batch.weights[TERM]),
        )  # fmt: skip
        return LossSum({TERM: (total, batch.weights[TERM])})
