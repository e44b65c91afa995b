"""Questions that are answered by a part of a context, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from trifecta.data.tasks import Question
from trifecta.models.heads import Headed
from trifecta.objectives.base import Needs, Text
from trifecta.objectives.collate import arrays_of, packed
from trifecta.objectives.masked import SPECIAL
from trifecta.objectives.texts import framed
from trifecta.objectives.windows import hidden_of, window_starts
from trifecta.tokenizers.vocabulary import Vocabulary
from trifecta.types import IGNORE, Batch, Example, LossSum

START, END = "start", "end"
_QUESTION_SHARE = 4
"""A question fills at most one fourth of a row."""

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AnswerWindow:
    """Part of a question's context.

    place: of the question. asked: the question's tokens. tokens: of the context, (n,). ranges: each one's characters
    in the whole context, (n, 2). answer: first and last token of the answer here; None where it isn't whole.
    cut: tokens of the question that found no room, counted in its first window.
    """

    question: Question
    place: str
    asked: Int64
    tokens: Int64
    ranges: Int64
    answer: tuple[int, int] | None
    cut: int = 0


class Answer:
    """Where the answer begins and ends: two scores for each token of the context (Devlin et al., 2018).

    `[CLS] question [SEP] window of the context [SEP]`. Start and end are cross-entropies over the window's tokens and
    `[CLS]`, which stands for no answer here; a window that lacks the answer has none (as for SQuAD 2.0). Of several
    accepted answers the first is learned. Arguments: `recipe.components.Answer`.
    """

    needs: Needs = "encoder"
    covers_text = corrupts = False
    window, overlap = 0, 0

    def __init__(
        self,
        text: Text,
        *,
        stride: int = 64,
        max_answer_tokens: int = 30,
        no_answer: bool = True,
        no_answer_threshold: float = 0.0,
        head_dropout: float = 0.1,
    ):
        self.vocabulary = Vocabulary(text.tokenizer, SPECIAL)
        self.max_answer_tokens = max_answer_tokens
        self.no_answer, self.no_answer_threshold = no_answer, no_answer_threshold
        self._limit, self._stride, self._head_dropout = text.sequence_length, stride, head_dropout

    def headed(self, body: Any) -> Headed:
        """The body with a score for a start and one for an end."""
        return Headed(body, 2, dropout=self._head_dropout)

    def expand(self, records: Iterable[Question]) -> list[AnswerWindow]:
        """The windows of each question's context, in order."""
        return [window for record in records for window in self.windows(record)]

    def windows(self, question: Question) -> list[AnswerWindow]:
        """Windows of the context, `stride` apart, at most half a window."""
        encode = self.vocabulary.tokenizer
        asked = encode.encode(question.question)
        kept = asked[: self._limit // _QUESTION_SHARE]
        tokens, ranges = encode.encode_with_offsets(question.context)
        answer = _tokens_of(ranges, *_first_answer(question))
        room = self._limit - 3 - len(kept)
        found: list[AnswerWindow] = []
        for start in window_starts(len(tokens), room, min(self._stride, max(1, room // 2))):
            stop = min(start + room, len(tokens))
            inside = answer is not None and start <= answer[0] and answer[1] < stop
            here = (answer[0] - start, answer[1] - start) if answer is not None and inside else None
            found.append(AnswerWindow(
                question, question.place, kept, tokens[start:stop], ranges[start:stop], here,
                0 if found else len(asked) - len(kept),
            ))  # fmt: skip
        return found

    def prepare(self, sample: AnswerWindow) -> Example:
        """The row; choice (n,): whether an answer can begin or end at a token; answer (2,): which of those it does."""
        tokens, types = framed(self.vocabulary, [sample.asked, sample.tokens])
        choice = types.copy()
        choice[0], choice[-1] = 1, 0
        answer = (0, 0) if sample.answer is None else (1 + sample.answer[0], 1 + sample.answer[1])
        made = arrays_of(tokens=tokens, types=types, choice=choice, answer=answer)
        return Example(made.arrays, sample.cut)

    def corrupt(self, example: Example, generator: np.random.Generator) -> Example:
        """Changes nothing."""
        del generator
        return example

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Windows packed into rows; members_BT says for which window a token is a choice."""
        numbered = [
            arrays_of(tokens=e.arrays["tokens"], types=e.arrays["types"],
                      members=np.where(e.arrays["choice"] == 1, number, IGNORE))
            for number, e in enumerate(examples)
        ]  # fmt: skip
        sides = {"BT": {"tokens": self.vocabulary["[PAD]"], "types": 0, "members": IGNORE}}
        inputs = packed(numbered, sides, {"BT": self._limit})
        members_BT = inputs.pop("members_BT")
        answers_N2 = torch.from_numpy(np.stack([example.arrays["answer"] for example in examples]))
        count = float(len(examples))
        return Batch(
            inputs=inputs, targets={"members_BT": members_BT, "answers_N2": answers_N2},
            weights={START: count, END: count}, samples=len(examples),
            tokens=sum(len(example.arrays["tokens"]) for example in examples),
        )  # fmt: skip

    def loss(self, model: Headed, batch: Batch) -> LossSum:
        """Sums over windows in nats of starts and of ends, and how many windows had both right."""
        scores_NL2, answers_N2 = self.scores(model, batch), batch.targets["answers_N2"]
        terms = {
            name: (F.cross_entropy(scores_NL2[..., side], answers_N2[:, side], reduction="sum"), batch.weights[name])
            for side, name in enumerate((START, END))
        }
        right = (scores_NL2.detach().argmax(1) == answers_N2).all(1).sum()
        return LossSum(terms, {"accuracy": (right, float(batch.samples))})

    def scores(self, model: Headed, batch: Batch) -> Tensor:
        """Start and end score of each choice of each window, (N, L, 2): `[CLS]`, its tokens, then -inf."""
        members = batch.targets["members_BT"].flatten()
        there = (members != IGNORE).nonzero().squeeze(1)
        there = there[members[there].argsort(stable=True)]
        scores = model.scores(hidden_of(model, batch)[there])
        window = members[there]
        counts = torch.bincount(window, minlength=batch.samples)
        column = torch.arange(len(window), device=window.device) - (counts.cumsum(0) - counts)[window]
        empty = scores.new_full((batch.samples, int(counts.max()), 2), -torch.inf)
        return empty.index_put((window, column), scores)


def _first_answer(question: Question) -> tuple[int, int]:
    """Characters of the first accepted answer; an empty range where there is none."""
    if not question.answers:
        return 0, 0
    text, start = question.answers[0]
    return start, start + len(text)


def _tokens_of(ranges: Int64, start: int, stop: int) -> tuple[int, int] | None:
    """First and last token that touch the characters; None for no characters, or where no token does."""
    if start >= stop:
        return None
    first = int(np.searchsorted(ranges[:, 1], start, side="right"))
    last = int(np.searchsorted(ranges[:, 0], stop, side="left")) - 1
    return (first, last) if first <= last else None
