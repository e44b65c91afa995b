"""The best answer to each question, over all windows of its context."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trifecta.data.tasks import Question
from trifecta.data.tasks.unlabelled import Unlabelled
from trifecta.errors import DataError
from trifecta.inference.judged import Options, Prediction, batches, device_of


@dataclass(frozen=True)
class _Best:
    """Of one question: the lowest score for no answer, the highest of a span, their probabilities, and its place."""

    null: float = math.inf
    null_share: float = 0.0
    span: float = -math.inf
    span_share: float = 0.0
    start: int = 0
    end: int = 0


def find_answers(model: Any, objective: Any, texts: Sequence[Unlabelled], options: Options) -> list[Prediction]:
    """answer, start and end in characters of the context, and score, its probability; "" and None for no answer.

    A span scores start + end. No answer scores the lowest that any window gives its `[CLS]`, and is given where it is
    higher than the best span by more than the threshold (Devlin et al., 2018, section 4.3). A question of which
    tokens were left out has also `cut`.

    Raises:
        DataError: a question without a context.
    """
    questions = [_question(text) for text in texts]
    expanded = [(number, window) for number, question in enumerate(questions) for window in objective.windows(question)]
    examples = [objective.prepare(window) for _, window in expanded]
    best, cut = [_Best()] * len(questions), [0] * len(questions)
    for places, batch in batches(objective, examples, options, device_of(model)):
        for place, scores_L2 in zip(places, objective.scores(model, batch).float().cpu(), strict=True):
            number, window = expanded[place]
            cut[number] += window.cut
            best[number] = _better(best[number], window, scores_L2, objective.max_answer_tokens)
    return [
        _prediction(found, question, objective) | ({"cut": tokens} if tokens else {})
        for found, question, tokens in zip(best, questions, cut, strict=True)
    ]


def _question(text: Unlabelled) -> Question:
    if not text.pair:
        raise DataError(
            "a question without a context", where=text.place or None, fix='give --context "...", or a SQuAD file'
        )
    return Question(text.id or text.place, text.text, text.pair, (), text.place)


def _better(best: _Best, window: Any, scores_L2: Tensor, longest: int) -> _Best:
    """What is known after one more window."""
    count = len(window.tokens)
    scores_L2 = scores_L2[: count + 1]
    shares_L2 = scores_L2.log_softmax(0)
    if (null := float(scores_L2[0].sum())) < best.null:
        best = replace(best, null=null, null_share=float(shares_L2[0].sum().exp()))
    if not count:
        return best
    start, end = best_span(scores_L2[1:], longest)
    span = float(scores_L2[1 + start, 0] + scores_L2[1 + end, 1])
    if span <= best.span:
        return best
    share = float((shares_L2[1 + start, 0] + shares_L2[1 + end, 1]).exp())
    first, last = window.ranges[start], window.ranges[end]
    return replace(best, span=span, span_share=share, start=int(first[0]), end=int(last[1]))


def best_span(scores_L2: Tensor, longest: int) -> tuple[int, int]:
    """First and last token of the span with the highest start + end, of at most `longest` tokens."""
    length = len(scores_L2)
    sums_LL = scores_L2[:, :1] + scores_L2[:, 1]
    allowed_LL = torch.ones(length, length, dtype=torch.bool).triu().tril(longest - 1)
    return divmod(int(sums_LL.masked_fill(~allowed_LL, -torch.inf).argmax()), length)


def _prediction(best: _Best, question: Question, objective: Any) -> Prediction:
    nothing = best.null - best.span > objective.no_answer_threshold
    # A token's characters include the space before it.
    whole = question.context[best.start : best.end]
    text = whole.strip()
    if not text or (objective.no_answer and nothing):
        return {"answer": "", "start": None, "end": None, "score": best.null_share}
    start = best.start + len(whole) - len(whole.lstrip())
    return {"answer": text, "start": start, "end": start + len(text), "score": best.span_share}
