"""Optimizers and schedules written as objects: AdamW(learning_rate=ExponentialDecay(2e-5, 10000, 0.96), clipnorm=1.0).

An object is Python's syntax for a call with literals, read and never run, and means the keys that one could have
written instead. Values by position are as in Keras. Keras' schedules become schedules of their own, which have Keras'
values (trifecta/optim/keras.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from trifecta.errors import RecipeError, did_you_mean
from trifecta.recipe.keys import components
from trifecta.recipe.literals import Call, Value, parse
from trifecta.recipe.tree import Node, Origin, Path, clip, describe, plain

Leaf = tuple[str, Path, Node]
"""How a leaf was spelled, the path it means, and the leaf."""

OPTIMIZER, SCHEDULER, RATE = "training.optimizer", "training.scheduler", "training.learning_rate"

BATCH_SIZE, FIT_BATCH = "training.batch_size", ("execution", "fit_batch")
NAMED_NULLS: Mapping[str, str] = {RATE: "auto"}
"""What is written where a key's value is None and a bare null would be taken for a value that was forgotten."""

OPTIMIZER_NAMES: Mapping[str, str] = {
    "AdamW": "adamw", "Adam": "adam", "SGD": "sgd", "Lion": "lion", "Adafactor": "adafactor", "Muon": "muon",
}  # fmt: skip
SCHEDULE_NAMES: Mapping[str, str] = {
    "ExponentialDecay": "exponential_decay", "CosineDecay": "cosine_decay",
    "PiecewiseConstantDecay": "piecewise_constant_decay",
}  # fmt: skip

_POSITIONS: Mapping[str, tuple[str, ...]] = {
    "adam": ("learning_rate", "beta_1", "beta_2", "epsilon"),
    "adamw": ("learning_rate", "weight_decay", "beta_1", "beta_2", "epsilon"),
    "sgd": ("learning_rate", "momentum", "nesterov", "weight_decay"),
    "lion": ("learning_rate", "beta_1", "beta_2"),
    "exponential_decay": ("initial_learning_rate", "decay_steps", "decay_rate", "staircase"),
    "cosine_decay": ("initial_learning_rate", "decay_steps", "alpha"),
    "piecewise_constant_decay": ("boundaries", "values"),
}
"""What values without a name mean, as in Keras; others take a learning rate."""

_MORE: Mapping[str, tuple[str, ...]] = {"cosine_decay": ("warmup_target", "warmup_steps")}
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "exponential_decay": ("initial_learning_rate", "decay_steps", "decay_rate"),
    "cosine_decay": ("initial_learning_rate", "decay_steps"),
    "piecewise_constant_decay": ("boundaries", "values"),
}
_CLIPPING = ("clipnorm", "global_clipnorm", "clipvalue")
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_DOUBLES = 15
"""Digits with which every decimal number comes back from a float."""


def lowered(key: str, path: Path, leaf: Node) -> Iterator[Leaf]:
    """The leaves that a leaf means: itself, unless an object stands where an optimizer, schedule or rate does.

    Args:
        key: the canonical key. path: as it was spelled.

    Raises:
        RecipeError: at its column, if the object can't be read.
    """
    spelling = ".".join(path)
    text = leaf.value
    if key == BATCH_SIZE and text == "auto":
        yield spelling, FIT_BATCH, replace(leaf, value=True)
    elif not isinstance(text, str) or key not in (OPTIMIZER, SCHEDULER, RATE):
        yield spelling, path, leaf
    elif "(" in text:
        call = parse(text, leaf.origin)
        make = _optimizer if key == OPTIMIZER else _schedule
        yield from make(call, spelling)
    elif key == OPTIMIZER and _CLASS.fullmatch(text):
        yield spelling, (*OPTIMIZER.split("."), "type"), replace(leaf, value="custom")
        yield spelling, (*OPTIMIZER.split("."), "class_name"), leaf
    else:
        yield spelling, path, leaf


# ----------------------------------------------------------------------------------------------------- optimizers


