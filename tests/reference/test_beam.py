"""Beam search and writing against Hugging Face's `generate`, with its own tiny random T5 and BART as the model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import tiny_hf
import torch
from torch import Tensor, nn

from trifecta.inference import beam as module
from trifecta.inference.beam import Hypothesis, Step, beam_search
from trifecta.inference.sequences import write_sequences
from trifecta.interop import hf
from trifecta.models import T5
from trifecta.models.t5 import T5State

V, MAX_TOKENS, EOS = 64, 14, 1
TOLERANCE = 1e-4
SEEDS = (0, 1, 2)
Found = list[list[Hypothesis]]


def t5(seed: int) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    sizes = {"d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 64, "num_layers": 2}
    config = T5Config(vocab_size=V, decoder_start_token_id=0, initializer_factor=1.5, **sizes)
    return _open_minded(T5ForConditionalGeneration(config), 0.35, 1.0)


def bart(seed: int) -> Any:
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(seed)
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": EOS, "decoder_start_token_id": EOS}
    sizes = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 32}
    model = BartForConditionalGeneration(
        BartConfig(vocab_size=V, init_std=0.3, forced_eos_token_id=None, **ids, **sizes, **heads)
    )
    return _open_minded(model, 0.25, 2.5)


def _open_minded(model: Any, std: float, end_bias: float) -> Any:
    """With a head whose scores are neither flat nor peaked, and in which the end comes up now and then."""
    head = nn.Linear(model.config.d_model, V)
    with torch.no_grad():
        head.weight.normal_(std=std)
        head.bias.zero_()
        head.bias[EOS] = end_bias
    model.lm_head = head
    return model.eval()


MODELS: dict[str, Callable[[int], Any]] = {"t5": t5, "bart": bart}
START = {"t5": 0, "bart": EOS}


def inputs() -> dict[str, Tensor]:
    """Four inputs of four lengths."""
    ids = torch.randint(3, V, (4, 9), generator=torch.Generator().manual_seed(7))
    mask = torch.arange(9) < torch.tensor([9, 4, 7, 2])[:, None]
    return {"input_ids": ids * mask, "attention_mask": mask.long()}


def stepping(model: Any, num_beams: int) -> Step:
    """The whole decoder again at each step, so that nothing depends on a cache."""
    given = inputs()
    mask = given["attention_mask"].repeat_interleave(num_beams, 0)
    encoder = model.get_encoder()(**given)
    encoder.last_hidden_state = encoder.last_hidden_state.repeat_interleave(num_beams, 0)

    def step(ids_RU: Tensor, parents_R: Tensor | None) -> Tensor:
        assert (parents_R is None) == (ids_RU.shape[1] == 1)
        logits = model(encoder_outputs=encoder, attention_mask=mask, decoder_input_ids=ids_RU, use_cache=False).logits
        return logits[:, -1].float().log_softmax(-1)

    return step


def ours(model: Any, num_beams: int, **options: Any) -> Found:
    with torch.no_grad():
        return beam_search(
            stepping(model, num_beams), batch_size=4, start_id=START[model.config.model_type], eos_id=EOS, pad_id=0,
            num_beams=num_beams, max_tokens=MAX_TOKENS, **options,
        )  # fmt: skip


def theirs(model: Any, num_beams: int, no_repeat_ngram: int = 0, **options: Any) -> Found:
    """What `generate` returns, cut at the end; with one beam it is greedy and gives no scores."""
    found = model.generate(
        **inputs(), num_beams=num_beams, do_sample=False, max_new_tokens=MAX_TOKENS, num_return_sequences=num_beams,
        no_repeat_ngram_size=no_repeat_ngram, return_dict_in_generate=True, output_scores=True,
        **(options if num_beams > 1 else {}),
    )  # fmt: skip
    scores = found.sequences_scores.tolist() if num_beams > 1 else [0.0] * 4
    ids = [row[: row.index(EOS)] if EOS in row else row for row in found.sequences[:, 1:].tolist()]
    texts = [Hypothesis(tuple(row), score) for row, score in zip(ids, scores, strict=True)]
    return [texts[row : row + num_beams] for row in range(0, len(texts), num_beams)]


def every_option(num_beams: int) -> list[dict[str, Any]]:
    names = ("length_penalty", "early_stopping", "no_repeat_ngram")
    values = ((0.5, 1.0, 2.0), (False, True), (0, 2, 3)) if num_beams > 1 else ((1.0,), (False,), (0, 1, 2, 3))
    return [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*values)]


def require_equal(model: Any, num_beams: int, **options: Any) -> Found:
    """The same texts in the same order, and scores to 1e-4; returns ours."""
    found, wanted = ours(model, num_beams, **options), theirs(model, num_beams, **options)
    assert [[text.ids for text in row] for row in found] == [[text.ids for text in row] for row in wanted]
    if num_beams > 1:
        pairs = zip(itertools.chain(*found), itertools.chain(*wanted), strict=True)
        assert max(abs(one.score - other.score) for one, other in pairs) < TOLERANCE
    return found


@pytest.mark.parametrize("num_beams", [1, 2, 4])
@pytest.mark.parametrize(("kind", "seed"), [("t5", 0), ("t5", 1), ("t5", 2), ("bart", 0)])
def test_texts_and_scores_are_those_of_generate(kind: str, seed: int, num_beams: int) -> None:
    model = MODELS[kind](seed)
    for options in every_option(num_beams):
        require_equal(model, num_beams, **options)


def test_the_models_tell_the_options_apart() -> None:
    """Some texts end early and some don't, and each option changes some text: none of them is compared in vain."""
    default = {"length_penalty": 1.0, "early_stopping": False, "no_repeat_ngram": 0}
    found = [[ours(model, 4, **(default | change)) for model in map(t5, SEEDS)] for change in CHANGES]
    lengths = {len(text.ids) for per_model in found for rows in per_model for row in rows for text in row}
    assert {0, 1, 2, 5, MAX_TOKENS} <= lengths
    texts = [[[text.ids for row in rows for text in row] for rows in per_model] for per_model in found]
    assert all(texts[0] != changed for changed in texts[1:])


