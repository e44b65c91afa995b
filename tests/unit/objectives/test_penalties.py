"""Label smoothing and z-loss: torch's figures, in chunks too, on every objective, and only while training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from objectives import causal
from torch import Tensor, nn

from trifecta.models import MODELS
from trifecta.objectives import loss as loss_module
from trifecta.objectives.loss import NO_PENALTIES, LossModule, Penalties, cross_entropy_sum
from trifecta.types import IGNORE

pytestmark = pytest.mark.fast

PENALTIES = [Penalties(0.1), Penalties(0.0, 1e-2), Penalties(0.3, 1e-2)]
V, N, D = 11, 23, 5


def parts(chunk_elements: int, penalties: Penalties, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """The loss, and its gradient at hidden states and head."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, D, generator=generator, dtype=dtype, requires_grad=True)
    weight = nn.Parameter(torch.randn(V, D, generator=generator, dtype=dtype))
    targets = torch.randint(V, (N,), generator=generator)
    targets[[0, 7, 8]] = IGNORE
    loss = cross_entropy_sum(
        hidden, targets, lambda x: x @ weight.T, [weight], vocab_size=V, supervised=N - 3,
        chunk_elements=chunk_elements, penalties=penalties,
    )  # fmt: skip
    return [loss.detach(), *torch.autograd.grad(loss, [hidden, weight])]


def plain(penalties: Penalties, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """The same from torch's cross-entropy and the formula."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, D, generator=generator, dtype=dtype, requires_grad=True)
    weight = nn.Parameter(torch.randn(V, D, generator=generator, dtype=dtype))
    targets = torch.randint(V, (N,), generator=generator)
    targets[[0, 7, 8]] = IGNORE
    logits = hidden @ weight.T
    loss = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=penalties.label_smoothing)
    loss = loss + penalties.z_loss * (logits.exp().sum(-1).log() ** 2)[targets != IGNORE].sum()
    return [loss.detach(), *torch.autograd.grad(loss, [hidden, weight])]


def error(chunk_elements: int, penalties: Penalties) -> float:
    pairs = zip(parts(chunk_elements, penalties), plain(penalties), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


@pytest.mark.parametrize("chunk_elements", [1 << 22, 4 * V])
@pytest.mark.parametrize("penalties", PENALTIES)
def test_numeric_027_penalties_equal_torch(penalties: Penalties, chunk_elements: int) -> None:
    """Label smoothing and z-loss, loss and slopes, ignored targets among them, equal torch's to 1e-6."""
    assert error(chunk_elements, penalties) <= 1e-6
    assert error(chunk_elements, NO_PENALTIES) <= 1e-6
    given, without = parts(chunk_elements, penalties), parts(chunk_elements, NO_PENALTIES)
    assert all(float((a - b).abs().max()) > 1e-3 for a, b in zip(given, without, strict=True))


def test_numeric_027_control_smoothing_that_spares_the_target_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slopes whose smoothed share misses the target itself differ."""
    right = loss_module._loss_and_slopes

    def wrong(logits: Tensor, targets: Tensor, penalties: Penalties, **how: Any) -> Any:
        loss, slopes = right(logits, targets, penalties, **how)
        share = penalties.label_smoothing / logits.shape[1]
        return loss, slopes.scatter_add(
            1, targets[:, None], torch.full_like(targets[:, None], share, dtype=slopes.dtype)
        )

    monkeypatch.setattr(loss_module, "_loss_and_slopes", wrong)
    assert error(4 * V, PENALTIES[0]) > 1e-3


def test_validation_has_none() -> None:
    torch.manual_seed(0)
    objective = causal(8)
    model = MODELS["gpt"](
        objective.vocabulary.size, d_model=8, num_heads=2, num_layers=1, d_ff=8, dropout=0.0, position="rope"
    )
    batch = objective.collate([objective.prepare(torch.randint(256, (9,)).numpy()) for _ in range(3)])
    module = LossModule(model, objective, Penalties(0.2, 1e-2))
    bare = LossModule(model, objective)

    def loss(chosen: LossModule) -> float:
        ((total, _),) = chosen(batch).terms.values()
        return float(total.detach())

    assert loss(module.train()) > loss(bare.train())
    assert loss(module.eval()) == loss(bare.eval())
    assert loss(bare.train()) == loss(bare.eval())