def _optimizer(call: Call, spelling: str) -> Iterator[Leaf]:
    if "." in call.name:
        yield from _custom(call, spelling)
        return
    type_ = _type_of(call, OPTIMIZER, OPTIMIZER_NAMES)
    options = components()[OPTIMIZER].options
    own = [*(name for name in options[type_].model_fields if name != "type"), "learning_rate", *_CLIPPING]
    others = {name for option in options.values() for name in option.model_fields}  # the schema says whose they are
    given = _bound(call, _POSITIONS.get(type_, ("learning_rate",)), own, others - {"type", "class_name", "arguments"})
    yield spelling, (*OPTIMIZER.split("."), "type"), _node(type_, call.origin)
    if type_ == "sgd" and "momentum" not in given:  # Keras' SGD has none unless it is asked for
        given["momentum"] = _node(0.0, call.origin)
    for name, value in given.items():
        yield from _argument(name, value, f"{spelling}.{name}", (*OPTIMIZER.split("."), name))


def _custom(call: Call, spelling: str) -> Iterator[Leaf]:
    """Any class: its own arguments, and lr or learning_rate and the clipping that are the recipe's."""
    if call.positional:
        raise _error("write arguments of a class with their names", call.positional[0], "write name=value")
    section = tuple(OPTIMIZER.split("."))
    yield spelling, (*section, "type"), _node("custom", call.origin)
    yield spelling, (*section, "class_name"), _node(call.name, call.origin)
    for name, value in _named(call).items():
        if name in ("lr", "learning_rate"):
            yield from _argument("learning_rate", value, f"{spelling}.{name}", (*section, "learning_rate"))
        elif isinstance(value, Call):
            raise _error(f"{name}: an object can't stand here", value, "only a learning rate can be an object")
        else:
            yield f"{spelling}.{name}", (*section, *([] if name in _CLIPPING else ["arguments"]), name), value


def _argument(name: str, value: Value, spelling: str, path: Path) -> Iterator[Leaf]:
    if not isinstance(value, Call):
        yield spelling, path, value
    elif name == "learning_rate":
        yield from _schedule(value, f"{spelling}={value.name}")
    else:
        raise _error(f"{name}: an object can't stand here", value, "only a learning rate can be an object")


# ------------------------------------------------------------------------------------------------------ schedules


def _schedule(call: Call, spelling: str) -> Iterator[Leaf]:
    type_ = _type_of(call, SCHEDULER, SCHEDULE_NAMES)
    fields = [name for name in components()[SCHEDULER].options[type_].model_fields if name != "type"]
    lower = _KERAS.get(type_) if call.name in SCHEDULE_NAMES else None
    if lower is None:
        given = _bound(call, (), fields)
    else:
        given = _bound(call, _POSITIONS[type_], [*_POSITIONS[type_], *_MORE.get(type_, ())])
        for name in _NEEDED[type_]:
            if name not in given:
                raise _error(f"{call.name} needs {name}", call, f"add {name}=...")
    literal: dict[str, Node] = {}
    for name, value in given.items():
        if isinstance(value, Call):
            raise _error(f"{name}: an object can't stand here", value, "write a number")
        literal[name] = value
    keys = literal if lower is None else lower(literal)
    yield spelling, (*SCHEDULER.split("."), "type"), _node(type_, call.origin)
    for name, node in keys.items():
        yield spelling, tuple(RATE.split(".")) if name == "learning_rate" else (*SCHEDULER.split("."), name), node


def _exponential(given: dict[str, Node]) -> dict[str, Node]:
    return {{"initial_learning_rate": "learning_rate"}.get(name, name): node for name, node in given.items()}


def _cosine(given: dict[str, Node]) -> dict[str, Node]:
    """warmup_target is the peak, where there is one; the first rate is then a share of it."""
    target, warmup = given.pop("warmup_target", None), given.get("warmup_steps")
    first = given.pop("initial_learning_rate")
    if target is None or target.value is None:
        if warmup is not None and warmup.value:
            raise _error("warmup_steps acts only with warmup_target", warmup, "add warmup_target, or remove it")
        given.pop("warmup_steps", None)
        return {"learning_rate": first, **given}
    if warmup is None or not warmup.value:
        raise _error("warmup_target acts only with warmup_steps", target, "add warmup_steps, or remove it")
    ratio = _ratio(_number(first, "initial_learning_rate"), _number(target, "warmup_target"))
    return {"learning_rate": target, **given, "start_ratio": replace(first, value=ratio)}