CHANGES: list[dict[str, Any]] = [
    {},
    {"length_penalty": 0.5},
    {"length_penalty": 2.0},
    {"early_stopping": True},
    {"no_repeat_ngram": 2},
    {"no_repeat_ngram": 3},
]


def _length_off_by_one(patch: pytest.MonkeyPatch) -> None:
    joined = module._Finished.joined

    def wrong(self: Any, candidates: Any, ends_BQ: Tensor, divisor: float, pad_id: int) -> Any:
        return joined(self, candidates, ends_BQ, divisor + 1, pad_id)

    patch.setattr(module._Finished, "joined", wrong)


def _every_candidate_may_end(patch: pytest.MonkeyPatch) -> None:
    joined = module._Finished.joined

    def wrong(self: Any, candidates: Any, ends_BQ: Tensor, divisor: float, pad_id: int) -> Any:
        order = ends_BQ.int().argsort(dim=1, descending=True, stable=True)
        parts = (candidates.scores_BQ, candidates.tokens_BQ, candidates.parents_BQ)
        reordered = module._Candidates(*(part.gather(1, order) for part in parts), candidates.ids_RU)
        return joined(self, reordered, ends_BQ.gather(1, order), divisor, pad_id)

    patch.setattr(module._Finished, "joined", wrong)


def _beams_of_the_first_input(patch: pytest.MonkeyPatch) -> None:
    candidates = module._candidates

    def wrong(logits_RV: Tensor, added_BG: Tensor, ids_RU: Tensor) -> Any:
        right, G = candidates(logits_RV, added_BG, ids_RU), added_BG.shape[1]
        return module._Candidates(right.scores_BQ, right.tokens_BQ, right.parents_BQ % G, right.ids_RU)

    patch.setattr(module, "_candidates", wrong)


def _never_done_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module._Finished, "worst", property(lambda self: torch.full_like(self.scores_BG[:, 0], -torch.inf)))


def _start_is_not_counted(patch: pytest.MonkeyPatch) -> None:
    forbid = module.forbid

    def wrong(scores_RV: Tensor, ids_RU: Tensor, no_repeat_ngram: int, banned: Tensor) -> None:
        if ids_RU.shape[1] > 1:
            forbid(scores_RV, ids_RU[:, 1:], no_repeat_ngram, banned)

    patch.setattr(module, "forbid", wrong)


BUGS = {
    "length off by one": (_length_off_by_one, "t5", 4, CHANGES[0]),
    "every candidate may end": (_every_candidate_may_end, "t5", 4, CHANGES[1]),
    "beams of the first input": (_beams_of_the_first_input, "t5", 4, CHANGES[0]),
    "no stop when early": (_never_done_early, "t5", 4, CHANGES[3]),
    "no stop": (_never_done_early, "t5", 4, CHANGES[2]),
    "start is not counted": (_start_is_not_counted, "bart", 1, {"no_repeat_ngram": 1}),
}


