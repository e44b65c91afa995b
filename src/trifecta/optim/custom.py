"""Optimizers by the name of their class: only installed ones, tried out before anything is trained with them."""

from __future__ import annotations

import importlib
import inspect
import json
import site
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import torch

from trifecta.errors import RecipeError, did_you_mean
from trifecta.optim.foreign import Foreign
from trifecta.optim.optimizers import Optimizers, Trainable

_GIVEN = {"params": "leave it out: it gets the model's", "lr": "write training.learning_rate"}
"""Arguments that aren't the recipe's to give, and what to do instead."""

_TRIED_STEPS = 3
_SHAPES = {"matrix": (4, 3), "vector": (3,)}


class Unfit(RecipeError):
    """A class that can't be used; `key` is the part of training.optimizer that says so."""

    def __init__(self, key: str, what: str, fix: str):
        super().__init__(what, fix=fix)
        self.key = key


@dataclass(frozen=True)
class _Found:
    """A class that passed the trial, its arguments, and what the trial showed.

    weight_decay: None where the class has none.
    """

    make: Callable[..., torch.optim.Optimizer]
    weight_decay: float | None
    keeps_state_of_each: bool


def custom(trainable: Trainable, learning_rate: float, *, class_name: str, arguments: Mapping[str, Any]) -> Optimizers:
    """Any installed torch.optim.Optimizer; its weight_decay, if it has one, spares norms and biases.

    Raises:
        Unfit: there is no such class, it takes other arguments, or its state can't be saved and resumed.
    """
    found = check(class_name, arguments)
    groups = trainable.groups(trainable.parameters, found.weight_decay or 0.0)
    if found.weight_decay is None:
        groups = [{name: value for name, value in group.items() if name != "weight_decay"} for group in groups]
    part = Foreign(found.make(groups, lr=learning_rate), keeps_state_of_each=found.keeps_state_of_each)
    return Optimizers([part], trainable)


def check(class_name: str, arguments: Mapping[str, Any]) -> _Found:
    """The class, after a trial of three updates, of which two are made again by another one that got its state.

    Raises:
        Unfit: with the key that is wrong, and why.
    """
    class_ = _class_of(class_name)
    _check_arguments(class_name, class_, arguments)
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}

    def make(groups: Any, *, lr: float) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = class_(groups, lr=lr, **given)
        return optimizer

    try:
        return _tried(class_name, make)
    except Unfit:
        raise
    except Exception as error:
        key = "arguments" if arguments else "class_name"
        said = str(error) or type(error).__name__
        raise Unfit(
            key, f"{class_name} can't be used: {said}", "change its arguments, or choose another class"
        ) from error


def _class_of(class_name: str) -> Callable[..., torch.optim.Optimizer]:
    module_name, _, name = class_name.rpartition(".")
    _require_installed(module_name)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise Unfit("class_name", f"{module_name} can't be imported: {error}", "check the name") from error
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        known = [other for other, value in vars(module).items()
                 if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)]  # fmt: skip
        wrong = f"{module_name} has no {name!r}" if found is None else f"{class_name} is no torch.optim.Optimizer"
        hint = did_you_mean(name, known)
        fix = f"use one of: {', '.join(sorted(known))}" if known else "name a class that is a torch.optim.Optimizer"
        raise Unfit("class_name", f"{wrong}; {hint}".rstrip("; "), fix)
    return found


def _require_installed(module_name: str) -> None:
    """Refuses modules that merely lie in the working folder or on the path: a recipe must not name a file to run."""
    top = module_name.partition(".")[0]
    if top in sys.stdlib_module_names:
        what = f"{top} is a part of Python, which has no optimizers"
        raise Unfit("class_name", what, "write it like torch.optim.NAdam")
    try:
        spec = util.find_spec(top) if top.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise Unfit("class_name", f"no module {top!r} is installed", "install it, or write it like torch.optim.NAdam")
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    folders = _installed_folders()
    if not places or not all(any(Path(place).resolve().is_relative_to(to) for to in folders) for place in places):
        what = f"{top} is not an installed module ({', '.join(places)})"
        raise Unfit("class_name", what, "install it (pip install); a recipe can't name a file to run")


def _installed_folders() -> list[Path]:
    """Where packages are installed, and the sources of those that are installed as editable."""
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}
    folders = [*places, site.getusersitepackages()]
    for distribution in metadata.distributions():
        text = distribution.read_text("direct_url.json")
        try:
            found = json.loads(text) if text else {}
            if found.get("dir_info", {}).get("editable"):
                folders.append(unquote(urlparse(found["url"]).path))
        except (ValueError, KeyError, AttributeError):
            continue
    return [Path(folder).resolve() for folder in folders]


def _check_arguments(class_name: str, class_: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    parameters = dict(inspect.signature(class_).parameters)
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    named = [name for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    free = [name for name in named if name not in _GIVEN]
    if "lr" not in named and not open_ended:
        raise Unfit(
            "class_name", f"{class_name} takes no lr, so it can't follow a learning rate", "choose another class"
        )
    for name in arguments:
        if name in _GIVEN:
            raise Unfit(f"arguments.{name}", f"{name} can't be an argument of {class_name} here", _GIVEN[name])
        if name not in free and not open_ended:
            what = f"{class_name} takes no {name!r}; {did_you_mean(name, free)}".rstrip("; ")
            raise Unfit(f"arguments.{name}", what, f"use one of: {', '.join(free)}")
    missing = [name for name in free if parameters[name].default is inspect.Parameter.empty and name not in arguments]
    if missing:
        raise Unfit("class_name", f"{class_name} needs {', '.join(missing)}", "give it in training.optimizer.arguments")


def _tried(class_name: str, make: Callable[..., torch.optim.Optimizer]) -> _Found:
    first, continued = _Trial(make), _Trial(make)
    first.update(0)
    saved = {key: tensor.clone() for key, tensor in first.optimizers.state_tensors().items()}
    for name, parameter in continued.parameters.items():
        parameter.data.copy_(first.parameters[name].data)
    continued.optimizers.load_state_tensors(saved)
    for number in range(1, _TRIED_STEPS):
        first.update(number)
        continued.update(number)
    if any(not torch.equal(p, continued.parameters[name]) for name, p in first.parameters.items()):
        what = f"{class_name} keeps something outside of its state: a resumed run would not be the same"
        raise Unfit("class_name", what, "choose another class")
    first.optimizers.state_tensors()
    weight_decay = first.optimizer.defaults.get("weight_decay")
    return _Found(
        make,
        float(weight_decay) if isinstance(weight_decay, (int, float)) else None,
        all(first.optimizer.state.get(parameter) for parameter in first.parameters.values()),
    )


class _Trial:
    """A matrix and a vector with an optimizer of their own."""

    def __init__(self, make: Callable[..., torch.optim.Optimizer]):
        self.parameters = {name: torch.nn.Parameter(torch.full(shape, 0.5)) for name, shape in _SHAPES.items()}
        groups = [{"params": list(self.parameters.values()), "lr_ratio": 1.0}]
        self.optimizer = make(groups, lr=0.01)
        trainable = Trainable(self.parameters, dict.fromkeys(self.parameters, "matrix"))
        self.optimizers = Optimizers([Foreign(self.optimizer, keeps_state_of_each=False)], trainable)

    def update(self, number: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            for parameter in self.parameters.values():
                parameter.grad = torch.randn(parameter.shape)
            self.optimizers.step()
