"""Holds a merged tree against the schema, and says everything that is wrong in plain words with its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trifecta.errors import RecipeError, did_you_mean
from trifecta.recipe import conflicts, inert
from trifecta.recipe.aliases import ALIASES, NOT_YET
from trifecta.recipe.keys import KnownKey, children, components, item_of, known_keys, sections
from trifecta.recipe.schema import Recipe
from trifecta.recipe.tree import DEFAULT, Node, Origin, Path, clip, describe, find, leaves, plain, without

_MAX_ROUNDS = 50


def check(tree: Node) -> tuple[Recipe | None, dict[str, Origin], list[RecipeError]]:
    """The recipe, where each written key that takes effect is written, and every error; no recipe where there are any.

    Faulty keys are taken out and the rest is checked again, so that one mistake doesn't hide another.
    """
    tree = _with_types(tree)
    origins = {".".join(path): leaf.origin for path, leaf in leaves(tree) if leaf.mapping is None}
    faults: list[tuple[Origin, RecipeError]] = []
    faulty: set[str] = set()
    recipe = None
    for _ in range(_MAX_ROUNDS):
        try:
            recipe = Recipe.model_validate(plain(tree))
            break
        except ValidationError as problem:
            for details in problem.errors(include_url=False):
                path = _path(details["loc"], tree)
                if details["type"] != "missing" or ".".join(path) not in faulty:  # else it was taken out below
                    faults.append(_explain(details, path, tree))
                faulty.add(".".join(path))
            for path in {_removable(_path(d["loc"], tree), d["type"]) for d in problem.errors(include_url=False)}:
                tree = without(tree, path)
    assert recipe is not None, faults
    faults += conflicts.check(recipe, origins, faulty)
    if faults:
        faults.sort(key=lambda fault: (fault[0].rank, fault[0].line or 0, fault[0].column or 0))
        return None, origins, [error for _, error in faults]
    idle = inert.inert_keys(recipe)
    return inert.normalised(recipe), {key: origin for key, origin in origins.items() if key not in idle}, []


def _with_types(tree: Node) -> Node:
    """The tree with the default `type` in each component that doesn't name one."""
    model = find(tree, ("model", "type"))
    objective = _OBJECTIVE_OF.get(str(model.value)) if model is not None else None
    if objective is not None and find(tree, ("objective", "type")) is None:
        written = find(tree, ("objective",))
        entries = {**((written.mapping if written else None) or {}), "type": Node(objective, DEFAULT, DEFAULT)}
        tree = _put(tree, ("objective",), Node(entries, DEFAULT, DEFAULT))
    if model is not None and model.value == "vit" and find(tree, ("tokenizer",)) is None:
        tree = _put(tree, ("tokenizer",), Node({"type": Node("none", DEFAULT, DEFAULT)}, DEFAULT, DEFAULT))
    for path, component in components().items():
        node = find(tree, tuple(path.split(".")))
        if node is not None and node.mapping is not None and "type" not in node.mapping:
            tree = _put(tree, (*path.split("."), "type"), Node(component.default, DEFAULT, DEFAULT))
    return tree


_OBJECTIVE_OF = {"bert": "masked", "t5": "span", "vit": "images"}
"""What a model learns where nothing is said, if it isn't the schema's default."""


def _put(tree: Node, path: Path, leaf: Node) -> Node:
    entries = dict(tree.mapping or {})
    entries[path[0]] = leaf if len(path) == 1 else _put(entries[path[0]], path[1:], leaf)
    return Node(entries, tree.origin, tree.key_origin)


def _path(loc: tuple[int | str, ...], tree: Node) -> Path:
    """The key's parts of a pydantic location: without the tag that follows a component, and without list indices."""
    path: Path = ()
    for part in loc:
        component = components().get(".".join(path))
        if isinstance(part, int):
            break
        if component is not None and len(component.options) > 1 and part in component.options:
            node = find(tree, (*path, "type"))
            if node is not None and node.value == part:
                continue
        path = (*path, part)
    return path


def _removable(path: Path, kind: str) -> Path:
    """What to take out so that the rest can be checked: a whole component where it lacks a key."""
    return path[:-1] if kind == "missing" else path


