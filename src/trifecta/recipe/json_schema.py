"""The recipe as JSON Schema, so that editors complete and check it as it is typed."""

from __future__ import annotations

from typing import Any

from trifecta.recipe.aliases import VALUE_NAMES
from trifecta.recipe.keys import components
from trifecta.recipe.objects import OPTIMIZER, RATE, SCHEDULER
from trifecta.recipe.schema import Recipe

_OBJECTS = {OPTIMIZER: r"\(|^\w+(\.\w+)+$", SCHEDULER: r"\("}
"""Where objects may stand, and what they look like."""


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a recipe file with canonical keys.

    A component may be a bare name, and may lack its `type`, as in a file.
    """
    schema = Recipe.model_json_schema(mode="validation")
    definitions: dict[str, Any] = schema["$defs"]
    for path in components():
        *sections, name = path.split(".")
        owner = schema
        for section in sections:
            owner = definitions[owner["properties"][section]["$ref"].rpartition("/")[2]]
        owner["properties"][name] = _component(owner["properties"][name], list(components()[path].options))
        if path in _OBJECTS:
            owner["properties"][name]["anyOf"].append({"type": "string", "pattern": _OBJECTS[path]})
    rate = definitions["Training"]["properties"]["learning_rate"]
    rate["anyOf"] = [
        *(option for option in rate["anyOf"] if option != {"type": "null"}),
        {"enum": list(VALUE_NAMES[RATE])},
        {"type": "string", "pattern": _OBJECTS[SCHEDULER]},
    ]
    batch_size = definitions["Training"]["properties"]["batch_size"]
    batch_size["anyOf"] = [{name: batch_size.pop(name) for name in ("type", "minimum")}, {"enum": ["auto"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "trifecta recipe"}


def _component(found: dict[str, Any], names: list[str]) -> dict[str, Any]:
    objects = found.pop("oneOf", None) or [{"$ref": found.pop("$ref")}]
    found.pop("discriminator", None)
    return {**found, "anyOf": [{"enum": names}, *objects]}
