"""Beam search: the likeliest texts among several that are written side by side.

Shapes beside the usual ones: G beams of an input, R = B * G rows (an input's beams are neighbours), Q candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trifecta.errors import NumericsError, RecipeError
from trifecta.inference.sampling import check

Step = Callable[[Tensor, "Tensor | None"], Tensor]
"""(ids_RU, parents_R) to logits_RV: what `beam_search` asks of a model."""

_MOST_PENALTY = 10
"""With 4,096 tokens, 4096 ** 10 still fits in fp32."""


_PIECE = 64
"""Tokens whose maximum is found first."""


@dataclass(frozen=True)
class Hypothesis:
    """A finished text: ids without start and end, and the sum of its log-probabilities (in nats, the end's with them)
    / length ** length_penalty, where the length counts the end but not the start."""

    ids: tuple[int, ...]
    score: float


@torch.no_grad()
def beam_search(
    step: Step,
    *,
    batch_size: int,
    start_id: int,
    eos_id: int,
    pad_id: int,
    num_beams: int,
    max_tokens: int,
    length_penalty: float = 1.0,
    no_repeat_ngram: int = 0,
    early_stopping: bool = False,
    banned_ids: Sequence[int] = (),
    device: torch.device | None = None,
) -> list[list[Hypothesis]]:
    """Up to num_beams hypotheses for each input, best first; the rules are those of transformers 5.

    At each step the 2G best continuations of an input's G beams are candidates. Those of the first G that end are
    finished texts, of which the G best are kept; the G best that don't end are the next beams. An input is done when
    its best beam, were it to end now, would not beat the worst of G finished texts, or with early_stopping as soon as
    there are G. After max_tokens every beam ends. Fewer than num_beams come back where there are no more texts.

    Args:
        step: gets the ids so far, (R, U) with the start, and the row of its last call from which each row continues
            (None at first); returns scores of the next token, (R, V) in fp32, whose softmax is its probability; they
            are changed in place. The rows of an input that is done go on with pad_id, and theirs are ignored.
        max_tokens: most tokens written, the end included.
        length_penalty: above 0 favours long texts, below 0 short ones; 0 compares sums.
        no_repeat_ngram: no sequence of so many tokens is written twice; 0 for no such rule.
        banned_ids: never written.
        device: where ids are kept; None for the CPU.

    Raises:
        RecipeError: an argument out of bounds, or no token is allowed.
        NumericsError: a log-probability is NaN or infinitely large.
    """
    check_beams(num_beams, max_tokens, length_penalty, no_repeat_ngram)
    B, G = batch_size, num_beams
    banned = torch.tensor(list(banned_ids), dtype=torch.int64, device=device)
    ids_RU = torch.full((B * G, 1), start_id, device=device)
    scores_BG = torch.full((B, G), -torch.inf, device=device)
    scores_BG[:, 0] = 0  # the beams are all the same at first: only one may continue
    finished = _Finished.none(B, G, device)
    done_B = torch.zeros(B, dtype=torch.bool, device=device)
    parents_R: Tensor | None = None
    for length in range(1, max_tokens + 1):
        logits_RV = step(ids_RU, parents_R).to(device)
        normaliser_R = logits_RV.logsumexp(-1)
        forbid(logits_RV, ids_RU, no_repeat_ngram, banned)
        candidates = _candidates(logits_RV, scores_BG - normaliser_R.view(B, G), ids_RU)
        ends_BQ = (candidates.tokens_BQ == eos_id) | (length == max_tokens)
        finished = finished.joined(candidates, ends_BQ & ~done_B[:, None], length**length_penalty, pad_id)
        bad = (~(candidates.scores_BQ[:, 0] < torch.inf) & ~done_B).any()

        scores_BG, kept_BG = candidates.scores_BQ.masked_fill(ends_BQ, -torch.inf).topk(G)
        done_B = done_B | ~(scores_BG[:, 0] / length**length_penalty > finished.worst)
        if early_stopping:
            done_B |= finished.worst > -torch.inf
        ids_RU, parents_R = candidates.continued(kept_BG, done_B, pad_id)
        broken, over = torch.stack((bad, done_B.all())).tolist()  # one wait for the device a step
        if broken:
            raise NumericsError(
                "the model's scores aren't numbers",
                fix="the weights are damaged or training diverged; use an earlier checkpoint",
            )
        if over:
            break
    return finished.hypotheses(eos_id)


def forbid(scores_RV: Tensor, ids_RU: Tensor, no_repeat_ngram: int, banned: Tensor) -> None:
    """Sets to -inf, in place, the scores of banned ids and of tokens that would repeat an n-gram of their row.

    A window of n ids whose first n - 1 are the row's last n - 1 forbids its own last id (Paulus et al., A Deep
    Reinforced Model for Abstractive Summarization, 2018). Nothing depends on the values, so no device waits.
    """
    if len(banned):
        scores_RV.index_fill_(-1, banned, -torch.inf)
    n, U = no_repeat_ngram, ids_RU.shape[1]
    if not 0 < n <= U:
        return
    windows = ids_RU.unfold(1, n, 1)
    repeats = (windows[..., :-1] == ids_RU[:, None, U + 1 - n :]).all(-1)
    ceilings = torch.where(repeats, -torch.inf, torch.inf).to(scores_RV.dtype)
    scores_RV.scatter_reduce_(1, windows[..., -1], ceilings, "amin")


def no_token_left(row: int) -> RecipeError:
    """The error for an input after which nothing may be written."""
    return RecipeError(
        f"no token is left to write for input {row} of the batch: each one is banned or would repeat an n-gram",
        where="--no-repeat-ngram",
        fix="raise no_repeat_ngram, or ban fewer ids",
    )


def check_beams(num_beams: int, max_tokens: int, length_penalty: float, no_repeat_ngram: int) -> None:
    """Raises RecipeError for an argument out of its bounds."""
    for name, value in (("num_beams", num_beams), ("max_tokens", max_tokens)):
        check(name, value, isinstance(value, int) and value >= 1, "a whole number from 1 up")
    check(
        "no_repeat_ngram",
        no_repeat_ngram,
        isinstance(no_repeat_ngram, int) and no_repeat_ngram >= 0,
        "a whole number from 0 up; 0 for no rule",
    )
    bounds = f"a number from -{_MOST_PENALTY} to {_MOST_PENALTY}"
    check("length_penalty", length_penalty, -_MOST_PENALTY <= length_penalty <= _MOST_PENALTY, bounds)


@dataclass(frozen=True)
class _Candidates:
    """The best continuations of each input's beams, best first: sums of log-probabilities, tokens, and the row of
    ids_RU that each one continues."""

    scores_BQ: Tensor
    tokens_BQ: Tensor
    parents_BQ: Tensor
    ids_RU: Tensor

    def ids(self, count: int) -> Tensor:
        """The first `count` candidates with their tokens, (B, count, U + 1)."""
        return torch.cat((self.ids_RU[self.parents_BQ[:, :count]], self.tokens_BQ[:, :count, None]), -1)

    def continued(self, kept_BG: Tensor, done_B: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
        """Ids, (R, U + 1), and parents, (R), of these candidates as the next beams."""
        parents_R = self.parents_BQ.gather(1, kept_BG).flatten()
        tokens_R = self.tokens_BQ.gather(1, kept_BG).masked_fill(done_B[:, None], pad_id).flatten()
        return torch.cat((self.ids_RU[parents_R], tokens_R[:, None]), 1), parents_R


def _candidates(logits_RV: Tensor, added_BG: Tensor, ids_RU: Tensor) -> _Candidates:
    """2G an input: at most G of them end, one a beam, so that at least G are left to go on with.

    added_BG: what makes logits of a row sums of log-probabilities.
    """
    (B, G), V = added_BG.shape, logits_RV.shape[1]
    best_RQ, tokens_RQ = best_of(logits_RV, min(2 * G, V))
    totals_BN = (best_RQ.view(B, G, -1) + added_BG[..., None]).flatten(1)
    scores_BQ, places_BQ = totals_BN.topk(min(2, V) * G)
    first_row_B = torch.arange(B, device=logits_RV.device)[:, None] * G
    parents_BQ = places_BQ // best_RQ.shape[1] + first_row_B
    return _Candidates(scores_BQ, tokens_RQ.view(B, -1).gather(1, places_BQ), parents_BQ, ids_RU)


def best_of(values_BN: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """What `topk` gives, (B, count) each, ten times as fast for a large vocabulary.

    The `count` largest lie in the `count` pieces with the largest maxima, or in the rest that fills no piece.
    """
    B, N = values_BN.shape
    pieces = N // _PIECE
    if pieces <= 2 * count:
        best = values_BN.topk(count)
        return best.values, best.indices
    maxima_BP = values_BN[:, : pieces * _PIECE].reshape(B, pieces, _PIECE).amax(-1)
    inside = torch.arange(_PIECE, device=values_BN.device)
    places_BM = (maxima_BP.topk(count).indices[..., None] * _PIECE + inside).flatten(1)
    rest_BM = torch.arange(pieces * _PIECE, N, device=values_BN.device).expand(B, -1)
    places_BM = torch.cat((places_BM, rest_BM), 1)
    best = values_BN.gather(1, places_BM).topk(count)
    return best.values, places_BM.gather(1, best.indices)


@dataclass(frozen=True)
class _Finished:
    """The best finished texts of each input, best first: ids without start, how many count, scores (-inf: none)."""

    ids_BGU: Tensor
    lengths_BG: Tensor
    scores_BG: Tensor

    @classmethod
    def none(cls, B: int, G: int, device: torch.device | None) -> _Finished:
        integers = torch.zeros((B, G, 0), dtype=torch.int64, device=device)
        return cls(integers, integers.sum(-1), torch.full((B, G), -torch.inf, device=device))

    @property
    def worst(self) -> Tensor:
        """Score of the last of the G, -inf when there are fewer."""
        return self.scores_BG[:, -1]

    def joined(self, candidates: _Candidates, ends_BQ: Tensor, divisor: float, pad_id: int) -> _Finished:
        """The G best of these and of those among the first G candidates that end."""
        G = self.scores_BG.shape[1]
        ids_BGU = candidates.ids(G)[..., 1:]
        scores_BG = (candidates.scores_BQ[:, :G] / divisor).masked_fill(~ends_BQ[:, :G], -torch.inf)
        best = torch.cat((self.scores_BG, scores_BG), 1).topk(G)
        all_lengths = torch.cat((self.lengths_BG, torch.full_like(self.lengths_BG, ids_BGU.shape[-1])), 1)
        all_ids = torch.cat((F.pad(self.ids_BGU, (0, 1), value=pad_id), ids_BGU), 1)
        places = best.indices[..., None].expand(-1, -1, all_ids.shape[-1])
        return _Finished(all_ids.gather(1, places), all_lengths.gather(1, best.indices), best.values)

    def hypotheses(self, eos_id: int) -> list[list[Hypothesis]]:
        found: list[list[Hypothesis]] = []
        rows = zip(self.ids_BGU.tolist(), self.lengths_BG.tolist(), self.scores_BG.tolist(), strict=True)
        for row, (all_ids, lengths, scores) in enumerate(rows):
            texts = []
            for ids, length, score in zip(all_ids, lengths, scores, strict=True):
                if score > -torch.inf:
                    ended = ids[length - 1] == eos_id
                    texts.append(Hypothesis(tuple(ids[: length - ended]), score))
            if not texts:
                raise no_token_left(row)
            found.append(texts)
        return found