def _explain(details: ErrorDetails, path: Path, tree: Node) -> tuple[Origin, RecipeError]:
    kind, key = details["type"], ".".join(path)
    node = find(tree, path)
    if item_of(key) is not None and node is not None:
        return _explain_item(details, key, node)
    if kind == "extra_forbidden":
        assert node is not None, path
        return _error(node.key_origin, *_unknown_key(path, tree))
    if kind == "missing":
        owner = find(tree, (*path[:-1], "type")) or find(tree, path[:-1])
        assert owner is not None, path
        info = _known(key, _type_at(tree, path[:-1]))
        what = f"{key}: missing; {owner.value} needs it ({info.help.rstrip('.')})" if info else f"{key}: missing"
        return _error(owner.origin, what, f"add {path[-1]}")
    assert node is not None, path
    if kind in ("union_tag_invalid", "union_tag_not_found") or (key.endswith(".type") and kind == "literal_error"):
        component = key.removesuffix(".type")
        chosen = find(tree, (*component.split("."), "type"))
        assert chosen is not None, component
        return _error(chosen.origin, *_unknown_name(component, plain(chosen), components()[component].options))
    if key in components() and kind in ("model_type", "model_attributes_type"):
        what = f"{key}: should be a name or a mapping of keys, found {describe(details['input'])}"
        return _error(node.origin, what, f"use one of: {', '.join(components()[key].options)}")
    index = details["loc"][-1]
    if isinstance(index, int) and isinstance(node.value, list):
        return _error(node.value[index].origin, *_wrong_value(key, details, None))
    return _error(node.origin, *_wrong_value(key, details, _known(key, _type_at(tree, path[:-1]))))


def _explain_item(details: ErrorDetails, key: str, node: Node) -> tuple[Origin, RecipeError]:
    """What is wrong in a list of mappings, with the item's number from 1."""
    number = next((part for part in details["loc"] if isinstance(part, int)), None)
    model = item_of(key)
    assert model is not None, key
    if number is None or not isinstance(node.value, list):
        what, _ = _wrong_value(key, details, None)
        return _error(node.origin, what, f"write [{{{next(iter(model.model_fields))}: ...}}, ...]")
    item, name = node.value[number], str(details["loc"][-1])
    if item.mapping is None or name not in item.mapping:
        what = f"{key}[{number + 1}]: should be a mapping of keys, found {describe(plain(item))}"
        return _error(item.origin, what, f"use: {', '.join(model.model_fields)}")
    place = item.mapping[name]
    if details["type"] == "extra_forbidden":
        hint = _without_blank(name) or did_you_mean(name, list(model.model_fields))
        what = f"{key}[{number + 1}]: unknown key {clip(name)!r}; {hint}".rstrip("; ")
        return _error(place.key_origin, what, f"use one of: {', '.join(model.model_fields)}")
    return _error(place.origin, *_wrong_value(f"{key}[{number + 1}].{name}", details, None))


def _error(origin: Origin, what: str, fix: str | None) -> tuple[Origin, RecipeError]:
    return origin, RecipeError(what, where=origin.where, excerpt=origin.excerpt, fix=fix)


def _type_at(tree: Node, path: Path) -> str | None:
    node = find(tree, (*path, "type"))
    return node.value if node is not None and isinstance(node.value, str) else None


def _known(key: str, component: str | None) -> KnownKey | None:
    return next((info for info in known_keys() if info.key == key and info.component in (None, component)), None)


def _unknown_key(path: Path, tree: Node) -> tuple[str, str | None]:
    """An unknown key's message: what else knows it, or the nearest name."""
    section, name = ".".join(path[:-1]), path[-1]
    shown = clip(".".join(path))
    if name in NOT_YET:
        return f"{shown}: not supported yet", "remove it"
    if section in components():
        type_ = _type_at(tree, path[:-1])
        owners = [option for option, model in components()[section].options.items() if name in model.model_fields]
        if owners:
            return f"{shown}: {type_} has no such key; {_enumerate(owners)} {'has' if len(owners) == 1 else 'have'}", (
                f"remove it, or set {section}.type to {' or '.join(owners)}"
            )
        here = children(section, type_)
    else:
        here = children(section)
    elsewhere = [info.key for info in known_keys() if info.key.rpartition(".")[2] == name]
    hint = did_you_mean(name, here) if not elsewhere else f"did you mean {elsewhere[0]!r}?"
    hint = _without_blank(name) or hint or _hint_by_spelling(section, name) or did_you_mean(name, _everywhere())
    if hint:
        return f"{shown}: unknown key; {hint}", None
    return f"{shown}: unknown key", f"remove it, or use one of: {', '.join(here)}"


