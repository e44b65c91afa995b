"""A recipe as YAML that loads back to an equal one, with every key that acts and none that doesn't."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from trifecta.recipe.components import Section
from trifecta.recipe.inert import inert_keys
from trifecta.recipe.objects import NAMED_NULLS
from trifecta.recipe.schema import Recipe

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_READ_AS_OTHER = re.compile(r"true|false|null|yes|no|on|off|y|n", re.IGNORECASE)


def dump(recipe: Recipe) -> str:
    """YAML in the schema's order, written so that readers of YAML 1.1 understand it alike."""
    inert = inert_keys(recipe)
    return "".join(f"{line}\n" for line in _lines(recipe, "", inert))


def flat(recipe: Recipe) -> dict[str, Any]:
    """Every key that acts, dotted, with its value; a component's `type` is one of them."""
    inert = inert_keys(recipe)
    return {key: value for key, value in leaves(recipe) if key not in inert}


def leaves(section: Section, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key, dotted, with its value."""
    for name in _type_first(section):
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _plain(value)


def _plain(value: Any) -> Any:
    """A list of sections as one of mappings that leave out what has its default."""
    if isinstance(value, list) and any(isinstance(item, Section) for item in value):
        return [{name: inner for name, inner in leaves(item) if inner is not None} for item in value]
    return value


def _type_first(section: Section) -> list[str]:
    return sorted(type(section).model_fields, key=lambda name: name != "type")


def _lines(section: Section, prefix: str, inert: frozenset[str]) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for name in _type_first(section):
        value, key = _plain(getattr(section, name)), f"{prefix}{name}"
        if isinstance(value, Section):
            inside = list(_lines(value, f"{key}.", inert))
            yield from [f"{indent}{name}:", *inside] if inside else ()
        elif key not in inert:
            shown = NAMED_NULLS[key] if value is None and key in NAMED_NULLS else write_value(value)
            yield f"{indent}{name}: {shown}"


def write_value(value: Any) -> str:
    """A scalar, a list or a mapping on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(name)}: {write_value(item)}" for name, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(write_value(item) for item in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return _number(value)
    return str(value) if isinstance(value, int) else _text(value)


def _number(value: float) -> str:
    """The shortest text that reads back as this float, with the point that YAML 1.1 wants before an exponent."""
    mantissa, e, exponent = repr(value).partition("e")
    return f"{mantissa if '.' in mantissa else f'{mantissa}.0'}{e}{exponent}"


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and not _READ_AS_OTHER.fullmatch(value):
        return value
    return '"' + "".join(map(_escape, value)) + '"'


def _escape(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
