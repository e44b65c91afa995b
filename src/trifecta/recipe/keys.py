"""What the schema knows of each key, in a form that messages, completion and documentation can use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from trifecta.recipe.components import Resume, Section
from trifecta.recipe.schema import Recipe

_BOUNDS = {"ge": ">= {}", "gt": "> {}", "le": "<= {}", "lt": "< {}", "min_length": "length >= {}"}


@dataclass(frozen=True)
class KnownKey:
    """One key of the recipe.

    Args:
        key: dotted path. component: the `type` under which it exists (`adamw`), None where it always does.
        type: in words (`whole number or null`). choices: allowed texts, if only some are.
        default: None also where `required`. bounds: (`>= 1`). unit: (`steps`).
        help: one sentence. resume: what a resume may do with a changed value.
    """

    key: str
    component: str | None
    type: str
    choices: tuple[str, ...]
    default: Any
    required: bool
    bounds: tuple[str, ...]
    unit: str | None
    help: str
    resume: Resume


@dataclass(frozen=True)
class Component:
    """A place where a `type` chooses one of several models."""

    options: Mapping[str, type[Section]]
    default: str


@cache
def known_keys() -> tuple[KnownKey, ...]:
    """Every key in the schema's order; one that several types of a component have comes once for each."""
    return tuple(_walk(Recipe, "", None))


@cache
def components() -> Mapping[str, Component]:
    """The components by dotted path."""
    return dict(_components(Recipe, ""))


@cache
def sections() -> Mapping[str, type[Section]]:
    """The sections that have no `type`, by dotted path; the recipe itself is ''."""
    return {"": Recipe, **dict(_sections(Recipe, ""))}


def children(path: str, component: str | None = None) -> list[str]:
    """Names below a section, or below a component of one type."""
    if path in components():
        options = components()[path].options
        chosen = [options[component]] if component is not None and component in options else list(options.values())
        return list(dict.fromkeys(name for option in chosen for name in option.model_fields))
    return list(sections()[path].model_fields)


def models_below(annotation: Any) -> list[type[Section]]:
    """The pydantic models in an annotation, but not those that a list is made of."""
    if get_origin(annotation) is list:
        return []
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_below(argument)]


def item_of(key: str) -> type[Section] | None:
    """The model that the list at a dotted key is made of, if it is made of mappings."""
    *path, name = key.split(".")
    section = sections().get(".".join(path))
    annotation = section.model_fields[name].annotation if section and name in section.model_fields else None
    lists = [a for a in (annotation, *get_args(annotation)) if get_origin(a) is list]
    return next((item for a in lists for item in get_args(a) if isinstance(item, type) and issubclass(item, Section)),
                None)  # fmt: skip


def type_of(model: type[Section]) -> str | None:
    """The `type` that chooses a model, if one does."""
    field = model.model_fields.get("type")
    return None if field is None else str(field.default)


def _parts(model: type[Section], prefix: str) -> list[tuple[str, FieldInfo, list[type[Section]]]]:
    return [(f"{prefix}{name}", info, models_below(info.annotation)) for name, info in model.model_fields.items()]


def _components(model: type[Section], prefix: str) -> list[tuple[str, Component]]:
    found = []
    for path, info, models in _parts(model, prefix):
        if models and type_of(models[0]):
            options = {str(type_of(option)): option for option in models}
            found.append((path, Component(options, info.default.type)))
        elif models:
            found += _components(models[0], f"{path}.")
    return found


def _sections(model: type[Section], prefix: str) -> list[tuple[str, type[Section]]]:
    found = []
    for path, _, models in _parts(model, prefix):
        if models and not type_of(models[0]):
            found += [(path, models[0]), *_sections(models[0], f"{path}.")]
    return found


def _walk(model: type[Section], prefix: str, component: str | None) -> list[KnownKey]:
    found: list[KnownKey] = []
    for path, info, models in _parts(model, prefix):
        if not models:
            if path.endswith(".type"):
                continue
            found.append(_describe(path, info, component))
        elif not type_of(models[0]):
            found += _walk(models[0], f"{path}.", component)
        else:
            found.append(_describe_type(path, info, models))
            for option in models:
                found += _walk(option, f"{path}.", type_of(option))
    return found


def _extra(info: FieldInfo) -> dict[str, Any]:
    extra = info.json_schema_extra
    assert isinstance(extra, dict), info
    return extra


def _describe(path: str, info: FieldInfo, component: str | None) -> KnownKey:
    required = info.default is PydanticUndefined
    extra = _extra(info)
    bounds = tuple(
        text.format(getattr(limit, name))
        for limit in info.metadata
        for name, text in _BOUNDS.items()
        if getattr(limit, name, None) is not None
    )
    return KnownKey(
        path, component, type_text(info.annotation), choices_of(info.annotation), None if required else info.default,
        required, bounds, extra.get("unit"), info.description or "", extra["resume"],
    )  # fmt: skip


def _describe_type(path: str, info: FieldInfo, models: list[type[Section]]) -> KnownKey:
    names = tuple(str(type_of(model)) for model in models)
    return KnownKey(
        f"{path}.type", None, "text", names, info.default.type, False, (), None, info.description or "",
        _extra(info)["resume"],
    )  # fmt: skip


def choices_of(annotation: Any) -> tuple[str, ...]:
    """The allowed texts of a Literal, alone or among others."""
    if get_origin(annotation) is Literal:
        return tuple(str(choice) for choice in get_args(annotation))
    return tuple(choice for argument in get_args(annotation) for choice in choices_of(argument))


def type_text(annotation: Any) -> str:
    """A type in words."""
    words: dict[Any, str] = {int: "whole number", float: "number", str: "text", bool: "true or false", NoneType: "null"}
    if annotation in words:
        return words[annotation]
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(choices_of(annotation))
    if get_origin(annotation) is Annotated:
        return type_text(get_args(annotation)[0])
    if get_origin(annotation) is dict:
        return "mapping"
    if get_origin(annotation) is list:
        item = get_args(annotation)[0]
        if isinstance(item, type) and issubclass(item, Section):
            return f"list of mappings ({', '.join(item.model_fields)})"
        return f"list of {type_text(get_args(annotation)[0])}s".replace("texts", "text")
    return " or ".join(type_text(argument) for argument in get_args(annotation))
