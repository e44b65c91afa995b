"""Dropout, positions, feed-forward, norms and init by hand-worked values."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifecta.models import Gpt
from trifecta.nn.dropout import Dropout, dropout
from trifecta.nn.feedforward import FeedForward
from trifecta.nn.norm import _RmsNorm, make_norm
from trifecta.nn.position import alibi_bias, alibi_slopes, causal_bias, rotary_table, rotate, sinusoidal_table

# --------------------------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_rate_and_scale(rate: float) -> None:
    torch.manual_seed(0)
    n = 200_000
    out = dropout(torch.ones(n), rate)
    kept = out != 0
    sigma = math.sqrt(rate * (1 - rate) / n)
    assert abs(float(kept.float().mean()) - (1 - rate)) < 4 * sigma
    realised = round(rate * 65536) / 65536
    assert torch.allclose(out[kept], torch.tensor(1 / (1 - realised)))


def test_numeric_001_dropout_gradient_is_the_mask_of_the_forward() -> None:
    """The gradient of dropout is the mask of its forward pass, and passes torch's gradcheck in fp64 (relative 1e-3)."""
    torch.manual_seed(0)
    x = torch.rand(1001, requires_grad=True) + 0.5
    x.retain_grad()
    out = dropout(x, 0.3)
    out.sum().backward()
    assert torch.allclose(x.grad * x, out)

    def seeded(x: Tensor) -> Tensor:
        torch.manual_seed(5)
        return dropout(x, 0.3)

    assert torch.autograd.gradcheck(seeded, torch.rand(3, 7, dtype=torch.float64, requires_grad=True))


def test_dropout_follows_the_default_generator_and_the_mode() -> None:
    layer, x = Dropout(0.4), torch.ones(64)
    outs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outs.append(layer(x))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])
    assert layer.eval()(x) is x


def test_dropout_rates_too_small_or_large_for_16_bits() -> None:
    assert dropout(torch.ones(100), 1e-7).mean() > 0.9
    assert dropout(torch.ones(100), 1 - 1e-7).count_nonzero() == 0


# -------------------------------------------------------------------------------------------------------- positions


def test_rotation_keeps_lengths_and_depends_on_distance_only() -> None:
    table = rotary_table(8, 10000.0)
    q, k = torch.randn(2, 1, 1, 8, generator=torch.Generator().manual_seed(0))

    def score(at_q: int, at_k: int) -> float:
        turned_q, turned_k = rotate(q[None], table(at_q, at_q + 1)), rotate(k[None], table(at_k, at_k + 1))
        assert torch.allclose(turned_q.norm(), q.norm())
        return float((turned_q * turned_k).sum())

    assert abs(score(5, 3) - score(105, 103)) < 1e-5
    assert abs(score(5, 3) - score(5, 4)) > 1e-3


def test_rotation_by_hand() -> None:
    x = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 1, 4)
    turned = rotate(x, rotary_table(4, 10000.0)(3, 4)).flatten()
    assert torch.allclose(turned, torch.tensor([math.cos(3), 0.0, math.sin(3), 0.0]), atol=1e-7)


def test_tables_grow_in_inference_mode_and_serve_training_afterwards() -> None:
    model = Gpt(11, d_model=8, num_heads=2, num_layers=1, d_ff=8)
    with torch.inference_mode():
        model(torch.zeros(1, 300, dtype=torch.int64))
    model(torch.zeros(1, 300, dtype=torch.int64)).sum().backward()


def test_tables_stay_fp32_and_are_never_saved() -> None:
    model = Gpt(11, d_model=8, num_heads=2, num_layers=1, d_ff=8, dropout=0.0)
    assert not any("table" in name for name in model.state_dict())
    model(torch.zeros(1, 4, dtype=torch.int64))
    model.bfloat16()(torch.zeros(1, 4, dtype=torch.int64))
    assert model.rotary.table.dtype == torch.float32


def test_sines_by_hand() -> None:
    row = sinusoidal_table(4)(2, 3)[0]
    assert torch.allclose(row, torch.tensor([math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)]))
    assert sinusoidal_table(5)(0, 1).shape == (1, 5)


def test_alibi_slopes_of_the_paper() -> None:
    assert alibi_slopes(8) == tuple(2.0**-h for h in range(1, 9))
    assert alibi_slopes(12) == (*(2.0**-h for h in range(1, 9)), 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5)


def test_alibi_bias_by_hand() -> None:
    bias = alibi_bias(2, 2, 3, torch.empty(0))
    assert bias[0, :, :].tolist() == [[-0.0625, 0.0, pytest.approx(-1e30)], [-0.125, -0.0625, 0.0]]


def test_causal_bias_of_the_last_queries() -> None:
    assert (causal_bias(2, 4, torch.empty(0)) == 0).tolist() == [[True, True, True, False], [True, True, True, True]]


# ---------------------------------------------------------------------------------------------- feed-forward and norm


