"""T5: sizes, roles, first weights, what the decoder sees, one token at a time, and that it learns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from objectives import objective
from torch import Tensor

from trifecta.errors import RecipeError
from trifecta.execution.memory import checkpoint_activations
from trifecta.inference.decoder import SequenceDecoder
from trifecta.models import MODELS, T5, part_sizes, roles, without_memory
from trifecta.models.t5 import T5State
from trifecta.nn import attention
from trifecta.nn import init as init_module
from trifecta.nn.cache import LayerCache
from trifecta.recipe import components
from trifecta.registry import keywords
from trifecta.types import Batch

SMALL = {"d_model": 64, "num_heads": 4, "num_layers": 2, "d_ff": 128, "dropout": 0.0}
SPAN = objective("span", 40)
V = SPAN.vocabulary.size
SHAPES: list[dict[str, Any]] = [
    {},
    {"tie_embeddings": False, "num_decoder_layers": 3, "activation": "relu"},
    {"head_width": 24, "attention": "explicit", "relative_buckets": 8, "relative_max_distance": 16},
]


def small(seed: int = 0, **changes: Any) -> T5:
    torch.manual_seed(seed)
    return T5(V, **(SMALL | changes))


def tokens(rows: int = 3, length: int = 14, seed: int = 1) -> Tensor:
    return torch.randint(256, (rows, length), generator=torch.Generator().manual_seed(seed))


def batch_of(*lengths: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    given = [SPAN.prepare(rng.integers(0, 256, length)) for length in lengths]
    batch: Batch = SPAN.collate([SPAN.corrupt(example, rng) for example in given])
    return batch


def mean_loss(model: T5, batch: Batch) -> Tensor:
    ((total, count),) = SPAN.loss(model, batch).terms.values()
    mean: Tensor = total / count
    return mean


@pytest.mark.fast
def test_arguments_are_the_recipe_keys_with_their_defaults() -> None:
    fields = {name: field.default for name, field in components.T5.model_fields.items() if name != "type"}
    assert keywords(MODELS["t5"]) == list(fields)
    assert {name: T5.__init__.__kwdefaults__[name] for name in fields} == fields


@pytest.mark.fast
def test_t5_small_has_the_published_number_of_parameters() -> None:
    with without_memory():
        old = T5(32128, d_model=512, num_heads=8, head_width=64, num_layers=6, d_ff=2048, activation="relu")
        new = T5(32128, d_model=512, num_heads=6, head_width=64, num_layers=8, d_ff=1024, tie_embeddings=False)
    for model, published in ((old, 60_506_624), (new, 76_961_152)):
        assert sum(p.numel() for p in model.parameters()) == sum(part_sizes(model).values()) == published


@pytest.mark.fast
def test_numeric_019_each_parameter_of_a_t5_has_one_role() -> None:
    """Each parameter of a T5 has exactly one role; its tables of distances are embeddings."""
    kinds = roles(small(tie_embeddings=False))
    assert list(kinds) == [name for name, _ in small(tie_embeddings=False).named_parameters()]
    assert {name for name, role in kinds.items() if role == "embedding"} == {
        "embedding.token.weight", "encoder.relative.table.weight", "decoder.relative.table.weight",
    }  # fmt: skip
    assert [name for name, role in kinds.items() if role == "head"] == ["head.weight"]
    assert "bias" not in kinds.values()


# -------------------------------------------------------------------------------------------------------- first weights


def deviations(model: T5) -> dict[str, float]:
    """Standard deviation of each weight divided by what the paper's code has."""
    D, K, H, F = 256, 32, 4, 512
    wanted = {
        "query": (D * K) ** -0.5, "key": D**-0.5, "value": D**-0.5, "out": (H * K) ** -0.5,
        "gate": D**-0.5, "up": D**-0.5, "down": F**-0.5, "token": 1.0, "table": D**-0.5,
    }  # fmt: skip
    return {
        name: float(p.detach().std()) / wanted[name.split(".")[-2]]
        for name, p in model.named_parameters() if "norm" not in name and name != "head.weight"
    }  # fmt: skip


def wide() -> T5:
    torch.manual_seed(0)
    return T5(V, d_model=256, num_heads=4, head_width=32, num_layers=2, d_ff=512, relative_buckets=512)