def _without_blank(name: str) -> str:
    """What to write for {steps:4}, which YAML reads as one name."""
    before, colon, after = name.partition(":")
    return f"YAML wants a blank after a colon: {clip(before)}: {clip(after)}" if colon else ""


def _hint_by_spelling(section: str, name: str) -> str:
    """The nearest accepted spelling of a key here, such as HiddenDim."""
    prefix = f"{section}." if section else ""
    names = [spelling.removeprefix(prefix) for spelling in ALIASES if spelling.startswith(prefix)]
    return did_you_mean(name, [spelling for spelling in names if "." not in spelling])


def _everywhere() -> list[str]:
    return [*(info.key for info in known_keys()), *(path for path in sections() if path)]


def _unknown_name(component: str, found: Any, options: Mapping[str, object]) -> tuple[str, str | None]:
    fix = f"use one of: {', '.join(options)}"
    if not isinstance(found, str):
        return f"{component}.type: should be text, found {describe(found)}", fix
    if found.lower() in NOT_YET:
        return f"{component}: {found!r} is not supported yet", fix
    hint = did_you_mean(found, options) or did_you_mean(found.lower(), options)
    return f"{component}: unknown {clip(found)!r}; {hint}".rstrip("; "), fix


def _wrong_value(key: str, details: ErrorDetails, info: KnownKey | None) -> tuple[str, str | None]:
    """A value's message: what was wanted and what was found."""
    kind, found = details["type"], details["input"]
    context = details.get("ctx", {})
    if kind == "literal_error" and info is not None and isinstance(found, str):
        hint = did_you_mean(found, info.choices)
        return f"{key}: unknown {clip(found)!r}; {hint}".rstrip("; "), f"use one of: {', '.join(info.choices)}"
    if kind == "string_pattern_mismatch" and info is not None:
        return f"{key}: unknown {clip(str(found))!r}", f"use {info.help.rstrip('.')}"
    wanted = _wanted(kind, context)
    words = f"should be {wanted}" if wanted else details["msg"]
    return f"{key}: {words}, found {describe(found)}", _fix_value(kind, found, info)


_LIMITS = {
    "greater_than": ("greater than", "gt"), "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"), "less_than_equal": ("at most", "le"),
}  # fmt: skip
"""Kind of a range error -> words, and the name of its limit."""


def _wanted(kind: str, context: Mapping[str, Any]) -> str | None:
    if kind in _LIMITS:
        words, name = _LIMITS[kind]
        return f"{words} {context[name]:g}" if abs(context[name]) < 1e6 else f"{words} {context[name]:,}"
    if kind in ("too_short", "string_too_short"):
        unit = "item" if kind == "too_short" else "character"
        return f"at least {context['min_length']} {unit}{'s' if context['min_length'] > 1 else ''} long"
    return {
        "int_type": "a whole number", "float_type": "a number", "bool_type": "true or false", "string_type": "text",
        "list_type": "a list", "model_type": "a mapping of keys", "finite_number": "a finite number",
        "literal_error": "text",
    }.get(kind)  # fmt: skip


def _fix_value(kind: str, found: Any, info: KnownKey | None) -> str | None:
    if kind == "int_type" and isinstance(found, float) and found.is_integer():
        return f"write {int(found)}"
    if kind in ("int_type", "float_type") and isinstance(found, str) and found.replace("_", "").isdigit():
        return f"write {found.replace('_', '')}, without quotes"
    if kind == "bool_type" and str(found).lower() in ("yes", "on", "no", "off", "1", "0"):
        return f"write {'true' if str(found).lower() in ('yes', 'on', '1') else 'false'}"
    if kind == "list_type" and isinstance(found, str):
        return f"write [{clip(found)}]"
    if kind == "literal_error" and info is not None:
        return f"use one of: {', '.join(info.choices)}"
    if kind in _LIMITS and info is not None and info.bounds:
        usual = f"; the default is {describe(info.default)}" if isinstance(info.default, (int, float)) else ""
        return f"write a number {' and '.join(info.bounds)}{usual}"
    if kind == "string_type" and isinstance(found, (int, float)):
        return f'put it in quotes: "{found}"'
    return None


def _enumerate(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
