"""Optimizers against torch, against hand-worked figures, and group membership."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from trifecta.optim import OPTIMIZERS, Optimizers, Trainable
from trifecta.optim.gradients import clip_norm, global_norm
from trifecta.optim.muon import Muon, orthogonalise

ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
MUON = ADAM | {
    "momentum": 0.95, "nesterov": True, "newton_schulz_steps": 5, "weight_decay": 0.1, "adamw_learning_rate_ratio": 0.5,
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "adamw": ADAM | {"weight_decay": 0.1},
    "adam": ADAM,
    "muon": MUON,
    "sgd": {"momentum": 0.9, "nesterov": False, "weight_decay": 0.1},
    "lion": {"beta_1": 0.9, "beta_2": 0.99, "weight_decay": 0.1},
    "adafactor": {
        "decay_exponent": 0.8, "epsilon": 1e-30, "minimal_scale": 1e-3, "clip_threshold": 1.0, "scale_parameter": True,
        "relative_step": True, "weight_decay": 0.1,
    },
    "custom": {"class_name": "torch.optim.RMSprop", "arguments": {"alpha": 0.9, "weight_decay": 0.1}},
}  # fmt: skip


def one_parameter(value: float, role: str = "matrix", dtype: torch.dtype = torch.float64) -> Trainable:
    parameter = nn.Parameter(torch.full((1, 1), value, dtype=dtype))
    return Trainable({"w": parameter}, {"w": role})


def small() -> Trainable:
    torch.manual_seed(0)
    shapes = {"a": (6, 4), "b": (4, 6), "c": (6, 4), "emb": (9, 4), "norm": (4,), "bias": (6,)}
    roles = {"a": "matrix", "b": "matrix", "c": "matrix", "emb": "embedding", "norm": "norm", "bias": "bias"}
    return Trainable({n: nn.Parameter(torch.randn(*s)) for n, s in shapes.items()}, roles)


def set_gradients(trainable: Trainable, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in trainable.parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


@pytest.mark.fast
def test_numeric_018_adamw_by_hand() -> None:
    """One AdamW step equals the step worked by hand, to 1e-12."""
    trainable = one_parameter(0.5)
    optimizers = OPTIMIZERS["adamw"](trainable, 3e-4, **ADAM, weight_decay=0.01)
    trainable.parameters["w"].grad = torch.full((1, 1), 0.2, dtype=torch.float64)
    optimizers.step()
    m_hat, v_hat = 0.02 / 0.1, 4e-5 / 0.001
    wanted = 0.5 - 3e-4 * 0.01 * 0.5 - 3e-4 * m_hat / (v_hat**0.5 + 1e-8)
    assert trainable.parameters["w"].item() == pytest.approx(wanted, abs=1e-12)
    assert wanted == pytest.approx(0.4996985, abs=1e-7)


@pytest.mark.fast
def test_numeric_018_control_decay_after_the_step_differs() -> None:
    """Weight decay after the step gives 0.8550 where the right order gives 0.8500."""
    trainable = one_parameter(1.0)
    optimizers = OPTIMIZERS["adamw"](trainable, 0.1, **ADAM, weight_decay=0.5)
    trainable.parameters["w"].grad = torch.full((1, 1), 0.2, dtype=torch.float64)
    optimizers.step()
    assert trainable.parameters["w"].item() == pytest.approx(0.85, abs=1e-6)
    after = (1.0 - 0.1) * (1 - 0.1 * 0.5)
    assert after == pytest.approx(0.855)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_numeric_018_ten_steps_equal_torch(name: str) -> None:
    """Ten AdamW steps equal torch's, to 1e-6."""
    ours, theirs = small(), small()
    options: dict[str, dict[str, float | bool]] = {
        "adamw": ADAM | {"weight_decay": 0.1},
        "adam": ADAM,
        "sgd": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    }
    optimizers = OPTIMIZERS[name](ours, 1e-2, **options[name])
    decayed = [p for n, p in theirs.parameters.items() if theirs.roles[n] in ("matrix", "embedding")]
    rest = [p for n, p in theirs.parameters.items() if theirs.roles[n] not in ("matrix", "embedding")]
    groups = [{"params": decayed, "weight_decay": 0.1 if name != "adam" else 0}, {"params": rest, "weight_decay": 0}]
    reference: torch.optim.Optimizer
    if name == "sgd":
        reference = torch.optim.SGD(groups, lr=1e-2, momentum=0.9, nesterov=True, foreach=False)
    else:
        reference = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.999), eps=1e-8, foreach=False)
    for step in range(10):
        set_gradients(ours, step)
        set_gradients(theirs, step)
        optimizers.step()
        reference.step()
    for key, parameter in ours.parameters.items():
        torch.testing.assert_close(parameter, theirs.parameters[key], rtol=1e-6, atol=1e-7)


