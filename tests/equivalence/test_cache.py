"""Generation with the key-value cache equals generation without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from trifecta.inference.generate import generate
from trifecta.models import Gpt
from trifecta.nn import cache as cache_module
from trifecta.nn.cache import LayerCache, new_cache

POSITIONS = ["rope", "learned", "sinusoidal", "alibi", "none"]
V = 41


def model_of(position: str, groups: int = 2, **changes: Any) -> Gpt:
    torch.manual_seed(0)
    sizes = {"d_model": 32, "num_heads": 4, "num_layers": 3, "d_ff": 64, "dropout": 0.0, "init_std": 0.2}
    return Gpt(
        V, **sizes, num_kv_heads=4 // groups, position=position, **({"max_sequence_length": 40} | changes)
    ).eval()


def cached_error(model: Gpt, pieces: tuple[int, ...]) -> float:
    """Largest difference of the logits when the input is read in pieces and when it is read at once."""
    tokens_BT = torch.randint(V, (2, sum(pieces)), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = model(tokens_BT)
        cache, parts = new_cache(len(model.blocks)), []
        for piece in tokens_BT.split(list(pieces), 1):
            parts.append(model.logits(model.hidden(piece, cache).hidden_BTD))
    return float((torch.cat(parts, 1) - whole).abs().max())


PIECES = [(1,) * 12, (7, 1, 1, 1), (5, 4, 1, 6), (16,)]


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", ["fused", "explicit"])
def test_numeric_006_cache_equals_full(position: str, groups: int, kind: str) -> None:
    """Logits with the cache, read in pieces of any size, equal those without to 1e-5, in fp64 to 1e-12, for every kind
    of position and head grouping."""
    model = model_of(position, groups, attention=kind, qk_norm=groups == 2)
    assert max(cached_error(model, pieces) for pieces in PIECES) <= 1e-5
    assert max(cached_error(model.double(), pieces) for pieces in PIECES) <= 1e-12


@pytest.mark.fast
@pytest.mark.parametrize("position", POSITIONS)
def test_numeric_006_greedy_tokens_are_identical(position: str) -> None:
    """Greedy generation with the cache writes the same 90 tokens as without, also beyond the end of the context."""
    model = model_of(position)
    cached, full = (
        list(generate(model, [1, 2, 3], max_tokens=90, temperature=0, use_cache=use)) for use in (True, False)
    )
    assert cached == full
    assert len(cached) == 90


def test_numeric_006_control_stale_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that counts one position too few misses the tolerance."""
    stale = property(lambda self: max(0, self.held - 1), lambda self, length: setattr(self, "held", length))
    monkeypatch.setattr(LayerCache, "length", stale, raising=False)
    assert cached_error(model_of("rope"), (7, 1, 1, 1)) > 1e-5


def test_numeric_006_control_lost_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that loses one value misses the tolerance."""
    extend = LayerCache.extend

    def forgetful(self: LayerCache, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        all_keys, all_values = extend(self, keys, values)
        return all_keys, all_values.clone().index_fill_(2, torch.tensor([0]), 0.0)

    monkeypatch.setattr(LayerCache, "extend", forgetful)
    assert cached_error(model_of("alibi"), (7, 1, 1, 1)) > 1e-5


def test_cache_grows_by_blocks_and_keeps_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_BLOCK", 4)
    cache, all_keys = LayerCache(), torch.randn(2, 3, 11, 5)
    for start, stop in ((0, 3), (3, 4), (4, 10), (10, 11)):
        keys, values = cache.extend(all_keys[:, :, start:stop], -all_keys[:, :, start:stop])
        assert torch.equal(keys, all_keys[:, :, :stop])
        assert torch.equal(values, -all_keys[:, :, :stop])
        assert cache.length == stop
        assert cache._keys.shape[2] % 4 == 0
