"""Adversaries: their formulas where the worst change is known, the size of the gradient, what they leave alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from objectives import objective
from torch import Tensor, nn

from trifecta.models import MODELS, roles
from trifecta.objectives import LossModule
from trifecta.optim import OPTIMIZERS, Trainable, perturbations
from trifecta.optim.perturbations import ADVERSARIES, Micro, Passes, ascent, fgm, freelb, pgd, plain, within
from trifecta.training.step import update
from trifecta.types import LossSum

pytestmark = pytest.mark.fast

B, T, D = 3, 4, 5
OPTIONS: dict[str, dict[str, Any]] = {
    "fgm": {"epsilon": 0.3, "weight": 0.5},
    "pgd": {"epsilon": 0.3, "weight": 0.5, "steps": 3, "step_size": 0.2},
    "freelb": {"epsilon": 0.3, "steps": 3, "step_size": 0.2},
}


class Line(nn.Module):
    """sum(w * x) over positions and features: the worst change of a row is along w, wherever it is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(7, D)
        self.w = nn.Parameter(torch.randn(T, D))
        self.seen: list[Tensor] = []

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        self.seen.append(x.detach())
        return (x * self.w).sum((1, 2))


def passes_over(line: Line, passes: Passes) -> LossSum:
    tokens = torch.randint(7, (B, T), generator=torch.Generator().manual_seed(1))
    return passes(
        Micro(
            forward=lambda: LossSum({"x": (line(tokens).sum(), B)}),
            share=lambda result: result.terms["x"][0] / B,
            backward=lambda share, factor: (share * factor).backward(),  # type: ignore[no-untyped-call]
        )
    )


def along(line: Line, length: float) -> Tensor:
    """The worst change of this length, (T, D)."""
    w = line.w.detach()
    return w * (length / w.norm())


def test_fgm_adds_the_worst_change_of_length_epsilon() -> None:
    line = Line()
    result = passes_over(line, fgm(line.embedding, epsilon=0.3, weight=0.25))
    clean, attacked = line.seen
    assert torch.allclose(attacked - clean, along(line, 0.3).expand(B, T, D), atol=1e-6)
    assert float(result.terms["x"][0].detach()) == pytest.approx(float((clean * line.w).sum().detach()), rel=1e-5)
    assert line.w.grad is not None
    assert torch.allclose(line.w.grad, (0.75 * clean + 0.25 * attacked).mean(0), atol=1e-6)


def test_pgd_walks_to_the_rim_and_leaves_no_gradient_on_the_way() -> None:
    line = Line()
    passes_over(line, pgd(line.embedding, epsilon=0.3, weight=0.25, steps=3, step_size=0.2))
    clean, first, second, last = line.seen
    for seen, length in ((first, 0.2), (second, 0.3), (last, 0.3)):
        assert torch.allclose(seen - clean, along(line, length).expand(B, T, D), atol=1e-6)
    assert line.w.grad is not None
    assert torch.allclose(line.w.grad, (0.75 * clean + 0.25 * last).mean(0), atol=1e-6)


def test_freelb_averages_along_the_way_from_a_random_place() -> None:
    line = Line()
    torch.manual_seed(3)
    passes_over(line, freelb(line.embedding, epsilon=0.5, steps=3, step_size=0.1))
    clean, first, second, third = line.seen
    assert 0 < float((first - clean).abs().max()) <= 0.5 / (T * D) ** 0.5
    assert torch.allclose(second - first, along(line, 0.1).expand(B, T, D), atol=1e-6)
    assert torch.allclose(third - second, along(line, 0.1).expand(B, T, D), atol=1e-6)
    assert line.w.grad is not None
    assert torch.allclose(line.w.grad, ((first + second + third) / 3).mean(0), atol=1e-6)


def test_lengths_are_those_of_rows() -> None:
    x = torch.randn(4, 2, 3)
    x[1] = 0
    made = ascent(x, 0.7)
    assert made.flatten(1).norm(dim=1).tolist() == pytest.approx([0.7, 0.0, 0.7, 0.7])
    short = within(x, 1.0)
    assert (short.flatten(1).norm(dim=1) <= 1 + 1e-6).all()
    assert torch.equal(within(x * 1e-3, 1.0), x * 1e-3)


