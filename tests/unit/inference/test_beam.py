"""Beam search: every text tried, inputs side by side, n-grams, penalties, bounds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from trifecta.errors import NumericsError, RecipeError
from trifecta.inference import beam as module
from trifecta.inference.beam import Hypothesis, beam_search, forbid
from trifecta.randomness import torch_generator

pytestmark = pytest.mark.fast

V, START, EOS, PAD = 4, 3, 0, 2
Found = list[list[Hypothesis]]


def table(seed: int, previous: tuple[int, ...]) -> Tensor:
    """Log-probabilities after these ids: at random, but always the same."""
    return torch.randn(V, generator=torch_generator(seed, "table", *previous)).mul(1.5).log_softmax(0)


def stepping(seeds: list[int], num_beams: int) -> Callable[[Tensor, Tensor | None], Tensor]:
    """One table for each input; finds a row's input by following its parents, as a cache would."""
    inputs = torch.tensor(seeds).repeat_interleave(num_beams)

    def step(ids_RU: Tensor, parents_R: Tensor | None) -> Tensor:
        nonlocal inputs
        inputs = inputs if parents_R is None else inputs[parents_R]
        rows = zip(inputs.tolist(), ids_RU.tolist(), strict=True)
        return torch.stack([table(seed, tuple(ids)) for seed, ids in rows])

    return step


def search(seeds: list[int], num_beams: int, max_tokens: int = 4, **options: Any) -> Found:
    options = {"batch_size": len(seeds), "start_id": START, "eos_id": EOS, "pad_id": PAD} | options
    step = options.pop("step", None) or stepping(seeds, num_beams)
    return beam_search(step, num_beams=num_beams, max_tokens=max_tokens, **options)


def every_text(seed: int, max_tokens: int, penalty: float) -> list[tuple[float, tuple[int, ...]]]:
    """All texts of at most max_tokens, best first, with their scores."""
    texts = []
    for length in range(1, max_tokens + 1):
        for ids in itertools.product(range(V), repeat=length):
            if EOS in ids[:-1] or (length < max_tokens and ids[-1] != EOS):
                continue
            total = sum(float(table(seed, (START, *ids[:at]))[ids[at]]) for at in range(length))
            texts.append((total / length**penalty, tuple(token for token in ids if token != EOS)))
    return sorted(texts, reverse=True)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0, -1.0])
def test_beams_enough_for_all_find_every_text_in_order(penalty: float) -> None:
    """Three tokens of four make 3 ** 3 + 13 texts: 40 beams keep them all, whatever the penalty."""
    found = search([5, 6], 40, max_tokens=3, length_penalty=penalty)
    for row, seed in zip(found, [5, 6], strict=True):
        wanted = every_text(seed, 3, penalty)
        assert len(wanted) == 40
        assert [text.ids for text in row] == [ids for _, ids in wanted]
        assert [text.score for text in row] == pytest.approx([score for score, _ in wanted], abs=1e-5)


def test_more_beams_find_better_texts() -> None:
    best = [[row[0].score for row in search(list(range(20)), beams, 6, length_penalty=0.0)] for beams in (1, 12)]
    assert all(few <= many + 1e-6 for few, many in zip(*best, strict=True))
    assert best[0] != best[1]


@pytest.mark.parametrize("early_stopping", [False, True])
def test_inputs_do_not_disturb_each_other(early_stopping: bool) -> None:
    """Each input alone gives exactly what it gives beside 11 others, some done soon and some late."""
    seeds = list(range(12))
    together = search(seeds, 3, 12, early_stopping=early_stopping)
    assert together == [search([seed], 3, 12, early_stopping=early_stopping)[0] for seed in seeds]
    assert len({len(row[0].ids) for row in together}) > 3


def test_early_stopping_ends_with_the_first_texts_enough() -> None:
    """With a penalty that favours long texts, two beams go on after two texts unless they stop early."""
    steps = []
    for early_stopping in (False, True):
        lengths: list[int] = []
        tables = stepping([0], 2)

        def step(
            ids_RU: Tensor, parents_R: Tensor | None, lengths: list[int] = lengths, tables: Any = tables
        ) -> Tensor:
            lengths.append(ids_RU.shape[1])
            return tables(ids_RU, parents_R)

        found = search([0], 2, 12, step=step, length_penalty=3.0, early_stopping=early_stopping)
        steps.append(len(lengths))
        assert len(found[0]) == 2
    assert steps[1] < steps[0]
    assert steps[1] == 1 + max(len(text.ids) for text in found[0])


def test_control_inputs_that_are_done_and_go_on_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An input that goes on finishing texts while others aren't done fails the test."""
    joined = module._Finished.joined

    def wrong(self: Any, candidates: Any, _ends_BQ: Tensor, divisor: float, pad_id: int) -> Any:
        return joined(self, candidates, candidates.tokens_BQ == EOS, divisor, pad_id)

    monkeypatch.setattr(module._Finished, "joined", wrong)
    with pytest.raises(AssertionError):
        test_inputs_do_not_disturb_each_other(True)


