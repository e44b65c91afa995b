"""Moments of each way in which matrices begin, by the formulas of its paper."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from trifecta.nn.init import initialise

FAN_IN, FAN_OUT, STD = 300, 500, 0.03
TRUNCATED = 0.8796
"""Standard deviation of a standard normal variable within +-2."""

# scheme -> standard deviation and largest amount
MOMENTS: dict[str, tuple[float, float]] = {
    "normal": (STD, math.inf),
    "truncated_normal": (TRUNCATED * STD, 2 * STD),
    "xavier": (math.sqrt(2 / (FAN_IN + FAN_OUT)), math.sqrt(6 / (FAN_IN + FAN_OUT))),
    "xavier_normal": (math.sqrt(2 / (FAN_IN + FAN_OUT)), math.inf),
    "he_uniform": (math.sqrt(2 / FAN_IN), math.sqrt(6 / FAN_IN)),
    "he_normal": (math.sqrt(2 / FAN_IN), math.inf),
    "orthogonal": (1 / math.sqrt(FAN_OUT), 1.0),
    "depth_scaled": (STD, math.inf),
    "zero_residual": (math.sqrt(1 / FAN_IN), math.sqrt(3 / FAN_IN)),
    "t5": (math.sqrt(1 / FAN_IN), math.inf),
}


def drawn(scheme: str) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Module()
    model.token = nn.Embedding(400, 50)
    model.up = nn.Linear(FAN_IN, FAN_OUT)
    model.head = nn.Linear(FAN_IN, FAN_OUT, bias=False)
    initialise(model, scheme, std=STD, num_layers=2)
    return model


def assert_moments(scheme: str, draw: Callable[[str], nn.Module] = drawn) -> None:
    model = draw(scheme)
    weight = model.get_parameter("up.weight").detach()
    deviation, most = MOMENTS[scheme]
    assert float(weight.std()) == pytest.approx(deviation, rel=0.01)
    assert abs(float(weight.mean())) < 4 * deviation / math.sqrt(weight.numel())
    assert float(weight.abs().max()) <= most * (1 + 1e-6)
    if math.isinf(most):
        assert float(weight.abs().max()) > 3.5 * deviation, "not normal"
        kurtosis = float((weight / weight.std()).pow(4).mean())
        assert kurtosis == pytest.approx(3.0, rel=0.05)
    assert not model.get_parameter("up.bias").any()


@pytest.mark.parametrize("scheme", MOMENTS)
def test_moments(scheme: str) -> None:
    assert_moments(scheme)


def test_moments_control_fans_the_other_way_round_are_noticed() -> None:
    def transposed(_: str) -> nn.Module:
        model = drawn("normal")
        nn.init.kaiming_normal_(model.get_parameter("up.weight"), mode="fan_out", nonlinearity="relu")
        return model

    with pytest.raises(AssertionError):
        assert_moments("he_normal", transposed)


def test_orthogonal_columns_and_rows() -> None:
    weight = drawn("orthogonal").get_parameter("up.weight").detach()
    torch.testing.assert_close(weight.T @ weight, torch.eye(FAN_IN), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scheme", MOMENTS)
def test_embeddings_and_head(scheme: str) -> None:
    model = drawn(scheme)
    truncated = TRUNCATED if scheme == "truncated_normal" else 1.0
    assert float(model.get_parameter("token.weight").detach().std()) == pytest.approx(truncated * STD, rel=0.02)
    head = {"zero_residual": 0.0, "t5": FAN_IN**-0.5}.get(scheme, truncated * STD)
    assert float(model.get_parameter("head.weight").detach().std()) == pytest.approx(head, rel=0.02)
