"""Optimizers by the name of their class: what is taken, what is refused and why, and their state on resume."""

from __future__ import annotations

import importlib
import site
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trifecta.optim import Optimizers, Trainable, foreign
from trifecta.optim.custom import Unfit, check, custom

SOURCE = '''
import torch

class Plain(torch.optim.Optimizer):
    """Sign descent with a count of steps in Python, in the state and in the groups."""
    def __init__(self, params, lr=0.1, pull=0.0):
        super().__init__(params, {"lr": lr, "pull": pull})
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            group["k"] = group.get("k", 0) + 1
            for p in group["params"]:
                state = self.state[p]
                state["count"] = state.get("count", 0) + 1
                state["speed"] = state.get("speed", 1.0) * 0.9
                state["done"] = state["count"] > 2
                state["mean"] = None
                p.sub_(group["lr"] * state["speed"] / group["k"] * p.grad.sign())

class Lists(Plain):
    def step(self):
        super().step()
        for p in self.param_groups[0]["params"]:
            self.state[p]["past"] = [1, 2]

class Hidden(Plain):
    def step(self):
        self.secret = getattr(self, "secret", 0) + 1
        for group in self.param_groups:
            for p in group["params"]:
                p.data.sub_(group["lr"] * self.secret * p.grad)

class NoRate(torch.optim.Optimizer):
    def __init__(self, params, speed=0.1):
        super().__init__(params, {"speed": speed})

class Needy(Plain):
    def __init__(self, params, lr, horizon):
        super().__init__(params, lr)

class NoOptimizer:
    pass
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in a folder where packages are installed."""
    (tmp_path / "own_optimizers.py").write_text(SOURCE)
    (tmp_path / "broken_optimizers.py").write_text("import no_such_thing\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(tmp_path))
    importlib.invalidate_caches()
    yield "own_optimizers"
    for name in ("own_optimizers", "broken_optimizers"):
        sys.modules.pop(name, None)


def weights() -> Trainable:
    shapes = {"a": (6, 4), "b": (4, 6), "emb": (9, 4), "norm": (4,), "bias": (6,)}
    roles = {"a": "matrix", "b": "matrix", "emb": "embedding", "norm": "norm", "bias": "bias"}
    generator = torch.Generator().manual_seed(0)
    return Trainable({n: nn.Parameter(torch.randn(*s, generator=generator)) for n, s in shapes.items()}, roles)


def run(optimizers: Optimizers, trainable: Trainable, numbers: range) -> None:
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        for p in trainable.parameters.values():
            p.grad = torch.randn(p.shape, generator=generator)
        optimizers.set_learning_rate(0.01 / (number + 1))
        optimizers.step()


def resumed_equals_whole(class_name: str, arguments: dict[str, Any], forget: str = "") -> None:
    """Three updates, a save, three more by another one: the bytes of six in one go, weights and state."""
    one, two = weights(), weights()
    first = custom(one, 0.01, class_name=class_name, arguments=arguments)
    run(first, one, range(3))
    saved = {k: v.clone() for k, v in first.state_tensors().items() if not (forget and forget in k)}
    second = custom(two, 0.01, class_name=class_name, arguments=arguments)
    assert second.misfits(saved) == []
    second.load_state_tensors(saved)
    for name, p in two.parameters.items():
        p.data.copy_(one.parameters[name].data)
    run(first, one, range(3, 6))
    run(second, two, range(3, 6))
    for name, p in one.parameters.items():
        assert torch.equal(p, two.parameters[name]), name
    ours, theirs = first.state_tensors(), second.state_tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in ours)


TORCHS: dict[str, dict[str, Any]] = {
    "RMSprop": {"alpha": 0.9, "momentum": 0.5, "centered": True, "weight_decay": 0.1},
    "NAdam": {}, "RAdam": {}, "Adamax": {}, "Adadelta": {}, "Adagrad": {}, "ASGD": {}, "Rprop": {},
    "Adam": {"betas": [0.8, 0.9], "amsgrad": True}, "AdamW": {"fused": True}, "SGD": {"momentum": 0.9},
    "Adafactor": {},
}  # fmt: skip


@pytest.mark.parametrize("name", TORCHS)
def test_torchs_own_are_resumed_exactly(name: str) -> None:
    resumed_equals_whole(f"torch.optim.{name}", TORCHS[name])


def test_numbers_in_state_and_in_groups_are_resumed_exactly(installed: str) -> None:
    resumed_equals_whole(f"{installed}.Plain", {})
    optimizers = custom(trainable := weights(), 0.01, class_name=f"{installed}.Plain", arguments={})
    run(optimizers, trainable, range(2))
    state = optimizers.state_tensors()
    assert {key for key in state if key.startswith(("a/", "group"))} == {
        "a/count:int", "a/speed:float", "a/done:bool", "a/mean:none", "group 0/k:int", "group 1/k:int",
    }  # fmt: skip
    assert (int(state["a/count:int"]), float(state["a/speed:float"])) == (2, 0.81)


@pytest.mark.parametrize("forget", ["/count", "/speed", "group 0/k"])
def test_numbers_control_state_forgotten_on_resume_is_noticed(installed: str, forget: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        resumed_equals_whole(f"{installed}.Plain", {}, forget)


def test_a_state_without_one_parameters_part_is_refused() -> None:
    optimizers = custom(trainable := weights(), 0.01, class_name="torch.optim.NAdam", arguments={})
    run(optimizers, trainable, range(1))
    state = optimizers.state_tensors()
    some = {key: value for key, value in state.items() if not key.startswith("emb/")}
    assert optimizers.misfits(some) == ["emb has no state"]
    assert optimizers.misfits(state | {"emb/exp_avg": torch.full((9, 4), float("nan"))}) == [
        "emb/exp_avg holds NaN or infinity"
    ]
    assert optimizers.misfits(state | {"other/exp_avg": torch.ones(2)}) == [
        "other/exp_avg is of no parameter of this model"
    ]


@pytest.mark.parametrize("arguments", [{"weight_decay": 0.1}, {}])
@pytest.mark.parametrize("name", ["AdamW", "RMSprop"])
def test_weight_decay_spares_norms_and_biases(name: str, arguments: dict[str, Any]) -> None:
    """Also where the decay is the class's own default, as AdamW's 0.01."""
    trainable = weights()
    (part,) = custom(trainable, 0.01, class_name=f"torch.optim.{name}", arguments=arguments).parts
    decays = {p: group["weight_decay"] for group in part.param_groups for p in group["params"]}
    wanted = arguments.get("weight_decay", 0.01 if name == "AdamW" else 0.0)
    assert {n: decays[p] for n, p in trainable.parameters.items()} == {
        "a": wanted, "b": wanted, "emb": wanted, "norm": 0.0, "bias": 0.0,
    }  # fmt: skip


def test_a_class_without_decay_gets_none(installed: str) -> None:
    (part,) = custom(weights(), 0.01, class_name=f"{installed}.Plain", arguments={}).parts
    assert all("weight_decay" not in group for group in part.param_groups)


def test_arguments_reach_the_class() -> None:
    (part,) = custom(weights(), 0.01, class_name="torch.optim.Adam", arguments={"betas": [0.5, 0.6]}).parts
    assert [group["betas"] for group in part.param_groups] == [(0.5, 0.6)] * 2


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("torch.optim.NAdm", {}, "class_name", "torch.optim has no 'NAdm'; did you mean 'NAdam'"),
    ("torch.optm.NAdam", {}, "class_name", "torch.optm can't be imported: No module named 'torch.optm'"),
    ("no_such_package.A", {}, "class_name", "no module 'no_such_package' is installed"),
    ("os.system", {}, "class_name", "os is a part of Python"),
    ("sys.exit", {}, "class_name", "sys is a part of Python"),
    ("torch.nn.Linear", {}, "class_name", "torch.nn.Linear is no torch.optim.Optimizer"),
    ("torch.optim.RMSprop", {"alhpa": 0.9}, "arguments.alhpa", "takes no 'alhpa'; did you mean 'alpha'"),
    ("torch.optim.RMSprop", {"lr": 0.9}, "arguments.lr", "lr can't be an argument"),
    ("torch.optim.RMSprop", {"params": 0.9}, "arguments.params", "params can't be an argument"),
    ("torch.optim.RMSprop", {"alpha": -1}, "arguments", "can't be used: Invalid alpha value"),
    ("torch.optim.RMSprop", {"alpha": "x"}, "arguments", "can't be used: "),
    ("torch.optim.LBFGS", {}, "class_name", "can't be used: "),
    ("torch.optim.SparseAdam", {}, "class_name", "can't be used: SparseAdam does not support dense gradients"),
    ("torch.optim.Muon", {}, "class_name", "can't be used: Muon only supports 2D parameters"),
    ("torch.optim.Optimizer", {}, "class_name", "torch.optim.Optimizer takes no lr"),
    ("own_optimizers.Lists", {}, "class_name", "keeps 'past' of matrix as list"),
    ("own_optimizers.Hidden", {}, "class_name", "keeps something outside of its state"),
    ("own_optimizers.NoRate", {}, "class_name", "takes no lr"),
    ("own_optimizers.Needy", {}, "class_name", "needs horizon"),
    ("own_optimizers.NoOptimizer", {}, "class_name", "is no torch.optim.Optimizer"),
    ("broken_optimizers.A", {}, "class_name", "can't be imported: No module named 'no_such_thing'"),
]  # fmt: skip


@pytest.mark.parametrize(("class_name", "arguments", "key", "what"), REFUSED)
def test_what_is_refused(class_name: str, arguments: dict[str, Any], key: str, what: str, installed: str) -> None:
    del installed
    with pytest.raises(Unfit) as caught:
        check(class_name, arguments)
    assert (caught.value.key, what in caught.value.what) == (key, True), caught.value.what
    assert caught.value.fix


def test_a_file_on_the_path_that_is_not_installed_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe in a folder beside somebody's file must not run that file."""
    (tmp_path / "beside.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n{SOURCE}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(Unfit, match="beside is not an installed module"):
        check("beside.Plain", {})
    assert not (tmp_path / "ran").exists()
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(tmp_path))
    check("beside.Plain", {})
    assert (tmp_path / "ran").exists(), "the control: installed, it is imported"
    sys.modules.pop("beside")


def test_the_trial_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    check("torch.optim.NAdam", {})
    assert torch.equal(torch.rand(3), wanted)


def test_settings_that_stay_are_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizers = custom(trainable := weights(), 0.01, class_name="torch.optim.Adam", arguments={})
    run(optimizers, trainable, range(2))
    assert not [key for key in optimizers.state_tensors() if key.startswith("group")]
    monkeypatch.setattr(foreign, "_OURS", frozenset({"params"}))
    assert [key for key in optimizers.state_tensors() if key.startswith("group")], "the control: lr counted as state"
