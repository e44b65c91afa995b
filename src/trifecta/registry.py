"""Name -> factory. Tables are plain dicts in the owning package; this looks a name up and calls it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from trifecta.errors import RecipeError, did_you_mean

T = TypeVar("T")


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """The row `name` of a table.

    Raises:
        RecipeError: no such row; the message names the nearest one.
    """
    if name not in table:
        raise RecipeError(
            f"unknown {what} {name!r}; {did_you_mean(name, table)}".rstrip("; "),
            fix=f"use one of: {', '.join(sorted(table))}",
        )
    return table[name]


def build(table: Mapping[str, Callable[..., T]], name: str, what: str, *args: Any, **kwargs: Any) -> T:
    """Calls the row's factory after holding the keyword arguments against its signature.

    Raises:
        RecipeError: unknown row or an argument that the factory doesn't take.
    """
    factory = lookup(table, name, what)
    accepted = keywords(factory)
    for key in kwargs:
        if key not in accepted:
            raise RecipeError(f"{what} {name!r} takes no {key!r}; {did_you_mean(key, accepted)}".rstrip("; "))
    return factory(*args, **kwargs)


def keywords(factory: Callable[..., Any]) -> list[str]:
    """Names of the keyword-only parameters of a factory: exactly the fields of its recipe model."""
    parameters = inspect.signature(factory).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
