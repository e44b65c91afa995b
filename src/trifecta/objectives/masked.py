"""Masked tokens (Devlin et al., 2018): what stood where a text has gaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from trifecta.models.heads import Paired
from trifecta.objectives.base import Needs, Text
from trifecta.objectives.collate import arrays_of, packed
from trifecta.objectives.loss import NO_PENALTIES, Penalties, Right, cross_entropy_sum
from trifecta.objectives.texts import framed
from trifecta.tokenizers.vocabulary import Vocabulary
from trifecta.types import IGNORE, Batch, Example, LossSum

TERM, PAIR_TERM = "masked", "pair"
SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
_LONGEST_SPAN = 10

Int64 = npt.NDArray[np.int64]


class Masked:
    """Predict masked tokens from both sides; the loss is of those alone. Arguments: `recipe.components.Masked`.

    A sample is `[CLS] tokens [SEP]`. A share `rate` of its ordinary tokens is chosen, anew in each epoch: on average
    exactly that share, in a sample one of the two nearest whole numbers. Of those chosen, a share `masked_ratio`
    becomes `[MASK]`, a share `random_ratio` another token, and the rest stays.

    With pairs a sample is `[CLS] first [SEP] second [SEP]`, and a second term of the loss tells whether the second text
    follows the first: half of them are the beginning of another sample (next), or the two are exchanged (order).
    """

    needs: Needs = "encoder"
    covers_text = False
    corrupts = True

    def __init__(
        self,
        text: Text,
        *,
        rate: float = 0.15,
        masked_ratio: float = 0.8,
        random_ratio: float = 0.1,
        choose: str = "token",
        mean_span_length: float = 3.8,
        pairs: str = "none",
    ):
        self._text, self.vocabulary = text, Vocabulary(text.tokenizer, SPECIAL)
        self.rate, self.masked_ratio, self.random_ratio = rate, masked_ratio, random_ratio
        self._choose = {"token": _tokens, "word": self._words, "span": self._spans}[choose]
        self._mean_span_length, self._limit = mean_span_length, text.sequence_length
        self.pairs, self.partners, self.uses_pooler = pairs, pairs == "next", pairs != "none"
        self.window, self.overlap = text.sequence_length - (2 if pairs == "none" else 3), 0

    def headed(self, body: Any) -> Any:
        """The body itself, or with a head that tells whether two texts belong together."""
        return body if self.pairs == "none" else Paired(body)

    def prepare(self, window: Int64) -> Example:
        """`[CLS] tokens [SEP]`; for pairs the bare tokens, which are divided anew in each epoch."""
        inner = self._text.without_end(window)
        if self.pairs != "none":
            return Example({"tokens": inner})
        tokens, types = framed(self.vocabulary, [inner])
        return Example({"tokens": tokens, "types": types})

    def _pair(self, example: Example, generator: np.random.Generator) -> Example:
        """Both texts of a pair, framed; `pair` is 1 at the first position where they belong together, 0 where not."""
        tokens = example.arrays["tokens"]
        middle = int(generator.integers(max(1, len(tokens) // 3), max(2, 2 * len(tokens) // 3 + 1)))
        first, second = tokens[:middle], tokens[middle:]
        together = bool(generator.random() < 0.5)
        if not together and self.pairs == "order":
            first, second = second, first
        elif not together:
            second = example.arrays["other"][: len(second)]
        framed_tokens, types = framed(self.vocabulary, [first, second])
        pair = np.full(len(framed_tokens), IGNORE, dtype=np.int64)
        pair[0] = together
        return arrays_of(tokens=framed_tokens, types=types, pair=pair)

    def corrupt(self, example: Example, generator: np.random.Generator) -> Example:
        """The tokens with gaps, and the tokens that stood there as targets; everything else is IGNORE."""
        if self.pairs != "none":
            example = self._pair(example, generator)
        tokens = example.arrays["tokens"]
        open_ = np.flatnonzero(~self.vocabulary.is_special[tokens])
        chosen = self._choose(tokens, open_, _rounded(self.rate * len(open_), generator), generator)
        targets = np.full(len(tokens), IGNORE, dtype=np.int64)
        targets[chosen] = tokens[chosen]
        corrupted = tokens.copy()
        fate = generator.random(len(chosen))
        corrupted[chosen[fate < self.masked_ratio]] = self.vocabulary["[MASK]"]
        replaced = chosen[(fate >= self.masked_ratio) & (fate < self.masked_ratio + self.random_ratio)]
        corrupted[replaced] = generator.choice(self.vocabulary.ordinary, len(replaced))
        return arrays_of(**{**example.arrays, "tokens": corrupted, "targets": targets})

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Examples packed into rows of at most sequence_length tokens."""
        fillers = {"tokens": self.vocabulary["[PAD]"], "types": 0, "targets": IGNORE, "pair": IGNORE}
        arrays = {name: filler for name, filler in fillers.items() if name in examples[0].arrays}
        inputs = packed(examples, {"BT": arrays}, {"BT": self._limit})
        if self.pairs == "none":
            del inputs["types_BT"]
        targets: dict[str, torch.Tensor] = {
            name: inputs.pop(name) for name in ("targets_BT", "pair_BT") if name in inputs
        }
        weights = {TERM: float((targets["targets_BT"] != IGNORE).sum())}
        return Batch(
            inputs=inputs,
            targets=targets,
            weights=weights | ({PAIR_TERM: float(len(examples))} if self.pairs != "none" else {}),
            samples=len(examples),
            tokens=sum(len(example.arrays["tokens"]) for example in examples),
        )

    def loss(self, model: Any, batch: Batch, penalties: Penalties = NO_PENALTIES) -> LossSum:
        """Sum of the cross-entropies of masked tokens in nats, their count, and how many were guessed."""
        kept = self.pairs != "none" and not model.segment_types
        inputs = {name: tensor for name, tensor in batch.inputs.items() if not (kept and name == "types_BT")}
        output, count = model.hidden(**inputs), batch.weights[TERM]
        right = Right(output.hidden_BTD.device)
        total = cross_entropy_sum(
            output.hidden_BTD, batch.targets["targets_BT"], model.logits, model.head_parameters(),
            vocab_size=model.vocab_size, supervised=int(count), right=right, penalties=penalties,
        )  # fmt: skip
        result = LossSum({TERM: (total, count)}, {"accuracy": (right.number, right.total)})
        return result if self.pairs == "none" else self._with_pairs(result, model, output.hidden_BTD, batch)

    def _with_pairs(self, masked: LossSum, model: Paired, hidden_BTD: torch.Tensor, batch: Batch) -> LossSum:
        pair_BT, count = batch.targets["pair_BT"], batch.weights[PAIR_TERM]
        there = pair_BT != IGNORE
        scores_NC, truth_N = model.pair_scores(hidden_BTD[there]), pair_BT[there]
        total = F.cross_entropy(scores_NC, truth_N, reduction="sum")
        right = (scores_NC.detach().argmax(1) == truth_N).sum()
        return LossSum({**masked.terms, PAIR_TERM: (total, count)}, {**masked.metrics, "pair_accuracy": (right, count)})

    def _words(self, tokens: Int64, open_: Int64, count: int, generator: np.random.Generator) -> Int64:
        """Whole words, until there are enough tokens: every piece of a chosen word is masked."""
        word_of = np.cumsum(self.vocabulary.begins_word[tokens])[open_]
        numbers, sizes = np.unique(word_of, return_counts=True)
        order = generator.permutation(len(numbers))
        words = int(np.searchsorted(np.cumsum(sizes[order]), count)) + 1 if count else 0
        return open_[np.isin(word_of, numbers[order[:words]])]

    def _spans(self, tokens: Int64, open_: Int64, count: int, generator: np.random.Generator) -> Int64:
        """Runs of geometric length, at most 10 (Joshi et al., SpanBERT, 2020), until there are enough tokens."""
        del tokens
        chosen = np.zeros(len(open_), np.bool_)
        while (missing := count - int(chosen.sum())) > 0:
            length = min(int(generator.geometric(1 / self._mean_span_length)), _LONGEST_SPAN, missing)
            start = int(generator.integers(len(open_)))
            chosen[start : start + length] = True
        return open_[chosen]


def _tokens(tokens: Int64, open_: Int64, count: int, generator: np.random.Generator) -> Int64:
    """Any tokens."""
    del tokens
    return np.sort(generator.choice(open_, count, replace=False))


def _rounded(number: float, generator: np.random.Generator) -> int:
    """One of the two nearest whole numbers, so that the mean is the number itself."""
    return int(number + generator.random())
