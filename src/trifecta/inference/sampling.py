"""From logits to the next token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trifecta.errors import NumericsError, RecipeError


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn: repetition penalty, then temperature, then top-k, then top-p.

    temperature: logits are divided by it; 0 takes the likeliest token. top_k: only the k likeliest tokens (Fan et al.,
    2018). top_p: only the smallest set of likeliest tokens whose probability reaches p (Holtzman et al., 2019).
    repetition_penalty: positive logits of tokens already in the context are divided by it, negative ones multiplied
    (CTRL; Keskar et al., 2019); 1 for none.

    Raises:
        RecipeError: an argument out of its bounds.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        check(
            "temperature",
            self.temperature,
            0 <= self.temperature < math.inf,
            "a number from 0 up; 0 takes the likeliest token",
        )
        check(
            "top_k",
            self.top_k,
            self.top_k is None or (isinstance(self.top_k, int) and self.top_k >= 1),
            "a whole number from 1 up, or none",
        )
        check("top_p", self.top_p, self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1, or none")
        penalty = self.repetition_penalty
        check("repetition_penalty", penalty, 0 < penalty < math.inf, "a number above 0; 1 for no penalty")

    def choose(self, logits_V: Tensor, context: Sequence[int], generator: torch.Generator) -> int:
        """Draws one token; the draw is one uniform number of the generator, whatever the vocabulary or the device.

        Raises:
            NumericsError: a logit is NaN or infinitely large.
        """
        scores_V = self._penalised(logits_V.to("cpu", torch.float64), context)
        best = int(scores_V.argmax())
        if not math.isfinite(scores_V[best]):
            raise NumericsError(
                f"the model's score of token {best} is {float(scores_V[best])}",
                fix="the weights are damaged or training diverged; use an earlier checkpoint",
            )
        if self.temperature == 0:
            return best
        probabilities, ids = self._support((scores_V - scores_V[best]) / self.temperature)
        cumulative = probabilities.cumsum(0)
        point = torch.rand((), dtype=torch.float64, generator=generator) * cumulative[-1]
        drawn = int(torch.searchsorted(cumulative, point, right=True).clamp_(max=len(cumulative) - 1))
        return drawn if ids is None else int(ids[drawn])

    def _penalised(self, scores_V: Tensor, context: Sequence[int]) -> Tensor:
        if self.repetition_penalty == 1 or not context:
            return scores_V
        seen = torch.tensor(sorted(set(context)))
        own = scores_V[seen]
        return scores_V.index_put(
            (seen,), torch.where(own > 0, own / self.repetition_penalty, own * self.repetition_penalty)
        )

    def _support(self, scores_V: Tensor) -> tuple[Tensor, Tensor | None]:
        """Unnormalised probabilities of the tokens that may be drawn, and their ids (None: all tokens in order)."""
        ids: Tensor | None = None
        if self.top_k is not None and self.top_k < len(scores_V):
            scores_V, ids = scores_V.topk(self.top_k)  # sorted; exactly k even when scores are equal
        probabilities = scores_V.softmax(0)
        if self.top_p is not None and self.top_p < 1:
            if ids is None:
                probabilities, ids = probabilities.sort(descending=True, stable=True)
            before = probabilities.cumsum(0) - probabilities
            kept = max(1, int((before < self.top_p).sum()))
            probabilities, ids = probabilities[:kept], ids[:kept]
        return probabilities, ids


def check(name: str, value: object, good: bool, bounds: str) -> None:
    """Raises RecipeError, naming the argument and its bounds, unless good. (A NaN fails every comparison.)"""
    if not good:
        raise RecipeError(f"{name} is {value}, but must be {bounds}", where=f"--{name.replace('_', '-')}")
