"""LoRA: exactly the base at first, the same when merged, and as many numbers as the paper says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trifecta.inference.decoder import Decoder
from trifecta.models import MODELS, part_sizes, roles
from trifecta.models.layers import freeze_trained
from trifecta.nn import lora
from trifecta.nn.lora import LoraLinear, add_lora, lora_layers, merge, merged_state

pytestmark = pytest.mark.fast

KINDS = ("gpt", "bert", "t5")
ALL = ("query", "key", "value", "out", "up", "down", "gate")
SMALL: dict[str, Any] = {"d_model": 16, "num_heads": 2, "num_layers": 2, "d_ff": 24, "dropout": 0.0}


def model_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[kind](19, **SMALL, **({"position": "rope"} if kind != "t5" else {}))


def scores(model: nn.Module, kind: str) -> Tensor:
    tokens_BT = torch.randint(19, (2, 9), generator=torch.Generator().manual_seed(1))
    scores_BTV: Tensor = model(tokens_BT, tokens_BT) if kind == "t5" else model(tokens_BT)
    return scores_BTV


def with_lora(kind: str, targets: tuple[str, ...] = ALL, *, moved: bool = False, **changes: Any) -> nn.Module:
    """moved: B away from 0, as after training."""
    model = model_of(kind)
    add_lora(model, **({"rank": 3, "alpha": 6.0, "dropout": 0.0, "targets": targets} | changes))
    if moved:
        for _, layer in lora_layers(model):
            nn.init.normal_(layer.lora_b, 0.0, 0.3)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_at_first_the_scores_are_those_of_the_base_exactly(kind: str) -> None:
    model = with_lora(kind, dropout=0.3)
    assert torch.equal(scores(model, kind), scores(model_of(kind), kind))


def test_control_a_b_away_from_zero_is_noticed() -> None:
    assert not torch.equal(scores(with_lora("gpt", moved=True), "gpt"), scores(model_of("gpt"), "gpt"))


@pytest.mark.parametrize("kind", KINDS)
def test_merged_the_scores_stay(kind: str) -> None:
    model = with_lora(kind, moved=True)
    before = scores(model, kind)
    state = merged_state(model.state_dict(), 2.0)
    merge(model)
    assert not any(lora_layers(model))
    torch.testing.assert_close(scores(model, kind), before, rtol=0, atol=1e-5)
    plain = model_of(kind)
    assert plain.state_dict().keys() == state.keys()
    plain.load_state_dict(state)
    torch.testing.assert_close(scores(plain, kind), before, rtol=0, atol=1e-5)


def test_control_a_merge_without_the_scale_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_lora("gpt", moved=True)
    before = scores(model, "gpt")

    def unscaled(layer: LoraLinear) -> nn.Linear:
        linear = nn.Linear(layer.in_features, layer.out_features)
        linear.weight, linear.bias = nn.Parameter(layer.weight + layer.lora_b @ layer.lora_a), layer.bias
        return linear

    monkeypatch.setattr(LoraLinear, "merged", unscaled)
    merge(model)
    assert (scores(model, "gpt") - before).abs().max() > 1e-3


def test_by_hand() -> None:
    """x = (1, 2), W = 0, A = (1, 1), B = (1, 0), alpha / rank = 3: y = (9, 0)."""
    layer = LoraLinear(nn.Linear(2, 2, bias=False), rank=1, alpha=3.0, dropout=0.0)
    with torch.no_grad():
        layer.weight.zero_()
        layer.lora_a.fill_(1.0)
        layer.lora_b.copy_(torch.tensor([[1.0], [0.0]]))
    assert layer(torch.tensor([1.0, 2.0])).tolist() == [9.0, 0.0]


@pytest.mark.parametrize(("kind", "layers"), [("gpt", 2), ("bert", 2), ("t5", 6)])
def test_parameters_of_rank_r_are_r_times_in_plus_out(kind: str, layers: int) -> None:
    """For queries and values of every attention; a T5 has two blocks of one attention and two of two."""
    model = with_lora(kind, ("query", "value"))
    freeze_trained(model)
    for _, layer in lora_layers(model):
        layer.lora_a.requires_grad_(), layer.lora_b.requires_grad_()
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trained == part_sizes(model)["adapter"] == layers * 2 * 3 * (16 + 16)
    assert {roles(model)[name] for name, _ in model.named_parameters() if ".lora_" in name} == {"matrix"}


def test_targets_are_found_by_name_and_only_in_blocks() -> None:
    assert {name for name, _ in lora_layers(with_lora("gpt", ("up",)))} == {
        f"blocks.{i}.feedforward.up" for i in range(2)
    }
    crossing = {name for name, _ in lora_layers(with_lora("t5", ("key",)))}
    assert {"encoder.blocks.1.attention.key", "decoder.blocks.0.cross.key"} < crossing
    assert len(crossing) == 6


def test_gradients_reach_b_at_once_and_a_after_it() -> None:
    model = with_lora("gpt", ("query",))
    scores(model, "gpt").square().sum().backward()
    (_, layer), *_ = lora_layers(model)
    assert layer.lora_b.grad is not None
    assert layer.lora_b.grad.abs().max() > 0
    assert layer.lora_a.grad is not None
    assert layer.lora_a.grad.abs().max() == 0


def test_dropout_falls_on_the_matrices_alone() -> None:
    model = with_lora("gpt", moved=True, dropout=0.5)
    once, again = scores(model, "gpt"), scores(model, "gpt")
    assert not torch.equal(once, again)
    model.eval()
    assert torch.equal(scores(model, "gpt"), scores(model, "gpt"))


def test_the_fast_decoder_leaves_a_model_with_lora_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It packs weights by itself and would leave A and B out."""
    model: Any = with_lora("gpt", moved=True)
    assert Decoder.of(model) is None
    merge(model)
    assert Decoder.of(model) is not None
    monkeypatch.setattr("trifecta.inference.decoder.lora_layers", lambda _: iter(()))
    assert Decoder.of(with_lora("gpt", moved=True)) is not None, "the planted bug"  # type: ignore[arg-type]


def test_the_names_of_the_matrices_are_those_of_the_layer() -> None:
    layer = LoraLinear(nn.Linear(2, 2), rank=1, alpha=1.0, dropout=0.0)
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias", lora.A, lora.B}
