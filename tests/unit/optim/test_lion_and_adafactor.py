"""Lion against its paper's algorithm, Adafactor against torch's and against its paper's, Nesterov against torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from trifecta.optim import OPTIMIZERS, Optimizers, Trainable

pytestmark = pytest.mark.fast

SHAPES = {"a": (6, 4), "kernel": (5, 3, 2, 2), "emb": (9, 4), "norm": (4,), "bias": (6,), "scalar": ()}
ROLES = {"a": "matrix", "kernel": "matrix", "emb": "embedding", "norm": "norm", "bias": "bias", "scalar": "norm"}
ADAFACTOR: dict[str, Any] = {
    "decay_exponent": 0.8, "epsilon": 1e-30, "minimal_scale": 1e-3, "clip_threshold": 1.0, "scale_parameter": True,
    "relative_step": True, "weight_decay": 0.1,
}  # fmt: skip
LION = {"beta_1": 0.9, "beta_2": 0.99, "weight_decay": 0.1}


def weights(dtype: torch.dtype = torch.float64) -> Trainable:
    generator = torch.Generator().manual_seed(0)
    parameters = {
        name: nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for name, shape in SHAPES.items()
    }
    return Trainable(parameters, ROLES)


def gradient(parameter: torch.Tensor, number: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(number)
    return scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def run(optimizers: Optimizers, trainable: Trainable, steps: int, scale: float = 1.0) -> None:
    for number in range(steps):
        for parameter in trainable.parameters.values():
            parameter.grad = gradient(parameter, number, scale)
        optimizers.step()


# ----------------------------------------------------------------------------------------------------------- Lion


def lion_of_the_paper(p: torch.Tensor, number_of_steps: int, decay: float, sign: float = -1.0) -> torch.Tensor:
    """Algorithm 2 of Chen et al. (2023), with beta_1 0.9, beta_2 0.99 and a rate of 0.01."""
    p, m = p.detach().clone(), torch.zeros_like(p)
    for number in range(number_of_steps):
        g = gradient(p, number)
        c = 0.9 * m + (1 - 0.9) * g
        p = p + sign * 0.01 * (torch.sign(c) - sign * decay * p)
        m = 0.99 * m + (1 - 0.99) * g
    return p


def assert_is_lion(reference: Callable[..., torch.Tensor]) -> None:
    trainable = weights()
    wanted = {
        name: reference(p, 10, 0.1 if ROLES[name] in ("matrix", "embedding") else 0.0)
        for name, p in trainable.parameters.items()
    }
    run(OPTIMIZERS["lion"](trainable, 0.01, **LION), trainable, 10)
    for name, p in trainable.parameters.items():
        torch.testing.assert_close(p.detach(), wanted[name], rtol=1e-12, atol=1e-12)


def test_lion_equals_its_algorithm() -> None:
    assert_is_lion(lion_of_the_paper)


def test_lion_control_a_wrong_sign_and_decay_on_norms_are_noticed() -> None:
    with pytest.raises(AssertionError):
        assert_is_lion(lambda p, steps, decay: lion_of_the_paper(p, steps, decay, sign=1.0))
    with pytest.raises(AssertionError):
        assert_is_lion(lambda p, steps, _: lion_of_the_paper(p, steps, 0.1))


# ------------------------------------------------------------------------------------------------------ Adafactor


def adafactor_of_the_paper(p: torch.Tensor, steps: int, rate: float, shift: int = 0) -> torch.Tensor:
    """Algorithms 4 and 5 of Shazeer and Stern (2018) for one matrix, with outer products written out."""
    p = p.detach().clone()
    row, column = torch.zeros(p.size(0), dtype=p.dtype), torch.zeros(p.size(1), dtype=p.dtype)
    for t in range(1, steps + 1):
        g = gradient(p, t - 1)
        beta = 1 - (t + shift) ** -0.8
        row = beta * row + (1 - beta) * (g**2 + 1e-30).sum(1)
        column = beta * column + (1 - beta) * (g**2 + 1e-30).sum(0)
        u = g / (torch.outer(row, column) / row.sum()).sqrt()
        u = u / max(1.0, float(u.square().mean().sqrt()))
        alpha = max(1e-3, float(p.square().mean().sqrt())) * min(rate, t**-0.5)
        p = p - alpha * u
    return p


def test_adafactor_equals_its_algorithm() -> None:
    trainable = weights()
    wanted = adafactor_of_the_paper(trainable.parameters["a"], 10, 0.5)
    run(OPTIMIZERS["adafactor"](trainable, 0.5, **ADAFACTOR | {"weight_decay": 0.0}), trainable, 10)
    torch.testing.assert_close(trainable.parameters["a"].detach(), wanted, rtol=1e-10, atol=1e-12)
    off_by_one = adafactor_of_the_paper(weights().parameters["a"], 10, 0.5, shift=1)
    assert not torch.allclose(off_by_one, wanted, rtol=1e-6), "the control: decay counted from 0"


@pytest.mark.parametrize("rate", [1e-2, 0.9])
def test_adafactor_equals_torch(rate: float) -> None:
    ours, theirs = weights(), weights()
    decayed = [p for name, p in theirs.parameters.items() if ROLES[name] in ("matrix", "embedding")]
    others = [p for name, p in theirs.parameters.items() if ROLES[name] not in ("matrix", "embedding")]
    reference = torch.optim.Adafactor(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=rate,
        eps=(1e-15, 1e-3), foreach=False,
    )  # fmt: skip
    run(OPTIMIZERS["adafactor"](ours, rate, **ADAFACTOR), ours, 10)
    for number in range(10):
        for p in theirs.parameters.values():
            p.grad = gradient(p, number)
        reference.step()
    for name, p in ours.parameters.items():
        torch.testing.assert_close(p, theirs.parameters[name], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("scale", [0.0, 1e-25, 1e-10, 1e15])
def test_adafactor_stays_finite_for_tiny_and_huge_gradients(scale: float) -> None:
    trainable = weights(torch.float32)
    run(OPTIMIZERS["adafactor"](trainable, 0.01, **ADAFACTOR), trainable, 3, scale)
    assert all(p.isfinite().all() for p in trainable.parameters.values())


def test_adafactors_state_is_small_and_its_shapes_are_checked() -> None:
    trainable = weights()
    optimizers = OPTIMIZERS["adafactor"](trainable, 0.01, **ADAFACTOR)
    run(optimizers, trainable, 1)
    state = optimizers.state_tensors()
    assert {key: tuple(state[key].shape) for key in state if key.startswith(("a/", "kernel/"))} == {
        "a/row": (6, 1), "a/column": (1, 4), "a/step": (),
        "kernel/row": (5, 3, 2, 1), "kernel/column": (5, 3, 1, 2), "kernel/step": (),
    }  # fmt: skip
    assert optimizers.misfits(state) == []
    wrong = state | {"a/row": torch.ones(4, 1), "norm/variance": torch.ones(3), "a/variance": torch.ones(6, 4)}
    assert [problem.partition(" ")[0] for problem in optimizers.misfits(wrong)] == [
        "a/row", "a/variance", "norm/variance",
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------- Nesterov and SGD


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_equals_its_formula(nesterov: bool) -> None:
    """v <- 0.9 v + g; p <- p - rate * (g + 0.9 v with Nesterov, else v), as torch has it."""
    trainable = weights()
    p, v = trainable.parameters["a"].detach().clone(), torch.zeros(6, 4, dtype=torch.float64)
    for number in range(10):
        g = gradient(p, number)
        v = 0.9 * v + g
        p = p - 0.01 * (g + 0.9 * v if nesterov else v)
    options = {"momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.0}
    run(OPTIMIZERS["sgd"](trainable, 0.01, **options), trainable, 10)
    torch.testing.assert_close(trainable.parameters["a"].detach(), p, rtol=1e-12, atol=1e-12)
    other = weights()
    run(OPTIMIZERS["sgd"](other, 0.01, **options | {"nesterov": not nesterov}), other, 10)
    assert not torch.allclose(other.parameters["a"], p, rtol=1e-4), "the control: the other momentum"