def updated(kind: str, passes: Callable[[Any], Passes], batches: int = 1) -> tuple[float, dict[str, Tensor]]:
    """Loss and weights after one plain SGD update of a small model."""
    torch.manual_seed(0)
    made = objective({"gpt": "causal", "bert": "masked", "t5": "span"}[kind], 12)
    model = MODELS[kind](made.vocabulary.size, d_model=16, num_heads=2, num_layers=1, d_ff=16, dropout=0.1)
    import numpy as np

    rng = np.random.default_rng(0)
    data = [made.corrupt(made.prepare(rng.integers(0, 256, made.window)), rng) for _ in range(4)]
    micro = [made.collate(data[i::batches]) for i in range(batches)]
    optimizers = OPTIMIZERS["sgd"](
        Trainable(dict(model.named_parameters()), roles(model)), 0.1, momentum=0.0, nesterov=False, weight_decay=0.0
    )
    done = update(
        LossModule(model, made), optimizers, micro, number=1, learning_rate=0.1, transforms=(), seed=1,
        device=torch.device("cpu"), autocast=nullcontext, passes=passes(model),
    )  # fmt: skip
    return done.loss, {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("kind", ["gpt", "bert", "t5"])
@pytest.mark.parametrize("name", OPTIONS)
def test_an_adversary_changes_the_update_of_every_architecture(kind: str, name: str) -> None:
    loss, weights = updated(kind, lambda _: plain)
    other, attacked = updated(kind, lambda model: ADVERSARIES[name](model.embedding, **OPTIONS[name]))
    assert any(not torch.equal(weights[key], attacked[key]) for key in weights)
    if name == "freelb":
        assert other == pytest.approx(loss, rel=0.1)
    else:
        assert other == loss, "what is reported is the loss without the change"
    again = updated(kind, lambda model: ADVERSARIES[name](model.embedding, **OPTIONS[name]))[1]
    assert all(torch.equal(attacked[key], again[key]) for key in attacked)


def test_a_change_of_nothing_is_the_plain_update() -> None:
    """epsilon near 0: both passes have the same dropout, and their shares add up to 1."""
    _, weights = updated("gpt", lambda _: plain)
    _, attacked = updated("gpt", lambda model: fgm(model.embedding, epsilon=1e-12, weight=0.5))
    assert all(torch.allclose(weights[key], attacked[key], atol=1e-6) for key in weights)


def test_control_other_dropout_in_the_second_pass_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def once(seed: int, number: int, micro_step: int) -> None:
        if not calls:
            torch.manual_seed(seed + number + micro_step)
        calls.append(1)

    monkeypatch.setattr("trifecta.training.step.seed_dropout", once)
    with pytest.raises(AssertionError):
        test_a_change_of_nothing_is_the_plain_update()


def test_control_a_step_down_the_gradient_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = perturbations.ascent
    monkeypatch.setattr(perturbations, "ascent", lambda gradient, length: right(-gradient, length))
    with pytest.raises(AssertionError):
        test_fgm_adds_the_worst_change_of_length_epsilon()


def test_control_gradients_of_the_way_that_stay_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    grad = torch.autograd.grad

    def staying(outputs: Tensor, inputs: list[Tensor], *options: Any, **more: Any) -> Any:
        outputs.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        return grad(outputs, inputs, *options, **more)

    monkeypatch.setattr(torch.autograd, "grad", staying)
    with pytest.raises(AssertionError):
        test_pgd_walks_to_the_rim_and_leaves_no_gradient_on_the_way()


@pytest.mark.parametrize("name", ["fgm", "pgd"])
def test_batches_by_accumulation_are_the_one_big_batch(name: str) -> None:
    """At dropout 0: rows are attacked by themselves. (FreeLB draws its places for each micro-batch.)"""
    one, two = (updated("gpt", lambda model: _without_dropout(model, name), batches)[1] for batches in (1, 2))
    assert all(torch.allclose(one[key], two[key], atol=1e-5) for key in one)


def _without_dropout(model: Any, name: str) -> Passes:
    for module in model.modules():
        if hasattr(module, "rate"):
            module.rate = 0.0
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    return ADVERSARIES[name](model.embedding, **OPTIONS[name])
