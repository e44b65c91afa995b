"""Fused attention equals explicit attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from trifecta.errors import ResourceError
from trifecta.execution.attention import choose_attention, require_attention, slow_attention
from trifecta.models import Gpt
from trifecta.nn import attention
from trifecta.nn.attention import attend
from trifecta.nn.position import MASKED, alibi_bias

TOLERANCE = 1e-5


def qkv(T: int, S: int, H: int = 4, groups: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    heads = ((H, T), (H // groups, S), (H // groups, S))
    q, k, v = (torch.randn(2, h, length, 8, generator=generator) for h, length in heads)
    return q, k, v


@pytest.mark.fast
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("T", "S"), [(9, 9), (1, 9), (4, 9), (1, 1)])
@pytest.mark.parametrize("alibi", [False, True])
def test_numeric_032_fused_equals_explicit(groups: int, T: int, S: int, alibi: bool) -> None:
    """Fused attention equals the explicit one to 1e-5, for every grouping of heads, with and without ALiBi and earlier
    tokens."""
    q, k, v = qkv(T, S, groups=groups)
    bias = alibi_bias(4, T, S, q) if alibi else None
    assert (attend(q, k, v, bias) - attend(q, k, v, bias, explicit=True)).abs().max() <= TOLERANCE


@pytest.mark.parametrize("position", ["rope", "alibi", "learned"])
def test_numeric_032_whole_model_and_gradients(position: str) -> None:
    """Logits and gradients of a model with fused attention equal those with explicit attention, to 1e-5 of the largest
    value (at least 1)."""
    results = []
    for kind in ("fused", "explicit"):
        torch.manual_seed(0)
        model = Gpt(
            31, d_model=32, num_heads=4, num_kv_heads=2, num_layers=2, d_ff=64, dropout=0.0, position=position,
            max_sequence_length=16, attention=kind, init_std=0.1,
        )  # fmt: skip
        logits = model(torch.arange(32).view(2, 16) % 31)
        logits.logsumexp(-1).sum().backward()
        results.append([logits.detach(), *(p.grad for p in model.parameters())])
    for fused, explicit in zip(*results, strict=True):
        assert (fused - explicit).abs().max() <= TOLERANCE * max(1.0, float(explicit.abs().max()))


@pytest.mark.parametrize("explicit", [False, True])
def test_numeric_032_fully_masked_row_is_finite(explicit: bool) -> None:
    """A row in which everything is masked has a finite output and finite gradients."""
    q, k, v = qkv(3, 5)
    for tensor in (q, k, v):
        tensor.requires_grad_()
    bias = torch.zeros(3, 5)
    bias[1] = MASKED
    out = attend(q, k, v, bias, explicit=explicit)
    out.sum().backward()
    assert out.isfinite().all()
    assert all(tensor.grad.isfinite().all() for tensor in (q, k, v))


def test_numeric_032_control_forgotten_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention without its scale misses the tolerance."""
    right: Any = attention._attend_explicitly
    monkeypatch.setattr(attention, "_attend_explicitly", lambda q, *rest: right(q * q.shape[-1] ** 0.5, *rest))
    q, k, v = qkv(9, 9)
    assert (attend(q, k, v) - attend(q, k, v, explicit=True)).abs().max() > TOLERANCE


def test_attention_dropout_on_a_cpu_has_the_right_mean() -> None:
    torch.manual_seed(0)
    q, k, v = qkv(6, 6)
    mean = torch.stack([attend(q, k, v, dropout_rate=0.3) for _ in range(3000)]).mean(0)
    assert (mean - attend(q, k, v)).abs().max() < 0.1


KERNELS = ["flash", "math"]
"""What a CPU has."""


@pytest.mark.fast
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("position", ["rope", "alibi", "learned"])
def test_numeric_032_each_kernel_equals_the_explicit_path(kernel: Any, position: str) -> None:
    """Logits and gradients of a model whose attention is computed by a kernel that was asked for equal those with
    explicit attention, to 1e-5 of the largest value (at least 1)."""
    results = []
    for choice in (kernel, "explicit"):
        torch.manual_seed(0)
        model = Gpt(
            31, d_model=32, num_heads=4, num_kv_heads=2, num_layers=2, d_ff=64, dropout=0.0, position=position,
            max_sequence_length=16, init_std=0.1,
        )  # fmt: skip
        choose_attention(model, choice)
        logits = model(torch.arange(32).view(2, 16) % 31)
        logits.logsumexp(-1).sum().backward()
        results.append([logits.detach(), *(p.grad for p in model.parameters())])
    for fused, explicit in zip(*results, strict=True):
        assert (fused - explicit).abs().max() <= TOLERANCE * max(1.0, float(explicit.abs().max()))


@pytest.mark.fast
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_kernel_that_was_asked_for_is_the_one_that_computes(kernel: Any) -> None:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        attend(*qkv(9, 9), kernel=kernel)
    names = {event.name for event in seen.events() or ()}
    assert ("aten::_scaled_dot_product_flash_attention_for_cpu" in names) == (kernel == "flash")
    assert ("aten::_scaled_dot_product_attention_math" in names) == (kernel == "math")


@pytest.mark.fast
def test_kernels_that_a_cpu_lacks_are_refused() -> None:
    cpu = torch.device("cpu")
    for choice, dropout, bias, why in (
        ("efficient", 0.0, False, "exists on CUDA alone"),
        ("flash", 0.1, False, "knows no dropout on a CPU"),
        ("flash", 0.0, True, "knows no relative positions that are learned"),
    ):
        with pytest.raises(ResourceError, match=why):
            require_attention(choice, cpu, dropout=dropout, trained_bias=bias)  # type: ignore[arg-type]
    for choice in ("auto", "math", "explicit", "flash"):
        require_attention(choice, cpu, dropout=0.0, trained_bias=False)  # type: ignore[arg-type]
    with pytest.raises(ResourceError, match="the attention kernel 'efficient' can't compute"):
        attend(*qkv(9, 9), kernel="efficient")


@pytest.mark.fast
@pytest.mark.parametrize(("length", "dropout", "warned"), [(1024, 0.1, True), (1023, 0.1, False), (4096, 0.0, False)])
def test_dropout_over_long_sequences_on_a_cpu_is_warned_of(length: int, dropout: float, warned: bool) -> None:
    assert bool(slow_attention(torch.device("cpu"), length, dropout)) == warned
    assert slow_attention(torch.device("cuda"), length, dropout) is None
