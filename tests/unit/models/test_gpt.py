"""GPT: sizes, roles, init loss, gradients, leaks, tying, and that it learns."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trifecta.errors import RecipeError
from trifecta.models import MODELS, Gpt, part_sizes, roles
from trifecta.nn import attention
from trifecta.recipe import components
from trifecta.registry import keywords

POSITIONS = ["rope", "learned", "sinusoidal", "alibi", "none"]
SMALL = {"d_model": 64, "num_heads": 4, "num_layers": 3, "d_ff": 128, "dropout": 0.0, "max_sequence_length": 32}
V = 67


def small(seed: int = 0, **changes: Any) -> Gpt:
    torch.manual_seed(seed)
    return Gpt(V, **(SMALL | changes))


def tokens(rows: int = 3, length: int = 16, seed: int = 1) -> Tensor:
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(seed))


def next_token_loss(model: Gpt, tokens_BT: Tensor) -> Tensor:
    return F.cross_entropy(model(tokens_BT[:, :-1]).flatten(0, 1), tokens_BT[:, 1:].flatten())


@pytest.mark.fast
def test_arguments_are_the_recipe_keys_with_their_defaults() -> None:
    fields = {name: field.default for name, field in components.Gpt.model_fields.items() if name != "type"}
    assert keywords(MODELS["gpt"]) == list(fields)
    assert {name: Gpt.__init__.__kwdefaults__[name] for name in fields} == fields


# ------------------------------------------------------------------------------------------------------------ sizes


@pytest.mark.fast
def test_seed_s4_1044736_parameters() -> None:
    with torch.device("meta"):
        model = Gpt(2000, d_model=128, num_heads=4, num_layers=4, d_ff=512, bias=False)
    assert part_sizes(model) == {"embedding": 256_000, "attention": 262_144, "feedforward": 524_288, "norm": 2_304}
    assert sum(part_sizes(model).values()) == 1_044_736


@pytest.mark.parametrize(
    ("name", "sizes", "parameters"),
    [
        ("small", (128, 4, 2, 512), 409_600),
        ("medium", (512, 8, 6, 2048), 18_966_528),
        ("large", (768, 12, 12, 3072), 85_132_800),
    ],
)
def test_seed_s1_preset_sizes(name: str, sizes: tuple[int, int, int, int], parameters: int) -> None:
    d_model, num_heads, num_layers, d_ff = sizes
    with torch.device("meta"):
        model = Gpt(100, d_model=d_model, num_heads=num_heads, num_layers=num_layers, d_ff=d_ff)
    assert sum(part_sizes(model).values()) == sum(p.numel() for p in model.parameters()) == parameters, name


def test_part_sizes_cover_every_kind_of_parameter() -> None:
    model = small(position="learned", tie_embeddings=False, qk_norm=True, activation="swiglu")
    sizes = part_sizes(model)
    assert list(sizes) == ["embedding", "position", "attention", "feedforward", "norm", "head"]
    assert sum(sizes.values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.fast
@pytest.mark.parametrize("tie", [True, False])
def test_numeric_019_each_parameter_has_one_role(tie: bool) -> None:
    """Each parameter has exactly one role: matrix, embedding, head, norm or bias."""
    model = small(position="learned", tie_embeddings=tie, qk_norm=True, norm="rmsnorm", activation="geglu")
    kinds = roles(model)
    assert list(kinds) == [name for name, _ in model.named_parameters()]
    by_shape = {name: parameter.dim() for name, parameter in model.named_parameters()}
    assert {name for name, role in kinds.items() if role == "matrix"} == {
        name for name, dim in by_shape.items() if dim == 2 and name.startswith("blocks.")
    }
    assert {name for name, role in kinds.items() if role == "embedding"} == {
        "embedding.token.weight",
        "embedding.position.weight",
    }
    assert [name for name, role in kinds.items() if role == "head"] == ([] if tie else ["head.weight"])
    assert all("norm" in name for name, role in kinds.items() if role == "norm")
    assert all(name.endswith("bias") for name, role in kinds.items() if role == "bias")
    assert kinds["norm.weight"] == kinds["blocks.0.attention.query_norm.weight"] == "norm"


# ---------------------------------------------------------------------------------------------------------- numbers

SHAPES: list[dict[str, Any]] = [
    {},
    {"position": "alibi", "num_kv_heads": 2, "norm": "rmsnorm", "activation": "swiglu", "qk_norm": True},
    {"position": "learned", "norm_position": "post", "activation": "gelu_tanh", "attention": "explicit"},
    {"position": "sinusoidal", "activation": "geglu", "tie_embeddings": False, "bias": False, "logit_soft_cap": 5.0},
    {"position": "none", "activation": "relu2", "num_kv_heads": 1, "init": "depth_scaled"},
]


def directional_error(model: Gpt) -> float:
    """Relative difference of gradient . direction and the central finite difference along it, in fp64."""
    model = model.double()
    parameters = list(model.parameters())
    tokens_BT = tokens()
    generator = torch.Generator().manual_seed(2)
    direction = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in parameters]
    gradients = torch.autograd.grad(next_token_loss(model, tokens_BT), parameters)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    step, losses = 1e-6, []
    with torch.no_grad():
        for sign in (1, -2):
            for parameter, along in zip(parameters, direction, strict=True):
                parameter.add_(along, alpha=sign * step)
            losses.append(float(next_token_loss(model, tokens_BT)))
    difference = (losses[0] - losses[1]) / (2 * step)
    return abs(slope - difference) / abs(difference)


@pytest.mark.parametrize("shape", SHAPES)
def test_numeric_002_directional_finite_difference(shape: dict[str, Any]) -> None:
    """The gradient along a random direction agrees with finite differences to 1e-6 in fp64."""
    assert directional_error(small(**shape, init_std=0.1)) <= 1e-6


def test_numeric_002_control_gradient_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of the gradient cut off in the rotary positions misses the tolerance."""
    rotate = attention.rotate
    monkeypatch.setattr(attention, "rotate", lambda x, rows: rotate(x.detach() * 0.01 + x * 0.99, rows))
    assert directional_error(small(init_std=0.1)) > 1e-5


