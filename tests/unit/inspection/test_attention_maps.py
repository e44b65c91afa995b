"""Attention maps are the weights with which each head mixes its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import trifecta
from trifecta.inspection.attention_maps import attention_maps, plot_attention
from trifecta.nn.attention import Attention

pytestmark = pytest.mark.fast

KINDS: dict[str, dict[str, Any]] = {
    "rope": {"model.position": "rope"},
    "learned": {"model.position": "learned"},
    "alibi": {"model.position": "alibi"},
    "grouped": {"model.num_kv_heads": 1},
    "bert": {"model.type": "bert"},
}


def model_of(kind: str) -> Any:
    small = {"model.d_model": 16, "model.num_heads": 2, "model.num_layers": 2, "model.d_ff": 16}
    return trifecta.build(20, settings=small | {"data.sequence_length": 9} | KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_maps_times_values_are_what_attention_gives(kind: str) -> None:
    """Softmax rows that, times each head's values, are what the layer hands to its projection."""
    model = model_of(kind).eval()
    tokens_BT = torch.arange(12).view(2, 6)
    given: dict[str, torch.Tensor] = {}
    values: dict[str, torch.Tensor] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, Attention):
            layer.out.register_forward_pre_hook(lambda _m, a, name=name: given.update({name: a[0]}))
            layer.value.register_forward_hook(lambda _m, _a, out, name=name: values.update({name: out}))
    maps = attention_maps(model, tokens_BT)
    assert len(maps) == 2 == len(given)
    for name, map_BHTS in maps.items():
        assert map_BHTS.shape == (2, 2, 6, 6)
        assert torch.allclose(map_BHTS.sum(-1), torch.ones(2, 2, 6), atol=1e-5)
        v_BHSK = values[name].view(2, 6, -1, 8).transpose(1, 2)
        v_BHSK = v_BHSK.repeat_interleave(2 // v_BHSK.shape[1], 1)
        mixed_BTD = (map_BHTS @ v_BHSK).transpose(1, 2).flatten(2)
        assert torch.allclose(mixed_BTD, given[name], atol=1e-5)
        if kind != "bert":
            assert map_BHTS.triu(1).abs().max() == 0


def test_control_maps_of_another_scale_are_noticed() -> None:
    model = model_of("rope").eval()
    tokens_BT = torch.arange(6)[None]
    maps = attention_maps(model, tokens_BT)
    for layer in model.modules():
        if isinstance(layer, Attention):
            layer.scale = 1.0
    assert any(
        not torch.allclose(a, b, atol=1e-3)
        for a, b in zip(maps.values(), attention_maps(model, tokens_BT).values(), strict=True)
    )


def test_the_model_is_left_as_it_was_and_the_picture_is_drawn(tmp_path: Path) -> None:
    model = model_of("learned").train()
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    maps = attention_maps(model, torch.arange(4)[None])
    assert model.training
    assert [len(module._forward_pre_hooks) for module in model.modules()] == hooks
    assert plot_attention(maps, list("abcd"), tmp_path / "maps.png").stat().st_size > 1000
