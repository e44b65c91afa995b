"""Writing with an encoder and a decoder: stops, rows that leave, seeds, modes, bounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trifecta.errors import NumericsError, RecipeError
from trifecta.inference import sequences as module
from trifecta.inference.sequences import write_sequences

pytestmark = pytest.mark.fast

V, D, START, EOS, PAD = 17, 8, 0, 1, 16
TOKENS = torch.randint(2, V, (9, 6), generator=torch.Generator().manual_seed(3))


class Recurrent(nn.Module):
    """The interface with a state of one vector a row, so that every id read and every parent leaves its mark."""

    def __init__(self, seed: int = 0, end_bias: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(V, D)
        self.mix = nn.Linear(2 * D, D)
        self.head = nn.Linear(D, V)
        self.dropout = nn.Dropout(0.5)
        with torch.no_grad():
            self.mix.weight.mul_(6)
            self.head.weight.mul_(6)
            self.head.bias[EOS] += end_bias

    def encode(self, tokens_BT: Tensor, segments_BT: Tensor | None = None) -> Tensor:
        kept = 1 if segments_BT is None else segments_BT[..., None]
        return self.dropout(self.embedding(tokens_BT)) * kept

    def start(self, memory_BTD: Tensor, memory_segments_BT: Tensor | None = None, *, num_beams: int = 1) -> State:
        self.segments = memory_segments_BT
        return State(memory_BTD.mean(1).repeat_interleave(num_beams, 0))

    def next_logits(self, state: State, ids_R: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        state.sizes.append(len(ids_R))
        state.read.append(ids_R.tolist())
        state.memory = torch.tanh(self.mix(torch.cat((state.memory, self.embedding(ids_R)), -1)))
        self.last = state
        return self.head(self.dropout(state.memory))


class State:
    def __init__(self, memory: Tensor) -> None:
        self.memory = memory
        self.sizes: list[int] = []
        self.read: list[list[int]] = []

    def follow(self, parents_R: Tensor) -> None:
        self.memory = self.memory[parents_R]

    def keep(self, inputs: Tensor) -> None:
        self.memory = self.memory[inputs]


def write(model: nn.Module, tokens_BT: Tensor = TOKENS, **options: Any) -> list[list[int]]:
    options = {"max_tokens": 20, "start_id": START, "eos_id": EOS, "pad_id": PAD} | options
    return write_sequences(model, {"tokens_BT": tokens_BT}, **options)


def plain(model: Recurrent, tokens_T: Tensor, max_tokens: int = 20) -> list[int]:
    """Greedy, one input, the whole past again for each token."""
    ids: list[int] = []
    with torch.no_grad():
        while len(ids) < max_tokens:
            state = model.eval().start(model.encode(tokens_T[None]))
            for token in [START, *ids]:
                logits_RV = model.next_logits(state, torch.tensor([token]))
            if (token := int(logits_RV.argmax())) == EOS:
                break
            ids.append(token)
    return ids


MODES: list[dict[str, Any]] = [
    {},
    {"temperature": 1.0, "seed": 3},
    {"temperature": 0.7, "top_k": 5, "top_p": 0.9},
    {"num_beams": 3},
    {"no_repeat_ngram": 2},
]


def test_greedy_is_the_likeliest_token_each_time() -> None:
    model = Recurrent()
    found = write(model)
    assert found == [plain(model, tokens_T) for tokens_T in TOKENS]
    assert len({len(ids) for ids in found}) > 3
    assert all(EOS not in ids for ids in found)


def test_control_states_that_keep_the_wrong_inputs_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that stay where they were when others leave fail the test."""
    test_greedy_is_the_likeliest_token_each_time()
    monkeypatch.setattr(State, "keep", lambda self, rows: setattr(self, "memory", self.memory[: len(rows)]))
    with pytest.raises(AssertionError):
        test_greedy_is_the_likeliest_token_each_time()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rows_that_leave_change_nothing(mode: dict[str, Any], seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Recurrent(seed)
    found = write(model, **mode)
    sizes = model.last.sizes
    monkeypatch.setattr(module, "_LIVE_SHARE", 0.0)
    assert write(model, **mode) == found
    assert len(set(model.last.sizes)) == 1
    if "num_beams" not in mode:
        assert sizes == wanted_sizes([len(ids) for ids in found], 20)


def wanted_sizes(lengths: list[int], max_tokens: int) -> list[int]:
    """Rows read at each step when those that are done leave once they are more than half of the rows."""
    sizes, rows = [], lengths
    for written in range(max_tokens):
        sizes.append(len(rows))
        live = [length for length in rows if length > written]
        if not live:
            break
        rows = live if len(live) < len(rows) / 2 else rows
    return sizes


def test_control_some_rows_leave_early_and_some_stay() -> None:
    """The expected sizes shrink more than once for some model: there is something to get wrong."""
    lengths = [[len(ids) for ids in write(Recurrent(seed))] for seed in (0, 1, 2)]
    assert max(len(set(wanted_sizes(each, 20))) for each in lengths) > 2


def test_rows_that_are_done_are_filled_with_pad_id() -> None:
    """With none that leave, what the model reads is the start, then each text, then pad_id to the end."""
    model = Recurrent()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LIVE_SHARE", 0.0)
        found = write(model)
    steps = len(model.last.read)
    wanted = [([START, *ids] + [PAD] * steps)[:steps] for ids in found]
    assert [list(ids) for ids in zip(*model.last.read, strict=True)] == wanted
    assert any(ids[-1] == PAD for ids in wanted)


def test_draws_do_not_depend_on_the_other_inputs() -> None:
    model = Recurrent()
    found = write(model, temperature=1.0, seed=3)
    assert write(model, TOKENS[:4], temperature=1.0, seed=3) == found[:4]
    assert write(model, temperature=1.0, seed=3) == found
    assert write(model, temperature=1.0, seed=4) != found
    same = write(model, TOKENS[:1].expand(9, -1), temperature=1.0, seed=3)
    assert len({tuple(ids) for ids in same}) > 5


def test_top_k_of_one_and_a_low_temperature_are_greedy() -> None:
    model = Recurrent()
    assert write(model, temperature=1.0, top_k=1) == write(model, temperature=1e-4) == write(model)


def test_beams_find_likelier_texts_than_greedy() -> None:
    """Sums of log-probabilities under the model itself, the end with them."""
    model = Recurrent()

    def total(tokens_T: Tensor, ids: list[int]) -> float:
        with torch.no_grad():
            state, sum_ = model.eval().start(model.encode(tokens_T[None])), 0.0
            wanted = [*ids, EOS][:20]
            for read, token in zip([START, *wanted], wanted, strict=False):
                sum_ += float(model.next_logits(state, torch.tensor([read])).log_softmax(-1)[0, token])
        return sum_

    pairs = zip(TOKENS, write(model), write(model, num_beams=8, length_penalty=0.0), strict=True)
    sums = [(total(tokens_T, greedy), total(tokens_T, beams)) for tokens_T, greedy, beams in pairs]
    assert sum(beams for _, beams in sums) > sum(greedy for greedy, _ in sums) + 1


def test_control_beams_that_follow_nothing_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """States that don't follow their beams make worse texts than the ones that do."""
    model = Recurrent()
    right = write(model, num_beams=3)
    monkeypatch.setattr(State, "follow", lambda _self, _parents: None)
    assert write(model, num_beams=3) != right


@pytest.mark.parametrize("mode", MODES)
def test_max_tokens_and_bans(mode: dict[str, Any]) -> None:
    model = Recurrent(end_bias=-50)
    assert {len(ids) for ids in write(model, max_tokens=1, **mode)} == {1}
    found = write(model, max_tokens=7, banned_ids=[EOS, 4, 5], **mode)
    assert {len(ids) for ids in found} == {7}
    assert not {EOS, 4, 5} & {token for ids in found for token in ids}
    assert {4, 5} & {token for ids in write(model, max_tokens=7, **mode) for token in ids}


def test_no_ngram_twice() -> None:
    """The start counts; without the rule there are repeats."""

    def repeated(found: list[list[int]]) -> bool:
        pairs = [list(zip([START, *ids], ids, strict=False)) for ids in found]
        return any(len(each) > len(set(each)) for each in pairs)

    model = Recurrent(end_bias=-50)
    for mode in MODES[:4]:
        assert not repeated(write(model, **mode, no_repeat_ngram=2))
        assert repeated(write(model, **mode))


def test_the_start_is_part_of_the_ngrams() -> None:
    model = Recurrent(end_bias=-50)
    with torch.no_grad():
        model.head.bias[START] += 5
    for mode in MODES[:4]:
        assert START not in {token for ids in write(model, max_tokens=9, **mode, no_repeat_ngram=1) for token in ids}
        assert START in {token for ids in write(model, max_tokens=9, **mode) for token in ids}


def test_segments_reach_the_encoder_and_the_decoder() -> None:
    model = Recurrent()
    segments_BT = (torch.arange(6) < 3).long().expand(9, -1)
    options = {"max_tokens": 20, "start_id": START, "eos_id": EOS, "pad_id": PAD}
    given = {"tokens_BT": TOKENS, "segments_BT": segments_BT, "decoder_tokens_BU": TOKENS}
    masked = write_sequences(model, given, **options)
    assert model.segments is segments_BT
    other = {"tokens_BT": torch.cat((TOKENS[:, :3], TOKENS[:, :3]), 1), "segments_BT": segments_BT}
    assert masked == write_sequences(model, other, **options) != write(model)


def test_dropout_is_off_and_modes_come_back() -> None:
    model = Recurrent().train()
    model.head.eval()
    assert write(model) == write(model)
    assert model.training
    assert model.dropout.training
    assert not model.head.training


def test_scores_that_are_not_numbers_and_no_scores_at_all() -> None:
    model = Recurrent()
    with pytest.raises(RecipeError, match="no token is left to write for input 0"):
        write(model, banned_ids=range(V))
    with torch.no_grad():
        model.head.bias[3] = torch.nan
    for mode in MODES:
        with pytest.raises(NumericsError, match="score"):
            write(model, **mode)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_beams": 2, "temperature": 0.5}, "temperature is 0.5, but must be 0 with several beams"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"length_penalty": float("nan")}, "length_penalty is nan"),
        ({"no_repeat_ngram": -1}, "no_repeat_ngram is -1"),
    ],
)
def test_arguments_out_of_bounds(options: dict[str, Any], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        write(Recurrent(), **options)