@pytest.mark.parametrize(
    ("activation", "by_hand"),
    [
        ("gelu", lambda up, _gate: up * 0.5 * (1 + torch.erf(up / math.sqrt(2)))),
        ("gelu_tanh", lambda up, _gate: 0.5 * up * (1 + torch.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))),
        ("relu", lambda up, _gate: up.clamp(min=0)),
        ("relu2", lambda up, _gate: up.clamp(min=0) ** 2),
        ("swiglu", lambda up, gate: gate * torch.sigmoid(gate) * up),
        ("geglu", lambda up, gate: gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2))) * up),
    ],
)
def test_activations_by_formula(activation: str, by_hand: object) -> None:
    torch.manual_seed(0)
    layer = FeedForward(6, 10, activation=activation, bias=True, dropout=0.0)
    x = torch.randn(4, 6)
    gate = layer.gate(x) if layer.gate is not None else None
    assert (layer.gate is not None) == (activation in ("swiglu", "geglu"))
    assert torch.allclose(layer(x), layer.down(by_hand(layer.up(x), gate)), atol=1e-6)


def test_norms_by_formula() -> None:
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    centred = x - x.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt()
    assert torch.allclose(make_norm("layernorm", 8, 1e-3)(x), expected, atol=1e-6)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt()
    assert torch.allclose(make_norm("rmsnorm", 8, 1e-3)(x), expected, atol=1e-6)


@pytest.mark.parametrize("graded", [True, False])
def test_norms_by_formula_with_gain_and_shift(graded: bool) -> None:
    """Other gains than 1 and shifts than 0, each of its own feature, where gradients are taken and where not."""
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    gain, shift = torch.linspace(0.5, 2.25, 8), torch.linspace(-1.0, 0.75, 8)
    layernorm, rmsnorm = make_norm("layernorm", 8, 1e-3), make_norm("rmsnorm", 8, 1e-3)
    assert isinstance(layernorm, nn.LayerNorm)
    with torch.no_grad():
        layernorm.weight.copy_(gain)
        layernorm.bias.copy_(shift)
        rmsnorm.weight.copy_(gain)
    mean = x.mean(-1, keepdim=True)
    centred = x - mean
    with torch.set_grad_enabled(graded):
        expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt() * gain + shift
        assert torch.allclose(layernorm(x), expected, atol=1e-6)
        expected = x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * gain
        assert torch.allclose(rmsnorm(x), expected, atol=1e-6)
    assert [name for name, _ in rmsnorm.named_parameters()] == ["weight"]


# ------------------------------------------------------------------------------------------------------------- init


def deviations(scheme: str) -> dict[str, float]:
    torch.manual_seed(0)
    model = Gpt(
        400, d_model=128, num_heads=4, num_layers=8, d_ff=256, init=scheme, tie_embeddings=False, position="learned",
        max_sequence_length=64,
    )  # fmt: skip
    assert all(
        not module.bias.any() for module in model.modules() if isinstance(module, nn.Linear) and module.bias is not None
    )
    block = model.blocks[3]
    tensors = {
        "query": block.attention.query.weight,
        "up": block.feedforward.up.weight,
        "out": block.attention.out.weight,
        "down": block.feedforward.down.weight,
        "token": model.embedding.token.weight,
        "position": model.embedding.position.weight,
        "head": model.head.weight,
    }
    return {name: float(tensor.detach().std()) for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("scheme", "query", "up", "out", "down", "head"),
    [
        ("normal", 0.02, 0.02, 0.02, 0.02, 0.02),
        ("xavier", math.sqrt(2 / 256), math.sqrt(2 / 384), math.sqrt(2 / 256), math.sqrt(2 / 384), 0.02),
        ("depth_scaled", 0.02, 0.02, 0.005, 0.005, 0.02),
        ("zero_residual", 128**-0.5, 128**-0.5, 0.0, 0.0, 0.0),
    ],
)
def test_init_table(scheme: str, query: float, up: float, out: float, down: float, head: float) -> None:
    expected = {"query": query, "up": up, "out": out, "down": down, "token": 0.02, "position": 0.02, "head": head}
    assert deviations(scheme) == pytest.approx(expected, rel=0.03)


def test_init_restores_gains_and_shifts() -> None:
    from trifecta.nn.init import initialise

    model = Gpt(11, d_model=8, num_heads=2, num_layers=1, d_ff=8)
    with torch.no_grad():
        model.norm.weight.fill_(3)
        model.norm.bias.fill_(3)
    initialise(model, "normal", std=0.02, num_layers=1)
    assert torch.equal(model.norm.weight, torch.ones(8))
    assert not model.norm.bias.any()
    assert F.layer_norm(torch.ones(8), (8,)).abs().max() == 0


@pytest.mark.fast
def test_numeric_001_rmsnorm_gradcheck_and_torch() -> None:
    """Output and both gradients of our RMSNorm equal torch's to 1e-12 in fp64, and pass torch's gradcheck (relative
    1e-3)."""
    norm = make_norm("rmsnorm", 6, 1e-3).double()
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    x = torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, gain: _RmsNorm.apply(x, gain, 1e-3), (x, norm.weight))
    reference = torch.nn.functional.rms_norm(x, (6,), norm.weight, 1e-3)
    given = torch.randn_like(x)
    for ours, theirs in zip(
        (norm(x), *torch.autograd.grad(norm(x), [x, norm.weight], given)),
        (reference, *torch.autograd.grad(reference, [x, norm.weight], given)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.fast
def test_numeric_001_control_a_norm_without_its_mean_term_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An RMSNorm gradient without its mean term fails gradcheck."""
    gain = torch.ones(6, dtype=torch.float64, requires_grad=True)
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr(torch, "addcmul", lambda first, *_, **__: first)
    assert not torch.autograd.gradcheck(lambda x, gain: _RmsNorm.apply(x, gain, 1e-3), (x, gain), raise_exception=False)
