"""The decoder with packed weights writes what the model itself would."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from trifecta.inference import decoder as decoder_module
from trifecta.inference.decoder import FEW, Decoder, SequenceDecoder
from trifecta.inference.generate import generate, generate_batch
from trifecta.models import T5, Gpt
from trifecta.nn.cache import LayerCache, new_cache

pytestmark = pytest.mark.fast
V = 41
VARIANTS: list[dict[str, Any]] = [
    {"position": "rope", "norm": "rmsnorm", "activation": "swiglu", "bias": False},
    {"position": "rope", "norm": "rmsnorm", "activation": "swiglu", "bias": False, "qk_norm": True, "num_kv_heads": 2},
    {"position": "learned", "norm": "layernorm", "activation": "gelu_tanh", "bias": True},
    {"position": "sinusoidal", "norm": "rmsnorm", "activation": "relu2", "bias": True, "tie_embeddings": False},
    {"position": "none", "norm": "layernorm", "activation": "geglu", "bias": False, "num_kv_heads": 1,
     "logit_soft_cap": 5.0},
]  # fmt: skip


def model_of(**changes: Any) -> Gpt:
    torch.manual_seed(0)
    sizes = {"d_model": 32, "num_heads": 4, "num_layers": 3, "d_ff": 48, "dropout": 0.1, "init_std": 0.2}
    model = Gpt(V, **sizes, **({"max_sequence_length": 40} | changes)).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:  # gains of 1 would hide a forgotten one
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def error(model: Gpt, rows: int) -> float:
    """Largest difference of the logits of positions 6..16 when the decoder reads them one by one."""
    tokens_BT = torch.randint(V, (rows, 17), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole_BTV = model(tokens_BT)
        cache = new_cache(len(model.blocks))
        model.hidden(tokens_BT[:, :6], cache)
        decoder = Decoder(model)
        parts = [decoder.logits(tokens_BT[:, position], cache) for position in range(6, 17)]
    return float((torch.stack(parts, 1) - whole_BTV[:, 6:]).abs().max())


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_numeric_006_decoder_equals_model(variant: dict[str, Any], rows: int) -> None:
    """The fast decoder, one position at a time with packed weights, gives the logits of the model to 1e-5."""
    assert error(model_of(**variant), rows) <= 1e-5


@pytest.mark.parametrize("rows", [1, 3])
def test_numeric_006_control_decoder_without_gains_or_with_unswapped_halves(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder without the norms' gains, or with rotary halves not swapped, is off by more than 1e-3."""
    model = model_of(**VARIANTS[0])
    product = decoder_module._product

    def without_gain(weights: Any, biases: Any, _: torch.nn.Module) -> Any:
        plain = torch.nn.Module()
        plain.forward = lambda x: x / x.square().mean(-1, keepdim=True).sqrt()  # type: ignore[method-assign]
        return product(weights, biases, plain)

    with monkeypatch.context() as patched:
        patched.setattr(decoder_module, "_product", without_gain)
        assert error(model, rows) > 1e-3
    monkeypatch.setattr(torch.Tensor, "index_select", lambda self, *_: self)
    assert error(model, rows) > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_tokens_are_those_of_the_model_beyond_the_context_too(
    variant: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(**variant)
    decoded = list(generate(model, [1, 2, 3], max_tokens=90, temperature=0))
    side_by_side = generate_batch(model, [1, 2, 3], num_samples=2, max_tokens=90, temperature=0)
    monkeypatch.setattr(Decoder, "serves", lambda _: False)
    assert decoded == list(generate(model, [1, 2, 3], max_tokens=90, temperature=0))
    assert side_by_side == [decoded, decoded]


def test_the_decoder_is_used_and_leaves_the_rest_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    logits = Decoder.logits

    def counted(self: Decoder, tokens_B: Tensor, cache: list[LayerCache]) -> Tensor:
        calls.append(cache[0].length)
        return logits(self, tokens_B, cache)

    monkeypatch.setattr(Decoder, "logits", counted)
    model = model_of(**VARIANTS[0])
    list(generate(model, [1, 2, 3], max_tokens=20))
    assert calls == list(range(3, 22))
    list(generate(model, [1, 2, 3], max_tokens=FEW))
    list(generate(model_of(position="alibi"), [1, 2, 3], max_tokens=20))
    list(generate(model_of(norm_position="post"), [1, 2, 3], max_tokens=20))
    list(generate(model_of(**VARIANTS[0]).double(), [1, 2, 3], max_tokens=20))
    assert len(calls) == 19


def test_banned_tokens_are_never_decoded() -> None:
    model = model_of(**VARIANTS[0])
    usual = list(generate(model, [1], max_tokens=30, temperature=0))
    banned = sorted(set(usual))
    assert not set(generate(model, [1], max_tokens=30, temperature=0, banned_ids=banned)) & set(banned)


def test_a_model_in_eval_mode_keeps_its_decoder_until_its_weights_change() -> None:
    model = model_of(**VARIANTS[0])
    first = Decoder.of(model)
    assert first is not None
    assert Decoder.of(model) is first
    before = list(generate(model, [1, 2], max_tokens=20, temperature=0))
    with torch.no_grad():
        model.blocks[0].feedforward.up.weight.neg_()
    assert Decoder.of(model) is not first
    assert list(generate(model, [1, 2], max_tokens=20, temperature=0)) != before
    model.blocks[0].feedforward.up.weight = torch.nn.Parameter(model.blocks[0].feedforward.up.weight.detach().clone())
    second = Decoder.of(model)
    model.train()
    assert Decoder.of(model) not in (first, second), "while training, the weights change all the time"
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_a_t5_in_eval_mode_keeps_its_decoder_too_and_is_let_go() -> None:
    model = T5(V, d_model=16, num_heads=2, num_layers=1, d_ff=16).eval()
    assert SequenceDecoder.of(model) is SequenceDecoder.of(model)
    assert SequenceDecoder.of(model) is not None
    assert SequenceDecoder.of(model_of()) is None
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