def test_muon_equals_torch_muon_on_single_matrices() -> None:
    ours, theirs = small(), small()
    matrices = [ours.parameters[n] for n in "abc"]
    mine = Muon(
        [{"params": matrices, "weight_decay": 0.1}], lr=1e-2, momentum=0.95, nesterov=True, newton_schulz_steps=5
    )
    reference = torch.optim.Muon(
        [theirs.parameters[n] for n in "abc"], lr=1e-2, momentum=0.95, nesterov=True, ns_steps=5, weight_decay=0.1,
        adjust_lr_fn="match_rms_adamw",
    )  # fmt: skip
    for step in range(5):
        set_gradients(ours, step)
        set_gradients(theirs, step)
        mine.step()
        reference.step()
    for name in "abc":  # torch iterates in bf16: equal to its precision
        torch.testing.assert_close(ours.parameters[name], theirs.parameters[name], rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 4, 16), (2, 16, 4)])
def test_orthogonalise_brings_singular_values_near_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(*shape), 8))
    assert values.min() > 0.6
    assert values.max() < 1.3


@pytest.mark.fast
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_numeric_019_every_parameter_is_in_one_group_and_norms_and_biases_never_decay(name: str) -> None:
    """Under every optimizer each parameter is in exactly one group, and norms and biases never decay."""
    options = OPTIONS[name]
    trainable = small()
    groups = [g for part in OPTIMIZERS[name](trainable, 0.1, **options).parts for g in part.param_groups]
    names = {p: n for n, p in trainable.parameters.items()}
    found = sorted(names[p] for group in groups for p in group["params"])
    assert found == sorted(trainable.parameters)
    for group in groups:
        for p in group["params"]:
            decays = trainable.roles[names[p]] in ("matrix", "embedding") and name != "adam"
            assert group["weight_decay"] == (0.1 if decays else 0.0)


@pytest.mark.fast
def test_numeric_019_control_a_forgotten_or_doubled_parameter_is_noticed() -> None:
    """A parameter in no group, or in two, is refused."""
    trainable = small()
    everything = list(trainable.parameters.values())
    for wrong in (everything[:-1], [*everything]):
        parts: list[torch.optim.Optimizer] = [torch.optim.SGD(wrong, lr=0.1)]
        if len(wrong) == len(everything):
            parts.append(torch.optim.SGD(everything[:1], lr=0.1))
        with pytest.raises(AssertionError, match="exactly one"):
            Optimizers(parts, trainable)


@pytest.mark.fast
def test_numeric_021_clipping() -> None:
    """The norm of the gradients is right to 1e-6; gradients below the threshold stay untouched."""
    trainable = small()
    set_gradients(trainable, 0)
    parameters = list(trainable.parameters.values())
    before = [p.grad.clone() for p in parameters if p.grad is not None]
    exact = torch.cat([g.double().flatten() for g in before]).norm()
    norm = float(global_norm(parameters))
    assert norm == pytest.approx(float(exact), rel=1e-6)
    clip_norm(norm * 2)(parameters, norm, 1)
    for p, gradient in zip(parameters, before, strict=True):
        assert torch.equal(p.grad, gradient), "below the limit nothing is touched"  # type: ignore[arg-type]
    clip_norm(1.0)(parameters, norm, 1)
    assert float(global_norm(parameters)) == pytest.approx(1.0, rel=1e-6)


def test_group_008_gradient_of_norm_1000_is_scaled_by_a_thousandth() -> None:
    parameter = nn.Parameter(torch.zeros(4))
    parameter.grad = torch.full((4,), 500.0)
    clip_norm(1.0)([parameter], float(global_norm([parameter])), 1)
    assert torch.equal(parameter.grad, torch.full((4,), 0.5))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_round_trip_continues_bit_for_bit(name: str) -> None:
    options = OPTIONS[name]
    one, two = small(), small()
    first = OPTIMIZERS[name](one, 0.01, **options)
    for step in range(3):
        set_gradients(one, step)
        first.step()
    second = OPTIMIZERS[name](two, 0.01, **options)
    second.load_state_tensors({k: v.clone() for k, v in first.state_tensors().items()})
    for key, parameter in two.parameters.items():
        parameter.data.copy_(one.parameters[key])
    for step in range(3, 6):
        for trainable, optimizers in ((one, first), (two, second)):
            set_gradients(trainable, step)
            optimizers.step()
    for key, parameter in one.parameters.items():
        assert torch.equal(parameter, two.parameters[key])


@pytest.mark.fast
def test_numeric_021_control_clipping_each_tensor_by_itself_is_noticed() -> None:
    """Clipping each tensor by itself gives another norm."""
    trainable = small()
    set_gradients(trainable, 0)
    parameters = list(trainable.parameters.values())
    for p in parameters:
        torch.nn.utils.clip_grad_norm_([p], 1.0)
    assert float(global_norm(parameters)) != pytest.approx(1.0, rel=1e-6)
