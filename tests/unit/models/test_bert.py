"""BERT: sizes, roles, first loss, what it sees, ways to compute the same, and that it learns."""

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
from trifecta.models import MODELS, Bert, part_sizes, roles, without_memory
from trifecta.nn import attention
from trifecta.recipe import components
from trifecta.registry import keywords
from trifecta.types import Batch

POSITIONS = ["rope", "learned", "sinusoidal", "none"]
SMALL = {"d_model": 64, "num_heads": 4, "num_layers": 3, "d_ff": 128, "dropout": 0.0, "max_sequence_length": 32}
MASKED = objective("masked", 32)
V = MASKED.vocabulary.size
SHAPES: list[dict[str, Any]] = [
    {},
    {"position": "learned", "norm_position": "post", "activation": "gelu", "bias": True, "segment_types": 2},
    {"position": "sinusoidal", "num_kv_heads": 2, "norm": "rmsnorm", "activation": "swiglu", "qk_norm": True},
    {"position": "rope", "tie_embeddings": False, "attention": "explicit", "head_activation": "relu"},
]


def small(seed: int = 0, **changes: Any) -> Bert:
    torch.manual_seed(seed)
    return Bert(V, **(SMALL | changes))


def tokens(rows: int = 3, length: int = 16, seed: int = 1) -> Tensor:
    return torch.randint(256, (rows, length), generator=torch.Generator().manual_seed(seed))