@pytest.mark.fast
def test_first_weights_have_the_standard_deviations_of_t5() -> None:
    """Queries 1 / sqrt(d_model head_width), matrices 1 / sqrt(inputs), embeddings 1, tables 1 / sqrt(d_model); 5 %."""
    found = deviations(wide())
    assert len(found) > 30
    assert all(value == pytest.approx(1, rel=0.05) for value in found.values()), found


@pytest.mark.fast
def test_first_weights_control_queries_like_keys_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init_module, "_query_factor", lambda *_: 1.0)
    with pytest.raises(AssertionError):
        test_first_weights_have_the_standard_deviations_of_t5()


def first_loss(model: T5) -> float:
    return float(mean_loss(model, batch_of(*[SPAN.window] * 100)).detach())


@pytest.mark.fast
@pytest.mark.parametrize("shape", SHAPES)
def test_numeric_003_span_loss_begins_near_log_vocabulary(shape: dict[str, Any]) -> None:
    """The first loss of span corruption is at most 0.8 above ln V: T5's first logits have a variance of about 1, which
    alone adds a half; with narrow weights it is within 0.05."""
    assert 0 < first_loss(small(**shape)) - math.log(V) <= 0.8
    narrow = {"init": "normal", "init_std": 0.02}
    assert abs(first_loss(small(**(shape | narrow))) - math.log(V)) <= 0.05