def _piecewise(given: dict[str, Node]) -> dict[str, Node]:
    """The largest value is the peak, the others are shares of it."""
    values = given["values"]
    items = values.value
    if not isinstance(items, list) or not items:
        raise _error(
            f"values: should be a list of numbers, found {describe(plain(values))}", values, "write [1e-4, 5e-5]"
        )
    peak = max(items, key=lambda item: _number(item, "values"))
    highest = _number(peak, "values")
    factors: list[Node] = [replace(item, value=_ratio(_number(item, "values"), highest)) for item in items]
    return {"learning_rate": peak, "boundaries": given["boundaries"], "factors": replace(values, value=factors)}


_KERAS: Mapping[str, Callable[[dict[str, Node]], dict[str, Node]]] = {
    "exponential_decay": _exponential, "cosine_decay": _cosine, "piecewise_constant_decay": _piecewise,
}  # fmt: skip


def _ratio(value: float, peak: float) -> float:
    """value / peak, as the shortest number whose product with the peak is the value, if there is one."""
    if not peak:
        return 0.0
    exact = value / peak
    short = float(f"{exact:.{_DOUBLES}g}")
    return short if abs(peak * short - value) <= abs(peak * exact - value) else exact


def _number(node: Node, name: str) -> float:
    if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
        raise _error(f"{name}: should be a number, found {describe(plain(node))}", node, "write a number like 1e-4")
    try:
        return float(node.value)
    except OverflowError:
        raise _error(f"{name}: too large a number", node, "write a number like 1e-4") from None


# ------------------------------------------------------------------------------------------------------- binding


def _type_of(call: Call, component: str, names: Mapping[str, str]) -> str:
    known = {**names, **{option: option for option in components()[component].options if option != "custom"}}
    if call.name in known:
        return known[call.name]
    what = component.rpartition(".")[2]
    if call.name == "HPO":
        raise _error("HPO is not supported yet", call, "write a number")
    same = [f"did you mean {name!r}?" for name in known if name.lower() == call.name.lower()]
    hint = same[0] if same else did_you_mean(call.name, known)
    listed = ", ".join(names)
    others = {OPTIMIZER: SCHEDULE_NAMES, SCHEDULER: OPTIMIZER_NAMES}[component]
    if call.name in others:
        hint = "it is a schedule" if component == OPTIMIZER else "it is an optimizer"
        listed = f"Adam(learning_rate={call.name}(...))" if component == OPTIMIZER else listed
    raise _error(f"unknown {what} {clip(call.name)!r}; {hint}".rstrip("; "), call, f"use one of: {listed}")


def _bound(
    call: Call, positions: tuple[str, ...], known: list[str], others: AbstractSet[str] = frozenset()
) -> dict[str, Value]:
    """The arguments by name.

    Raises:
        RecipeError: one too many, one that isn't known, or one twice.
    """
    if len(call.positional) > len(positions):
        extra = call.positional[len(positions)]
        takes = f"only {', '.join(positions)}" if positions else "nothing"
        raise _error(f"{call.name} takes {takes} without a name", extra, "write name=value")
    given: dict[str, Value] = dict(zip(positions, call.positional, strict=False))
    for name, value in _named(call).items():
        if name not in known and name not in others:
            hint = did_you_mean(name, known)
            at = {n: o for n, o, _ in call.named}[name]
            what = f"{call.name} takes no {clip(name)!r}; {hint}".rstrip("; ")
            raise _at(at, what, f"use one of: {', '.join(known)}")
        if name in given:
            raise _error(f"{name} is given twice: without its name and with it", value, "keep one of them")
        given[name] = value
    return given


def _named(call: Call) -> dict[str, Value]:
    given: dict[str, Value] = {}
    for name, origin, value in call.named:
        if name in given:
            raise _at(origin, f"{name} is given twice", "keep one of them")
        given[name] = value
    return given


def _node(value: str | float, origin: Origin) -> Node:
    return Node(value, origin, origin)


def _error(what: str, at: Value, fix: str) -> RecipeError:
    return _at(at.origin, what, fix)


def _at(origin: Origin, what: str, fix: str) -> RecipeError:
    return RecipeError(what, where=origin.where, excerpt=origin.excerpt, fix=fix)
