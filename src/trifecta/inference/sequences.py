"""Writing with a model that has an encoder and a decoder: greedy, sampled, or by beam search."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from trifecta.errors import NumericsError
from trifecta.inference.beam import beam_search, check_beams, forbid, no_token_left
from trifecta.inference.decoder import FEW, SequenceDecoder
from trifecta.inference.generate import eval_mode
from trifecta.inference.sampling import Sampling, check
from trifecta.randomness import torch_generator

_LIVE_SHARE = 0.5
"""Rows that are done leave the batch when less than this share of it is still being written."""


class DecoderState(Protocol):
    """What a decoder remembers of the beams of each input: R rows, an input's beams are neighbours."""

    def follow(self, parents_R: Tensor) -> None:
        """Each row continues what that row, a beam of the same input, has read."""

    def keep(self, inputs: Tensor) -> None:
        """Keeps these inputs with their beams, in this order."""


S = TypeVar("S", bound=DecoderState)


class EncoderDecoder(Protocol[S]):
    """What writing asks of a model, which is an nn.Module too."""

    def encode(self, tokens_BT: Tensor, segments_BT: Tensor | None = None, /) -> Tensor:
        """The memory, (B, T, D)."""

    def start(self, memory_BTD: Tensor, memory_segments_BT: Tensor | None = None, /, *, num_beams: int = 1) -> S:
        """The state of a decoder that has read nothing yet, num_beams rows for each of the memory's."""

    def next_logits(self, state: S, ids_R: Tensor, /) -> Tensor:
        """Reads the newest id of each row into the state, and scores the next one: (R, V)."""


NextLogits = Callable[[S, Tensor], Tensor]
"""`EncoderDecoder.next_logits`."""


@dataclass(frozen=True)
class _Rules:
    max_tokens: int
    start_id: int
    eos_id: int
    pad_id: int
    no_repeat_ngram: int
    banned_ids: Sequence[int]


def write_sequences(
    model: EncoderDecoder[S],
    batch_inputs: Mapping[str, Tensor],
    *,
    max_tokens: int,
    start_id: int,
    eos_id: int,
    pad_id: int,
    num_beams: int = 1,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    length_penalty: float = 1.0,
    no_repeat_ngram: int = 0,
    seed: int = 0,
    banned_ids: Sequence[int] = (),
) -> list[list[int]]:
    """One text for each input, as ids without start and end: the likeliest token each time (temperature 0), drawn
    tokens (temperature above 0), or the best of a beam search (num_beams above 1).

    Dropout is off meanwhile. Draws depend on the seed and the input's place in the batch, not on the other inputs.

    Args:
        batch_inputs: `tokens_BT`, and `segments_BT` where the encoder wants it; anything else is left alone.
        max_tokens: most tokens written, the end included.
        top_k, top_p: as in `Sampling`; only with a temperature above 0.
        length_penalty: as in `beam_search`; only with beams.
        no_repeat_ngram, banned_ids: as in `beam_search`, for all three.

    Raises:
        RecipeError: an argument out of bounds, beams and a temperature together, or no token is allowed.
        NumericsError: the model's scores aren't numbers.
    """
    sampling = Sampling(temperature, top_k, top_p)
    check_beams(num_beams, max_tokens, length_penalty, no_repeat_ngram)
    check("temperature", temperature, num_beams == 1 or temperature == 0, "0 with several beams: they draw nothing")
    rules = _Rules(max_tokens, start_id, eos_id, pad_id, no_repeat_ngram, tuple(banned_ids))
    segments_BT = batch_inputs.get("segments_BT")
    # Not inference_mode: a table that a model keeps for later must be fit for training.
    with torch.no_grad(), eval_mode(cast(nn.Module, model)):
        memory_BTD = model.encode(batch_inputs["tokens_BT"], segments_BT)
        state, B = model.start(memory_BTD, segments_BT, num_beams=num_beams), len(memory_BTD)
        packed = SequenceDecoder.of(cast(nn.Module, model)) if max_tokens > FEW else None
        next_logits = cast("NextLogits[S]", (packed or model).next_logits)
        if num_beams == 1:
            return _write(next_logits, state, B, memory_BTD.device, rules, sampling, seed)
        return _write_beams(next_logits, state, B, memory_BTD.device, rules, num_beams, length_penalty)


def _write(
    next_logits: NextLogits[S],
    state: S,
    B: int,
    device: torch.device,
    rules: _Rules,
    sampling: Sampling,
    seed: int,
) -> list[list[int]]:
    """Token after token. places: the input that each row of the state belongs to."""
    texts: list[list[int]] = [[] for _ in range(B)]
    generators = [torch_generator(seed, "sampling", place) for place in range(B)]
    places, done = list(range(B)), set[int]()
    banned = torch.tensor(rules.banned_ids, dtype=torch.int64, device=device)
    ids_RU = torch.full((B, rules.max_tokens), rules.pad_id, device=device)
    ids_RU[:, 0] = rules.start_id
    for length in range(1, rules.max_tokens + 1):
        scores_RV = next_logits(state, ids_RU[:, length - 1]).to(torch.float32, copy=True)
        forbid(scores_RV, ids_RU[:, :length], rules.no_repeat_ngram, banned)
        tokens = _choose(scores_RV, places, done, sampling, generators)
        for place, token in tokens.items():
            if token == rules.eos_id:
                done.add(place)
            else:
                texts[place].append(token)
        if len(done) == B or length == rules.max_tokens:
            break
        written = [rules.pad_id if place in done else tokens[place] for place in places]
        ids_RU[:, length] = torch.tensor(written, device=device)
        live = [row for row, place in enumerate(places) if place not in done]
        if len(live) < _LIVE_SHARE * len(places):
            rows = torch.tensor(live, device=device)
            state.keep(rows)
            ids_RU, places = ids_RU[rows], [places[row] for row in live]
    return texts


def _choose(
    scores_RV: Tensor, places: list[int], done: set[int], sampling: Sampling, generators: list[torch.Generator]
) -> dict[int, int]:
    """The next token of each input that isn't done, by its place in the batch."""
    best = scores_RV.max(-1)
    likeliest = zip(places, best.values.tolist(), best.indices.tolist(), strict=True)
    tokens = {place: (score, token) for place, score, token in likeliest if place not in done}
    for place, (score, token) in tokens.items():
        if score == -math.inf:
            raise no_token_left(place)
        if not math.isfinite(score):
            raise NumericsError(
                f"the model's score of token {token} is {score}",
                fix="the weights are damaged or training diverged; use an earlier checkpoint",
            )
    if sampling.temperature == 0:
        return {place: token for place, (_, token) in tokens.items()}
    scores_RV = scores_RV.cpu()
    rows = [(row, place) for row, place in enumerate(places) if place in tokens]
    return {place: sampling.choose(scores_RV[row], (), generators[place]) for row, place in rows}


def _write_beams(
    next_logits: NextLogits[S],
    state: S,
    B: int,
    device: torch.device,
    rules: _Rules,
    num_beams: int,
    length_penalty: float,
) -> list[list[int]]:
    def step(ids_RU: Tensor, parents_R: Tensor | None) -> Tensor:
        if parents_R is not None:
            state.follow(parents_R)
        return next_logits(state, ids_RU[:, -1]).float()

    found = beam_search(
        step, batch_size=B, num_beams=num_beams, length_penalty=length_penalty, device=device, **asdict(rules)
    )
    return [list(hypotheses[0].ids) for hypotheses in found]