def test_scores_of_an_input_that_is_done_are_ignored() -> None:
    """Its rows go on with pad_id, and not even NaN harms it or the others."""
    fed: list[list[int]] = []
    tables = stepping([0, 1, 2, 3], 2)

    def step(ids_RU: Tensor, parents_R: Tensor | None) -> Tensor:
        fed.append(ids_RU[:, -1].tolist())
        return tables(ids_RU, parents_R).masked_fill((ids_RU[:, 1:] == PAD).any(-1)[:, None], torch.nan)

    plain = search([0, 1, 2, 3], 2, 12, banned_ids=[PAD])
    assert search([], 2, 12, batch_size=4, step=step, banned_ids=[PAD]) == plain
    assert any(tokens.count(PAD) >= 2 for tokens in fed)


def test_banned_ids_are_never_written_even_the_end() -> None:
    found = search([0, 1], 3, 8, banned_ids=[1, EOS])
    assert {token for row in found for text in row for token in text.ids} == {2, 3}
    assert {len(text.ids) for row in found for text in row} == {8}


def test_no_more_texts_than_there_are() -> None:
    """With two tokens there are three texts of at most two tokens; beams beyond them come back to nobody."""
    found = search([4], 5, 2, banned_ids=[1, PAD])
    assert sorted(text.ids for text in found[0]) == [(), (START,), (START, START)]


def slow_bans(ids: list[int], n: int) -> set[int]:
    """Ids that would complete an n-gram of these ids once more."""
    grams = {tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)}
    return {token for token in range(V) if (*ids[len(ids) + 1 - n :], token) in grams}


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_forbidden_are_exactly_the_repeats(n: int) -> None:
    for length in (1, 2, 3, 4, 9, 30):
        ids_RU = torch.randint(V, (25, length), generator=torch.Generator().manual_seed(length))
        scores_RV = torch.randn(25, V)
        wanted = scores_RV.clone()
        for row, ids in enumerate(ids_RU.tolist()):
            wanted[row, list(slow_bans(ids, n))] = -torch.inf
        forbid(scores_RV, ids_RU, n, torch.tensor([], dtype=torch.int64))
        assert torch.equal(scores_RV, wanted)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_text_repeats_an_ngram(n: int) -> None:
    """The start counts as an id; without the rule there are repeats."""

    def repeats(found: Found) -> int:
        texts = [(START, *text.ids) for row in found for text in row]
        grams = [[text[at : at + n] for at in range(len(text) - n + 1)] for text in texts]
        return sum(len(each) - len(set(each)) for each in grams)

    assert repeats(search([0, 1, 2], 3, 12, no_repeat_ngram=n)) == 0
    assert repeats(search([0, 1, 2], 3, 12)) > 0


def test_nothing_left_to_write() -> None:
    with pytest.raises(RecipeError, match="no token is left to write for input 0") as caught:
        search([0], 2, 8, no_repeat_ngram=1, banned_ids=[EOS])
    assert caught.value.exit_code == 2
    assert "no_repeat_ngram" in str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_numbers(bad: float) -> None:
    def step(ids_RU: Tensor, _parents_R: Tensor | None) -> Tensor:
        return torch.full((len(ids_RU), V), -1.0).index_fill_(1, torch.tensor([1]), bad)

    with pytest.raises(NumericsError, match="aren't numbers"):
        search([0], 2, step=step)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("num_beams", value) for value in (0, -1, 1.5)),
        *(("max_tokens", value) for value in (0, 2.5)),
        *(("no_repeat_ngram", value) for value in (-1, 0.5)),
        *(("length_penalty", value) for value in (math.nan, math.inf, -11, 11)),
    ],
)
def test_arguments_out_of_bounds(argument: str, value: Any) -> None:
    arguments = {"num_beams": 2, "max_tokens": 4} | {argument: value}
    with pytest.raises(RecipeError, match=f"{argument} is {value}, but must be"):
        search([0], step=stepping([0], 2), **arguments)


@pytest.mark.parametrize("width", [3, 64, 1000, 8000, 8064])
def test_the_best_of_many_are_those_of_topk(width: int) -> None:
    values = torch.randn(9, width, generator=torch_generator(0, "values"))
    values[1, 7:] = -math.inf
    values[2] = -math.inf
    values[3] = values[3].sort(descending=True).values  # all in one piece
    values[4] = values[4].sort().values  # all at the end
    count = min(width, 8)
    wanted = values.topk(count)
    best, places = module.best_of(values, count)
    assert torch.equal(best, wanted.values)
    assert torch.equal(values.gather(1, places), best)
    assert all(len(set(row)) == count for row in places.tolist())
    values[0, -1] = math.nan
    assert module.best_of(values, count)[0][0, 0].isnan()


def test_control_pieces_that_are_too_few_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One piece less than is wanted loses a value."""
    topk = Tensor.topk
    monkeypatch.setattr(Tensor, "topk", lambda self, k: topk(self, k - (self.shape[1] == 125)))
    with pytest.raises(AssertionError):
        test_the_best_of_many_are_those_of_topk(8000)