def test_numeric_003_control_a_head_that_is_not_scaled_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tied head without the factor 1 / sqrt(d_model) begins far off."""
    model = small()
    monkeypatch.setattr(model, "logits", lambda hidden: torch.nn.functional.linear(hidden, model.head_weight))
    assert first_loss(model) > math.log(V) + 5


# ------------------------------------------------------------------------------------------------ what the decoder sees


def leak(model: T5) -> float:
    """Largest change of earlier logits when later written tokens change."""
    first, second = tokens(seed=2), tokens(seed=9)
    second[:, :7] = first[:, :7]
    with torch.no_grad():
        return float((model(tokens(), first)[:, :7] - model(tokens(), second)[:, :7]).abs().max())


def future_gradient(model: T5) -> float:
    """Largest gradient of an early logit with respect to a later written token's vector."""
    held: list[Tensor] = []

    def hold(_module: Any, _inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        held.append(output)

    handle = model.embedding.token.register_forward_hook(hold)
    model(tokens(), tokens(seed=2))[:, 6].square().sum().backward()
    handle.remove()
    read, written = held
    assert read.grad is not None
    assert written.grad is not None
    assert (read.grad.abs().amax((0, 2)) > 0).all(), "every token that is read matters"
    assert written.grad[:, :7].abs().max() > 0
    return float(written.grad[:, 7:].abs().max())


@pytest.mark.fast
@pytest.mark.parametrize("shape", SHAPES)
def test_numeric_004_005_nothing_leaks_from_what_is_written_later(shape: dict[str, Any]) -> None:
    """Changing later written tokens changes earlier logits by exactly 0, and they have a gradient of exactly 0; every
    token that is read has one."""
    assert leak(small(**shape)) == 0
    assert future_gradient(small(**shape)) == 0


@pytest.mark.fast
def test_numeric_004_005_control_a_decoder_without_its_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder without its causal mask leaks into logits and gradients."""
    monkeypatch.setattr("trifecta.models.stack.causal_bias", lambda T, S, like: like.new_zeros(T, S))
    assert leak(small()) > 0
    assert future_gradient(small()) > 0


@pytest.mark.fast
@pytest.mark.parametrize("shape", SHAPES)
def test_numeric_008_a_row_of_a_t5_alone_and_in_a_batch(shape: dict[str, Any]) -> None:
    """Logits of a row alone and in a batch differ by at most 1e-5."""
    model, read, written = small(**shape), tokens(), tokens(seed=2)
    alone = torch.cat([model(r[None], w[None]) for r, w in zip(read, written, strict=True)])
    assert (model(read, written) - alone).abs().max() <= 1e-5


def permutation_error(model: T5) -> float:
    order = torch.randperm(14, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return float((model.encode(tokens()[:, order]) - model.encode(tokens())[:, order]).abs().max())


@pytest.mark.fast
def test_numeric_009_the_encoder_without_distances_does_not_mind_order() -> None:
    """With its table of distances at 0, the encoder gives permuted states for permuted tokens, to 1e-5; with the table
    it doesn't."""
    model = small()
    assert permutation_error(model) > 1e-3
    with torch.no_grad():
        model.encoder.relative.table.weight.zero_()
    assert permutation_error(model) <= 1e-5


@pytest.mark.fast
def test_numeric_009_control_a_causal_encoder_is_noticed() -> None:
    """An encoder with a causal mask minds the order."""
    model = small()
    with torch.no_grad():
        model.encoder.relative.table.weight.zero_()
    model.encoder.causal = True
    assert permutation_error(model) > 1e-3


# ------------------------------------------------------------------------------------------------------- token by token


GONE = {5: [2, 0, 3], 9: [1, 2]}
"""Which inputs are kept before the token of that number."""


def decoding_error(model: T5, *, beams: int, packed: bool = False) -> float:
    """Largest difference of the logits token by token and at once. Beams change places at random before each token, so
    that some are continued by several and some by none; inputs change places and go."""
    read, written = tokens(4), tokens(4 * beams, length=40, seed=2).view(4, beams, -1)
    segments = torch.ones_like(read)
    segments[1, 9:] = segments[3, 4:] = 0
    error, generator = 0.0, torch.Generator().manual_seed(6)
    with torch.inference_mode():
        memory = model.encode(read, segments)
        state = model.start(memory, segments, num_beams=beams)
        next_logits = SequenceDecoder(model).next_logits if packed else model.next_logits
        for t in range(written.shape[2]):
            if t in GONE:
                state.keep(torch.tensor(GONE[t]))
                read, written, segments = read[GONE[t]], written[GONE[t]], segments[GONE[t]]
            if t and beams > 1:
                parents_BG = torch.randint(beams, (len(read), beams), generator=generator)
                state.follow((parents_BG + torch.arange(len(read))[:, None] * beams).flatten())
                past = written[:, :, :t].gather(1, parents_BG[..., None].expand(-1, -1, t))
                written = torch.cat((past, written[:, :, t:]), -1)
            found = next_logits(state, written[:, :, t].flatten())
            rows = written[:, :, : t + 1].flatten(0, 1)
            given = [each.repeat_interleave(beams, 0) for each in (read, segments)]
            whole = model.hidden(given[0], rows, given[1], torch.ones_like(rows)).hidden_BTD[:, -1]
            error = max(error, float((found - model.logits(whole)).abs().max()))
    if beams > 1:
        assert state.past_BGS.shape[-1] < 30 * beams, "what no beam continues is dropped"
    return error


@pytest.mark.fast
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("beams", [1, 3])
def test_numeric_006_written_token_by_token(shape: dict[str, Any], beams: int) -> None:
    """Logits token by token with kept keys and values equal those of the whole to 1e-5, in fp64 to 1e-12, with padded
    inputs, where beams change places and inputs go; and those of the decoder with packed weights to 1e-5."""
    assert decoding_error(small(**shape), beams=beams) <= 1e-5
    assert decoding_error(small(**shape).double(), beams=beams) <= 1e-12
    assert decoding_error(small(**shape), beams=beams, packed=True) <= 1e-5


@pytest.mark.fast
def test_numeric_006_control_beams_that_follow_nothing_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beams that stay where they were are noticed."""
    monkeypatch.setattr(T5State, "follow", lambda _self, _parents: None)
    monkeypatch.setattr(T5State, "num_beams", 3)
    with pytest.raises(AssertionError):  # nothing is dropped either
        decoding_error(small(), beams=3)


@pytest.mark.fast
@pytest.mark.parametrize("bug", ["order", "times"])
def test_numeric_006_control_a_past_that_is_dropped_wrongly_is_noticed(
    bug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of other positions than those that are said to be kept, and times that aren't kept with them, are
    noticed."""
    if bug == "order":
        right = LayerCache.select
        monkeypatch.setattr(LayerCache, "select", lambda self, kept_BS: right(self, kept_BS.sort(descending=True)[0]))
    else:
        prune = T5State._prune

        def wrong(self: T5State) -> None:
            times_BS = self.times_BS
            prune(self)
            self.times_BS = times_BS[:, : self.times_BS.shape[1]]

        monkeypatch.setattr(T5State, "_prune", wrong)
    assert decoding_error(small(), beams=3) > 1e-3


@pytest.mark.fast
def test_numeric_006_control_a_forgotten_mask_of_the_input_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing that reads the padding of its input is noticed."""
    right = T5.start
    monkeypatch.setattr(T5, "start", lambda self, memory, _segments, **options: right(self, memory, **options))
    assert decoding_error(small(), beams=1) > 1e-3


# --------------------------------------------------------------------------------------------------- ways to compute it


def results(batch: Batch, *, recompute: bool = False, **changes: Any) -> list[Tensor]:
    """Loss and gradients of a batch."""
    model = small(**changes)
    if recompute:
        checkpoint_activations(model.blocks)
    model.train()
    torch.manual_seed(5)
    loss = mean_loss(model, batch)
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.fast
@pytest.mark.parametrize("lengths", [(SPAN.window,) * 3, (3, 20, 11, 5)])
def test_numeric_014_checkpointed_t5_is_exact(lengths: tuple[int, ...]) -> None:
    """With dropout on, loss and gradients of a T5 with and without activation checkpointing are the same bit for bit,
    with rows of one document and of several."""
    plain, recomputed = (results(batch_of(*lengths), recompute=on, dropout=0.2) for on in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))
    assert len(plain) > 20


@pytest.mark.fast
def test_numeric_014_control_other_dropout_of_a_t5_is_noticed() -> None:
    """Another rate of dropout gives other gradients."""
    assert not torch.equal(results(batch_of(30), dropout=0.2)[1], results(batch_of(30), dropout=0.21)[1])


@pytest.mark.fast
@pytest.mark.parametrize("lengths", [(SPAN.window,) * 2, (3, 20, 11, 5)])
def test_numeric_032_fused_and_explicit_attention_in_a_t5(lengths: tuple[int, ...]) -> None:
    """Loss and gradients of a T5 with fused attention equal those with explicit attention, to 1e-5 of the largest value
    (at least 1)."""
    fused, explicit = (results(batch_of(*lengths), attention=kind) for kind in ("fused", "explicit"))
    for one, other in zip(fused, explicit, strict=True):
        assert (one - other).abs().max() <= 1e-5 * max(1.0, float(other.abs().max()))


@pytest.mark.fast
def test_numeric_032_control_forgotten_distances_in_a_t5(monkeypatch: pytest.MonkeyPatch) -> None:
    """Explicit attention without what is added to its scores is noticed."""
    fused = results(batch_of(SPAN.window))
    right: Any = attention._attend_explicitly
    monkeypatch.setattr(attention, "_attend_explicitly", lambda q, k, v, _bias, *rest: right(q, k, v, None, *rest))
    assert (fused[0] - results(batch_of(SPAN.window), attention="explicit")[0]).abs() > 1e-4


def final_loss(model: T5, steps: int = 250) -> float:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = batch_of(SPAN.window, SPAN.window, 12, 25)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = mean_loss(model, batch)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("shape", SHAPES)
def test_numeric_033_a_t5_overfits_one_batch(shape: dict[str, Any]) -> None:
    """One batch of texts with gaps is learned to a loss under 0.05 in 250 steps."""
    assert final_loss(small(**shape)) < 0.05


def test_numeric_033_control_a_decoder_that_forgets_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A T5 whose places see only themselves, and whose decoder reads nothing, doesn't learn the batch."""

    def itself_only(q: Tensor, _k: Tensor, v: Tensor, *_rest: Any, **_options: Any) -> Tensor:
        return v if v.shape == q.shape else torch.zeros_like(q)

    monkeypatch.setattr(attention, "attend", itself_only)
    assert final_loss(small()) > 0.05


@pytest.mark.fast
def test_fault_066_sizes_of_a_t5_that_do_not_fit() -> None:
    """A T5 whose width isn't a multiple of its heads, and that has no width of heads of its own, is refused."""
    with pytest.raises(RecipeError, match=r"num_heads 3 .*d_model 64"):
        small(num_heads=3)
    assert small(num_heads=3, head_width=8)


@pytest.mark.fast
@pytest.mark.parametrize("part", ["attention", "feedforward", "embedding", "output"])
def test_each_dropout_acts_in_training_only(part: str) -> None:
    model, quiet = small(**{f"{part}_dropout": 0.5}), small()
    given = (tokens(), tokens(seed=2))
    assert not torch.equal(model(*given), quiet(*given))
    assert torch.equal(model.eval()(*given), quiet(*given))
