"""Loss under attack: the worst change where it is known, nothing left behind, worse than no change on every model."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from objectives import objective
from torch import Tensor, nn

from trifecta.evaluation import robust
from trifecta.evaluation.evaluate import evaluate
from trifecta.evaluation.robust import Attacked
from trifecta.models import MODELS
from trifecta.objectives import LossModule
from trifecta.optim.perturbations import ascent
from trifecta.types import Batch, LossSum

pytestmark = pytest.mark.fast

B, T, D = 3, 4, 5


class Line(nn.Module):
    """sum(w * x): the worst change of a row is along w."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(7, D)
        self.w = nn.Parameter(torch.randn(T, D))

    def forward(self, batch: Batch) -> LossSum:
        return LossSum({"x": ((self.embedding(batch.inputs["tokens_BT"]) * self.w).sum(), float(B))})


def batch() -> Batch:
    return Batch({"tokens_BT": torch.randint(7, (B, T))}, {}, {"x": float(B)}, samples=B, tokens=B * T)


def measured(module: nn.Module, given: Batch) -> float:
    found = evaluate(module, [given], device=torch.device("cpu"), autocast=nullcontext, text_bytes=None)
    assert found is not None
    return found.loss


def test_the_loss_grows_by_epsilon_times_the_slope() -> None:
    line, given = Line(), batch()
    slope = float(line.w.detach().norm())
    assert measured(Attacked(line, line.embedding, 0.3), given) == pytest.approx(measured(line, given) + 0.3 * slope)
    assert line.w.grad is None


def test_control_an_attack_that_helps_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robust, "ascent", lambda gradient, length: ascent(-gradient, length))
    with pytest.raises(AssertionError):
        test_the_loss_grows_by_epsilon_times_the_slope()


@pytest.mark.parametrize(("kind", "name"), [("gpt", "causal"), ("bert", "masked"), ("t5", "span")])
def test_every_architecture_does_worse_under_attack(kind: str, name: str) -> None:
    made, rng = objective(name, 16), np.random.default_rng(0)
    torch.manual_seed(0)
    model = MODELS[kind](made.vocabulary.size, d_model=16, num_heads=2, num_layers=1, d_ff=16, dropout=0.3)
    examples = [made.corrupt(made.prepare(rng.integers(0, 256, made.window)), rng) for _ in range(4)]
    given, module = made.collate(examples), LossModule(model, made)
    before: list[Tensor] = [p.detach().clone() for p in model.parameters()]
    plain = measured(module, given)
    assert measured(Attacked(module, model.embedding, 1.0), given) > plain + 1e-4
    assert measured(Attacked(module, model.embedding, 1e-9), given) == pytest.approx(plain, rel=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert module.training
