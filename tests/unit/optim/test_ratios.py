"""Learning-rate ratios by parameter, and parameters that aren't there because they are frozen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from trifecta.optim import OPTIMIZERS, Optimizers, Trainable

pytestmark = pytest.mark.fast

ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
OPTIONS: dict[str, dict[str, Any]] = {
    "adamw": ADAM | {"weight_decay": 0.1},
    "adam": ADAM,
    "sgd": {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
    "muon": ADAM | {
        "momentum": 0.95, "nesterov": True, "newton_schulz_steps": 5, "weight_decay": 0.1,
        "adamw_learning_rate_ratio": 0.5,
    },
    "lion": {"beta_1": 0.9, "beta_2": 0.99, "weight_decay": 0.1},
    "adafactor": {
        "decay_exponent": 0.8, "epsilon": 1e-30, "minimal_scale": 1e-3, "clip_threshold": 1.0, "scale_parameter": True,
        "relative_step": True, "weight_decay": 0.1,
    },
    "custom": {"class_name": "torch.optim.RMSprop", "arguments": {"alpha": 0.9, "weight_decay": 0.1}},
}  # fmt: skip
ROLES = {"a": "matrix", "b": "matrix", "emb": "embedding", "norm": "norm", "bias": "bias", "head": "head"}
RATIOS = {"emb": 0.125, "a": 0.25, "bias": 0.25, "b": 0.5}


def trainable(ratios: dict[str, float], without: tuple[str, ...] = ()) -> Trainable:
    """Roles of all, frozen ones included, as `roles` gives them."""
    torch.manual_seed(0)
    shapes = {"a": (6, 4), "b": (6, 4), "emb": (9, 4), "norm": (4,), "bias": (6,), "head": (3, 4)}
    parameters = {name: nn.Parameter(torch.randn(*shape)) for name, shape in shapes.items()}
    return Trainable({n: p for n, p in parameters.items() if n not in without}, ROLES, ratios)


def rates(optimizers: Optimizers, given: Trainable) -> dict[str, float]:
    names = {parameter: name for name, parameter in given.parameters.items()}
    groups = [group for part in optimizers.parts for group in part.param_groups]
    return {names[p]: group["lr"] for group in groups for p in group["params"]}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_gets_its_ratio_exactly(name: str) -> None:
    given = trainable(RATIOS)
    optimizers = OPTIMIZERS[name](given, 1.0, **OPTIONS[name])
    optimizers.set_learning_rate(0.5)
    own = {n: 0.5 if name == "muon" and ROLES[n] != "matrix" else 1.0 for n in ROLES}
    assert rates(optimizers, given) == {n: 0.5 * RATIOS.get(n, 1.0) * own[n] for n in ROLES}
    decays = {
        p: group["weight_decay"] for part in optimizers.parts for group in part.param_groups for p in group["params"]
    }
    for n in ("norm", "bias"):
        assert decays[given.parameters[n]] == 0.0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_step_moves_a_parameter_as_far_as_its_ratio_says(name: str) -> None:
    """Without decay, a step with ratio r is r times the step without one."""
    options = {key: 0.0 if key == "weight_decay" else value for key, value in OPTIONS[name].items()}
    options |= {"arguments": {"alpha": 0.9}} if name == "custom" else {}
    moved = {}
    for ratios in ({}, RATIOS):
        given = trainable(ratios)
        before = {n: p.detach().clone() for n, p in given.parameters.items()}
        optimizers = OPTIMIZERS[name](given, 1.0, **options)
        for n, p in given.parameters.items():
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(len(n)))
        optimizers.set_learning_rate(0.01)
        optimizers.step()
        moved[bool(ratios)] = {n: p.detach() - before[n] for n, p in given.parameters.items()}
    for n in ROLES:
        torch.testing.assert_close(moved[True][n], RATIOS.get(n, 1.0) * moved[False][n], rtol=1e-3, atol=1e-7)


def test_ratios_of_one_leave_the_groups_as_they_were() -> None:
    given = trainable({})
    groups = given.groups(given.parameters, 0.1)
    names = {parameter: name for name, parameter in given.parameters.items()}
    assert [[names[p] for p in group["params"]] for group in groups] == [["a", "b", "emb", "head"], ["norm", "bias"]]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("without", [("a", "b"), ("emb", "norm"), ("a", "b", "emb", "norm", "bias")])
def test_frozen_parameters_have_no_group_and_no_state(name: str, without: tuple[str, ...]) -> None:
    given = trainable(RATIOS, without)
    optimizers = OPTIMIZERS[name](given, 1.0, **OPTIONS[name])
    for p in given.parameters.values():
        p.grad = torch.ones_like(p)
    optimizers.step()
    state = {key: value.clone() for key, value in optimizers.state_tensors().items()}
    assert {key.partition("/")[0] for key in state} <= given.parameters.keys()
    again = OPTIMIZERS[name](trainable(RATIOS, without), 1.0, **OPTIONS[name])
    assert again.misfits(state) == []
    again.load_state_tensors(state)
    if state:
        whole = OPTIMIZERS[name](trainable(RATIOS), 1.0, **OPTIONS[name])
        assert any("has no state" in problem for problem in whole.misfits(state))
