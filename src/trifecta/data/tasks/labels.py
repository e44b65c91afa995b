"""What labels mean: one class, several classes, or a number."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trifecta.data.tasks.objects import list_names, name_kind, require_text, short
from trifecta.errors import DataError, did_you_mean

Kind = Literal["single", "multi", "regression"]
Label = str | tuple[str, ...] | float

# float() takes underscores and other scripts' digits too, which are more likely names.
_NUMBER = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|nan|inf(?:inity)?)", re.IGNORECASE)
_SEPARATOR = re.compile(r"[|;]")
_FIX = "mend or remove this record"


@dataclass(frozen=True)
class RawLabel:
    """A label as the file has it. plural: from a column named labels. place: `file:line`."""

    value: Any
    plural: bool
    place: str


def find_kind(labels: Sequence[RawLabel]) -> Kind:
    """multi for lists and for `a|b` or `a;b` in a column named labels; regression for numbers not all whole."""
    if any(isinstance(label.value, list) or _is_separated(label) for label in labels):
        return "multi"
    numbers = [_number(label.value) for label in labels]
    if all(number is not None for number in numbers) and not all(
        number.is_integer() for number in numbers if number is not None
    ):
        return "regression"
    return "single"


def require_label(label: RawLabel) -> None:
    """Refuses labels that are blank or null.

    Raises:
        DataError: it is.
    """
    if label.value is None:
        raise DataError("the label is null", where=label.place, fix="give this record a label, or remove it")
    if isinstance(label.value, str) and not label.value.strip():
        raise DataError("the label is blank", where=label.place, fix="give this record a label, or remove it")


def as_class(label: RawLabel) -> str:
    """The name of one class; a whole number is a name too."""
    return _name(label.value, label.place)


def as_classes(label: RawLabel) -> tuple[str, ...]:
    """The names of any number of classes: of a list, none for an empty one; of a text, what | or ; separates."""
    value = label.value
    items = _SEPARATOR.split(value) if isinstance(value, str) else value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(_name(item, label.place) for item in items))


def as_number(label: RawLabel) -> float:
    """The target of a regression.

    Raises:
        DataError: it is no number, or isn't finite.
    """
    number = _number(label.value)
    if number is None:
        raise DataError(
            f"a number was wanted as label, {short(label.value)} was found", where=label.place, fix=_FIX
        )  # fmt: skip
    if not math.isfinite(number):
        raise DataError(f"the label is {number}, which nothing can learn", where=label.place, fix=_FIX)
    return number


def require_known(name: str, allowed: Sequence[str], where: str) -> None:
    """Refuses a label that isn't among the allowed ones.

    Raises:
        DataError: with the allowed ones, and the nearest.
    """
    if name not in allowed:
        near = did_you_mean(name, allowed)
        raise DataError(
            f"the label {short(name)} isn't one of: {list_names(list(allowed))}{'; ' + near if near else ''}",
            where=where, fix="mend the label, or remove the record",
        )  # fmt: skip


def _is_separated(label: RawLabel) -> bool:
    return label.plural and isinstance(label.value, str) and _SEPARATOR.search(label.value) is not None


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value := value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _name(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DataError(f"the label is {value}, which names no class", where=where, fix=_FIX)
        value = int(value) if value.is_integer() else value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | dict):
        raise DataError(
            f"one label was wanted, {name_kind(value)} was found: {short(value)}", where=where,
            fix="give this record one label; where records have several, give all of them lists",
        )  # fmt: skip
    return require_text(value, "a label", where).strip()