@pytest.mark.parametrize("bug", BUGS)
def test_control_a_planted_bug_is_caught(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With each of these bugs some model's texts or scores are no longer those of `generate`."""
    plant, kind, num_beams, options = BUGS[bug]
    plant(monkeypatch)
    models = [MODELS[kind](seed) for seed in SEEDS]
    with pytest.raises(AssertionError):
        _ = [require_equal(model, num_beams, **options) for model in models]


class Cached(nn.Module):
    """Hugging Face's T5 behind the interface that `write_sequences` wants, with its own key-value cache."""

    def __init__(self, t5: Any) -> None:
        super().__init__()
        self.t5 = t5

    def encode(self, tokens_BT: Tensor, segments_BT: Tensor | None = None) -> Tensor:
        return self.t5.get_encoder()(input_ids=tokens_BT, attention_mask=segments_BT).last_hidden_state

    def start(self, memory_BTD: Tensor, memory_segments_BT: Tensor | None = None, *, num_beams: int = 1) -> CachedState:
        assert memory_segments_BT is not None
        given = (memory_BTD, memory_segments_BT)
        return CachedState(*(each.repeat_interleave(num_beams, 0) for each in given))

    def next_logits(self, state: CachedState, ids_R: Tensor) -> Tensor:
        from transformers.modeling_outputs import BaseModelOutput

        return self.t5(
            encoder_outputs=BaseModelOutput(state.memory), attention_mask=state.mask, decoder_input_ids=ids_R[:, None],
            past_key_values=state.cache, use_cache=True,
        ).logits[:, -1]  # fmt: skip


class CachedState:
    def __init__(self, memory: Tensor, mask: Tensor) -> None:
        from transformers import DynamicCache, EncoderDecoderCache

        self.memory, self.mask = memory, mask
        self.cache = EncoderDecoderCache(DynamicCache(), DynamicCache())

    def follow(self, parents_R: Tensor) -> None:
        self.keep(parents_R)

    def keep(self, inputs: Tensor) -> None:
        self.memory, self.mask = self.memory[inputs], self.mask[inputs]
        self.cache.reorder_cache(inputs)


def written(model: nn.Module, num_beams: int, no_repeat_ngram: int) -> list[list[int]]:
    given = inputs()
    return write_sequences(
        model, {"tokens_BT": given["input_ids"], "segments_BT": given["attention_mask"]}, max_tokens=MAX_TOKENS,
        start_id=0, eos_id=EOS, pad_id=0, num_beams=num_beams, no_repeat_ngram=no_repeat_ngram,
    )  # fmt: skip


@pytest.mark.parametrize("no_repeat_ngram", [0, 2])
@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("seed", SEEDS)
def test_written_with_a_cache_as_by_generate(seed: int, num_beams: int, no_repeat_ngram: int) -> None:
    model = t5(seed)
    wanted = [list(row[0].ids) for row in theirs(model, num_beams, no_repeat_ngram, length_penalty=1.0)]
    assert written(Cached(model), num_beams, no_repeat_ngram) == wanted


def test_control_a_cache_that_is_not_reordered_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Self-attention caches that don't follow the beams give other texts."""
    wanted = [[list(row[0].ids) for row in theirs(t5(seed), 4, 2)] for seed in SEEDS]
    monkeypatch.setattr("transformers.EncoderDecoderCache.reorder_cache", lambda _self, _rows: None)
    assert wanted != [written(Cached(t5(seed)), 4, 2) for seed in SEEDS]


# ------------------------------------------------------------------------------------------------------------ our T5


def same_t5(v1_1: bool) -> tuple[Any, T5]:
    """Their T5 and ours with the same weights; the end comes up now and then."""
    from transformers import T5Config

    changes = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False} if v1_1 else {}
    sizes = tiny_hf.T5 | {"vocab_size": V}
    theirs_t5: Any = tiny_hf.make("T5ForConditionalGeneration", T5Config, **sizes, decoder_start_token_id=0, **changes)
    with torch.no_grad():
        theirs_t5.get_output_embeddings().weight[EOS] *= 2
    found = hf.from_hf(theirs_t5.config.to_dict(), theirs_t5.state_dict())
    ours_t5 = T5(found.vocab_size, **found.fields).eval()
    ours_t5.load_state_dict(found.state)
    return theirs_t5, ours_t5


def check_our_t5(v1_1: bool, num_beams: int, no_repeat_ngram: int) -> list[list[int]]:
    theirs_t5, ours_t5 = same_t5(v1_1)
    wanted = [list(row[0].ids) for row in theirs(theirs_t5, num_beams, no_repeat_ngram, length_penalty=1.0)]
    assert written(ours_t5, num_beams, no_repeat_ngram) == wanted
    return wanted


@pytest.mark.parametrize("no_repeat_ngram", [0, 2])
@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("v1_1", [False, True], ids=["v1.0", "v1.1"])
def test_our_t5_writes_what_theirs_writes(v1_1: bool, num_beams: int, no_repeat_ngram: int) -> None:
    found = check_our_t5(v1_1, num_beams, no_repeat_ngram)
    assert len({tuple(ids) for ids in found}) > 1, "inputs that are told apart"


def test_control_a_t5_whose_beams_follow_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state of ours that doesn't follow the beams gives other texts."""
    monkeypatch.setattr(T5State, "follow", lambda _self, _parents: None)
    with pytest.raises(AssertionError):
        _ = [check_our_t5(v1_1, 4, ngram) for v1_1, ngram in itertools.product((False, True), (0, 2))]
