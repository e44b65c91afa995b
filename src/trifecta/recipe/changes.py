"""What differs between two recipes, and what a resume may do with it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from trifecta.recipe.components import Resume
from trifecta.recipe.dump import leaves
from trifecta.recipe.inert import normalised
from trifecta.recipe.keys import components, known_keys
from trifecta.recipe.schema import Recipe

_PATHS = ("data.paths", "data.validation_paths")


@dataclass(frozen=True)
class Change:
    """One key's old and new value, None also where the key doesn't exist.

    policy: a resume takes the new value (`free`), takes it and writes it down (`recorded`), or refuses it (`refused`).
    """

    key: str
    old: Any
    new: Any
    policy: Resume


@cache
def policies() -> dict[str, Resume]:
    """What a resume may do with each key."""
    return {info.key: info.resume for info in known_keys()}


def changes(old: Recipe, new: Recipe) -> list[Change]:
    """Every key that differs, in the schema's order. Of a component with another `type` only the type is named."""
    before, after = dict(leaves(normalised(old))), dict(leaves(normalised(new)))
    replaced = [f"{path}." for path in components() if before.get(f"{path}.type") != after.get(f"{path}.type")]
    return [
        Change(key, before.get(key), after.get(key), policy)
        for key, policy in policies().items()
        if before.get(key) != after.get(key)
        and (key.endswith(".type") or not any(key.startswith(prefix) for prefix in replaced))
    ]


def refused_hash(recipe: Recipe) -> str:
    """Eight hexadecimal digits of the keys that a resume refuses to change, paths left out: part of a run's name."""
    values = {
        key: value for key, value in leaves(normalised(recipe)) if policies()[key] == "refused" and key not in _PATHS
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