def batch_of(*lengths: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    given = [MASKED.prepare(rng.integers(0, 256, length)) for length in lengths]
    batch: Batch = MASKED.collate([MASKED.corrupt(example, rng) for example in given])
    return batch


def mean_loss(model: Bert, batch: Batch) -> Tensor:
    ((total, count),) = MASKED.loss(model, batch).terms.values()
    mean: Tensor = total / count
    return mean


@pytest.mark.fast
def test_arguments_are_the_recipe_keys_with_their_defaults() -> None:
    fields = {name: field.default for name, field in components.Bert.model_fields.items() if name != "type"}
    assert keywords(MODELS["bert"]) == list(fields)
    assert {name: Bert.__init__.__kwdefaults__[name] for name in fields} == fields


# ---------------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.fast
def test_bert_base_has_the_published_number_of_parameters() -> None:
    with without_memory():
        model = Bert(
            30522, d_model=768, num_heads=12, num_layers=12, d_ff=3072, position="learned", max_sequence_length=512,
            segment_types=2, pooler=True, norm_position="post", activation="gelu", bias=True,
        )  # fmt: skip
    assert sum(p.numel() for p in model.parameters()) == sum(part_sizes(model).values())
    head = sum(p.numel() for name, p in model.named_parameters() if name.startswith("head"))
    assert sum(p.numel() for p in model.parameters()) - head == 109_482_240, "BertModel of bert-base-uncased"
    assert head == 768 * 768 + 768 + 2 * 768 + 30522, "its head for masked tokens"


@pytest.mark.fast
def test_numeric_019_each_parameter_of_a_bert_has_one_role() -> None:
    """Each parameter of a BERT has exactly one role; only matrices of blocks, head and pooler are matrices."""
    model = small(position="learned", segment_types=2, pooler=True, tie_embeddings=False, bias=True)
    kinds = roles(model)
    assert list(kinds) == [name for name, _ in model.named_parameters()]
    assert {name for name, role in kinds.items() if role == "embedding"} == {
        "embedding.token.weight", "embedding.position.weight", "embedding.segment.weight",
    }  # fmt: skip
    assert [name for name, role in kinds.items() if role == "head"] == ["head.weight"]
    assert {"head_dense.weight", "pooler.weight"} <= {name for name, role in kinds.items() if role == "matrix"}
    assert kinds["head_bias"] == "bias"
    assert kinds["head_norm.weight"] == kinds["embedding.norm.weight"] == "norm"


# -------------------------------------------------------------------------------------------------------------- numbers


def first_loss(model: Bert) -> float:
    return float(mean_loss(model, batch_of(*[30] * 100)).detach())


@pytest.mark.fast
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("init", ["normal", "xavier", "depth_scaled", "zero_residual"])
def test_numeric_003_masked_loss_begins_at_log_vocabulary(shape: dict[str, Any], init: str) -> None:
    """The first loss of masked tokens is within 0.1 of ln V, whatever the initialiser."""
    assert abs(first_loss(small(**(shape | {"init": init}))) - math.log(V)) <= 0.1


def test_numeric_003_control_wide_init_of_a_bert() -> None:
    """Ten times as wide an initialisation misses ln V by more than 0.1."""
    assert abs(first_loss(small(init_std=0.2)) - math.log(V)) > 0.1


@pytest.mark.fast
@pytest.mark.parametrize("position", POSITIONS)
def test_numeric_008_a_row_of_a_bert_alone_and_in_a_batch(position: str) -> None:
    """Logits of a row alone and in a batch differ by at most 1e-5."""
    model = small(position=position, init_std=0.1)
    alone = torch.cat([model(row[None]) for row in tokens()])
    assert (model(tokens()) - alone).abs().max() <= 1e-5


def permutation_error(model: Bert) -> float:
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return float((model(tokens()[:, order]) - model(tokens())[:, order]).abs().max())


@pytest.mark.fast
@pytest.mark.parametrize("kind", ["fused", "explicit"])
def test_numeric_009_a_bert_without_positions_does_not_mind_order(kind: str) -> None:
    """A BERT without positions gives permuted logits for permuted tokens, to 1e-5."""
    assert permutation_error(small(position="none", attention=kind, init_std=0.1)) <= 1e-5


@pytest.mark.fast
def test_numeric_009_control_positions_of_a_bert_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of position, and a causal mask in the encoder, is noticed."""
    for position in ("rope", "learned", "sinusoidal"):
        assert permutation_error(small(position=position, init_std=0.1)) > 1e-3
    model = small(position="none", init_std=0.1)
    for block in model.blocks:
        monkeypatch.setattr(block.attention, "causal", True)
    assert permutation_error(model) > 1e-3


@pytest.mark.fast
def test_each_position_sees_both_sides() -> None:
    model, first, second = small(init_std=0.1), tokens(), tokens()
    second[:, 8] = (second[:, 8] + 1) % 256
    changed = (model(first) - model(second)).abs().amax((0, 2))
    assert (changed > 0).all()


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
@pytest.mark.parametrize("lengths", [(30, 30, 30), (3, 20, 11, 5)])
def test_numeric_014_checkpointed_bert_is_exact(lengths: tuple[int, ...]) -> None:
    """With dropout on, loss and gradients of a BERT with and without activation checkpointing are the same bit for bit,
    with rows of one document and of several."""
    plain, recomputed = (results(batch_of(*lengths), recompute=on, dropout=0.2) for on in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))
    assert len(plain) > 20


@pytest.mark.fast
def test_numeric_014_control_other_dropout_of_a_bert_is_noticed() -> None:
    """Other draws of dropout give other gradients."""
    plain = results(batch_of(30), dropout=0.2)
    assert not torch.equal(plain[1], results(batch_of(30), dropout=0.21)[1])


@pytest.mark.fast
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("lengths", [(30, 30), (3, 20, 11, 5)])
def test_numeric_032_fused_and_explicit_attention_in_a_bert(position: str, lengths: tuple[int, ...]) -> None:
    """Loss and gradients of a BERT with fused attention equal those with explicit attention, to 1e-5 of the largest
    value (at least 1)."""
    fused, explicit = (
        results(batch_of(*lengths), attention=kind, position=position, init_std=0.1, num_kv_heads=2)
        for kind in ("fused", "explicit")
    )
    for one, other in zip(fused, explicit, strict=True):
        assert (one - other).abs().max() <= 1e-5 * max(1.0, float(other.abs().max()))


@pytest.mark.fast
def test_numeric_032_control_forgotten_mask_in_a_bert(monkeypatch: pytest.MonkeyPatch) -> None:
    """Explicit attention without the mask between documents is noticed."""
    fused = results(batch_of(3, 20, 11, 5), init_std=0.1)
    right: Any = attention._attend_explicitly
    monkeypatch.setattr(attention, "_attend_explicitly", lambda q, k, v, _bias, *rest: right(q, k, v, None, *rest))
    explicit = results(batch_of(3, 20, 11, 5), init_std=0.1, attention="explicit")
    assert (fused[0] - explicit[0]).abs() > 1e-4


def final_loss(model: Bert, steps: int = 200) -> float:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = batch_of(30, 30, 8, 17)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = mean_loss(model, batch)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("shape", SHAPES)
def test_numeric_033_a_bert_overfits_one_batch(shape: dict[str, Any]) -> None:
    """One batch of masked texts is learned to a loss under 0.05 in 200 steps."""
    assert final_loss(small(**shape)) < 0.05


def test_numeric_033_control_a_blind_bert_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A BERT whose places see only themselves, and don't know where they are, doesn't learn the batch."""

    def itself_only(q: Tensor, _k: Tensor, v: Tensor, *_rest: Any, **_options: Any) -> Tensor:
        return v.repeat_interleave(q.shape[1] // v.shape[1], 1)

    monkeypatch.setattr(attention, "attend", itself_only)
    assert final_loss(small(position="none")) > 0.05


# -------------------------------------------------------------------------------------------------------------- details


@pytest.mark.fast
def test_types_and_pooler_act() -> None:
    model = small(segment_types=2, pooler=True)
    types = torch.zeros(3, 16, dtype=torch.int64)
    first = model.hidden(tokens(), types_BT=types).hidden_BTD
    assert torch.equal(first, model.hidden(tokens()).hidden_BTD), "the first type unless said otherwise"
    types[:, 8:] = 1
    assert not torch.equal(first, model.hidden(tokens(), types_BT=types).hidden_BTD)
    pooled = model.pooled(first[:, 0])
    assert pooled.abs().max() < 1
    assert torch.equal(small().pooled(first[:, 0]), first[:, 0])


@pytest.mark.fast
def test_the_first_block_of_a_pre_norm_bert_has_the_embeddings_norm() -> None:
    names = {name for name, _ in small().named_parameters()}
    assert "embedding.norm.weight" in names
    assert not any(name.startswith("blocks.0.attention_norm") for name in names)
    assert "blocks.1.attention_norm.weight" in names
    post = {name for name, _ in small(norm_position="post").named_parameters()}
    assert "blocks.0.attention_norm.weight" in post
    assert "norm.weight" not in post


@pytest.mark.fast
def test_fault_066_sizes_of_a_bert_that_do_not_fit() -> None:
    """A BERT whose sizes don't fit is refused as a recipe error with the numbers that clash."""
    for fields in ({"d_model": 100, "num_heads": 3}, {"num_kv_heads": 3}, {"d_model": 12}):
        with pytest.raises(RecipeError):
            small(**fields)


@pytest.mark.fast
def test_same_seed_same_weights() -> None:
    assert all(torch.equal(a, b) for a, b in zip(small(3).parameters(), small(3).parameters(), strict=True))
    assert not torch.equal(small(3).head_weight, small(4).head_weight)