@pytest.mark.fast
@pytest.mark.parametrize("init", ["normal", "xavier", "depth_scaled", "zero_residual"])
@pytest.mark.parametrize("tie", [True, False])
def test_numeric_003_loss_begins_at_log_vocabulary(init: str, tie: bool) -> None:
    """The first loss is within 0.05 of ln V, whatever the initialiser."""
    model = small(init=init, tie_embeddings=tie)
    assert abs(float(next_token_loss(model, tokens(64, 32)).detach()) - math.log(V)) <= 0.05


def test_numeric_003_control_wide_init() -> None:
    """Ten times as wide an initialisation misses ln V by more than 0.05."""
    loss = float(next_token_loss(small(init_std=0.2), tokens(64, 32)).detach())
    assert abs(loss - math.log(V)) > 0.05


def leak(model: Gpt) -> float:
    """Largest change of earlier logits when later tokens change."""
    first, second = tokens(), tokens(seed=9)
    cut = 7
    second[:, :cut] = first[:, :cut]
    with torch.no_grad():
        return float((model(first)[:, :cut] - model(second)[:, :cut]).abs().max())


def future_gradient(model: Gpt) -> float:
    """Largest gradient of an early logit with respect to a later token's vector."""
    held: list[Tensor] = []

    def hold(_module: Any, _inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        held.append(output)

    handle = model.embedding.token.register_forward_hook(hold)
    model(tokens())[:, 6].square().sum().backward()
    handle.remove()
    (vectors,) = held
    assert vectors.grad is not None
    assert vectors.grad[:, :7].abs().max() > 0
    return float(vectors.grad[:, 7:].abs().max())


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", ["fused", "explicit"])
def test_numeric_004_005_nothing_leaks_from_the_future(position: str, kind: str) -> None:
    """Changing later tokens changes earlier logits by exactly 0, and future inputs have a gradient of exactly 0."""
    model = small(position=position, attention=kind, num_kv_heads=2, init_std=0.1)
    assert leak(model) == 0
    assert future_gradient(model) == 0


def test_numeric_004_005_control_mask_one_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A causal mask shifted by one place leaks into logits and gradients."""
    right = attention.causal_bias
    monkeypatch.setattr(attention, "causal_bias", lambda T, S, like: right(T, S, like).roll(-1, 0))
    model = small(attention="explicit", init_std=0.1)
    assert leak(model) > 0
    assert future_gradient(model) > 0


@pytest.mark.fast
@pytest.mark.parametrize("position", POSITIONS)
def test_numeric_008_row_alone_equals_row_in_batch(position: str) -> None:
    """Logits of a row alone and in a batch differ by at most 1e-5."""
    model = small(position=position)
    together = model(tokens())
    alone = torch.cat([model(row[None]) for row in tokens()])
    assert (together - alone).abs().max() <= 1e-5


def test_numeric_008_control_rows_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values taken from another row of the batch miss the tolerance."""
    attend = attention.attend

    def mixed(q: Tensor, k: Tensor, v: Tensor, *rest: Any, **options: Any) -> Tensor:
        return attend(q, k, v.roll(1, 0), *rest, **options)

    monkeypatch.setattr(attention, "attend", mixed)
    test = small(init_std=0.1)
    assert (test(tokens()) - torch.cat([test(row[None]) for row in tokens()])).abs().max() > 1e-5


def final_loss(model: Gpt, steps: int = 200) -> float:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    tokens_BT = tokens(4, 17)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = next_token_loss(model, tokens_BT)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("shape", SHAPES)
def test_numeric_033_overfits_one_batch(shape: dict[str, Any]) -> None:
    """One batch is learned to a loss under 0.05 in 200 steps."""
    assert final_loss(small(**shape)) < 0.05


def test_numeric_033_control_blind_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose places see only themselves doesn't learn the batch."""

    def itself_only(q: Tensor, _k: Tensor, v: Tensor, *_rest: Any, **_options: Any) -> Tensor:
        return v.repeat_interleave(q.shape[1] // v.shape[1], 1)

    monkeypatch.setattr(attention, "attend", itself_only)
    assert final_loss(small(position="none")) > 0.05


# ----------------------------------------------------------------------------------------------------------- tying


@pytest.mark.fast
def test_numeric_041_tied_weights_are_one_storage_after_load_and_copy() -> None:
    """Tied weights are one storage after loading, copying and changing the number type."""
    first, second = small(0), small(1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for model in (second, copy.deepcopy(second), second.double()):
        assert model.head_weight is model.embedding.token.weight
        assert sum("embedding.token" in name or "head" in name for name in model.state_dict()) == 1
    before = second.logits(torch.ones(1, 64, dtype=torch.float64))
    with torch.no_grad():
        second.embedding.token.weight.mul_(2)
    assert torch.equal(second.logits(torch.ones(1, 64, dtype=torch.float64)), 2 * before)


def test_numeric_041_control_free_head_is_another_storage() -> None:
    """A head that isn't tied has a storage of its own."""
    model = small(tie_embeddings=False)
    assert model.head_weight.data_ptr() != model.embedding.token.weight.data_ptr()


# --------------------------------------------------------------------------------------------------------- details


def test_soft_cap_bounds_the_logits() -> None:
    plain, capped = small(init_std=2.0), small(init_std=2.0, logit_soft_cap=3.0)
    assert plain(tokens()).abs().max() > 3
    assert torch.allclose(capped(tokens()), 3 * torch.tanh(plain(tokens()) / 3))


def test_logits_are_fp32_under_autocast() -> None:
    model = small()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(tokens())
    assert half.dtype == torch.float32
    assert (half - model(tokens())).abs().max() < 0.05


@pytest.mark.fast
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"d_model": 100, "num_heads": 3}, r"num_heads 3 .*d_model 100"),
        ({"num_heads": 4, "num_kv_heads": 3}, r"num_kv_heads 3 .*num_heads 4"),
        ({"d_model": 12, "num_heads": 4}, "head width 3"),
        ({"position": "learned", "max_sequence_length": None}, "needs a length"),
    ],
)
def test_fault_066_sizes_that_do_not_fit(fields: dict[str, Any], named: str) -> None:
    """A model whose sizes don't fit is refused as a recipe error with the numbers that clash."""
    with pytest.raises(RecipeError, match=named):
        small(**fields)


def test_too_long_for_a_learned_table() -> None:
    with pytest.raises(RecipeError, match=r"33 tokens.*32 rows"):
        small(position="learned")(tokens(1, 33))


def test_same_seed_same_weights() -> None:
    for first, second in itertools.pairwise([small(3), small(3)]):
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(small(3).head_weight, small(4).head_weight)


@pytest.mark.parametrize("part", ["attention", "feedforward", "embedding", "output"])
def test_each_dropout_acts_in_training_only(part: str) -> None:
    model = small(**{f"{part}_dropout": 0.5})
    quiet = small()
    assert not torch.equal(model(tokens()), quiet(tokens()))
    assert torch.equal(model.eval()(tokens()), quiet(tokens()))
