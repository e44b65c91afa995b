"""The JSON Schema accepts what loads and refuses what doesn't, by a validator of the few keywords that it uses."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from trifecta.recipe import collect, dump, preset_names, preset_text
from trifecta.recipe.json_schema import json_schema
from trifecta.recipe.presets import AUTOS

TYPES = {"object": dict, "array": list, "string": str, "null": type(None), "boolean": bool, "integer": int}
IGNORED = {
    "$defs", "$schema", "title", "description", "default", "resume", "unit", "type", "$ref", "properties", "items",
}  # fmt: skip


def is_valid(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if "$ref" in schema:
        return is_valid(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    of_type = {
        None: True, "number": is_number, "integer": is_number and isinstance(value, int),
    }  # fmt: skip
    kind = schema.get("type")
    if not (of_type[kind] if kind in of_type else isinstance(value, TYPES[kind])):
        return False
    checks = {
        "anyOf": lambda options: any(is_valid(value, option, root) for option in options),
        "enum": lambda options: value in options,
        "const": lambda only: value == only,
        "minimum": lambda limit: value >= limit,
        "maximum": lambda limit: value <= limit,
        "exclusiveMinimum": lambda limit: value > limit,
        "exclusiveMaximum": lambda limit: value < limit,
        "minLength": lambda limit: len(value) >= limit,
        "minItems": lambda limit: len(value) >= limit,
        "pattern": lambda pattern: re.search(pattern, value) is not None,
        "required": lambda names: all(name in value for name in names),
        "additionalProperties": lambda free: free or set(value) <= set(schema["properties"]),
    }
    unknown = set(schema) - set(checks) - IGNORED
    assert not unknown, unknown
    if not all(check(schema[word]) for word, check in checks.items() if word in schema):
        return False
    properties = schema.get("properties", {})
    inside = [(child, properties.get(name, {})) for name, child in value.items()] if isinstance(value, dict) else []
    inside += [(child, schema.get("items", {})) for child in value] if isinstance(value, list) else []
    return all(is_valid(child, part, root) for child, part in inside)


@pytest.mark.fast
def test_accepts_what_loads() -> None:
    schema = json.loads(json.dumps(json_schema()))
    for name in preset_names():
        assert is_valid(yaml.safe_load(dump(collect(preset=name).resolve().recipe)), schema, schema)
        if name not in AUTOS.values():
            text = re.sub(r"\b(\d)e-", r"\1.0e-", preset_text(name))  # YAML 1.1 takes 3e-4 for a text
            assert is_valid(yaml.safe_load(text), schema, schema)
    for text in (
        "training: {optimizer: torch.optim.NAdam}",
        "training: {optimizer: 'Adam(learning_rate=1.0)'}",
        "training: {learning_rate: auto}",
        "training: {learning_rate: 'CosineDecay(1.0, 5)'}",
        "training: {optimizer: {type: custom, class_name: a.B, arguments: {b: [1, x]}}}",
        "training: {scheduler: 'ExponentialDecay(1.0, 5, 0.9)'}",
        "training: {optimizer: adam}",
        "training: {optimizer: {weight_decay: 1.0}}",
        "model: gpt",
        "{}",
    ):
        assert is_valid(yaml.safe_load(text), schema, schema), text


@pytest.mark.fast
@pytest.mark.parametrize(
    "text",
    ["trainin: {}", "training: {epochs: 0}", "training: {epochs: 1.5}", "training: {optimizer: adamx}", "model: brt",
     "model: {position: rotary}", "training: {optimizer: {type: adam, weight_decay: 1.0}}", "execution: {device: gpu}",
     "training: {scheduler: {type: piecewise}}", "data: {paths: a.txt}",
     "training: {learning_rate: 0}", "training: {learning_rate: high}",
     "training: {learning_rate: null}",
     "training: {optimizer: {type: custom, class_name: /tmp/a.py}}", "training: {scheduler: torch.optim.NAdam}"],
)  # fmt: skip
def test_refuses_what_does_not(text: str) -> None:
    schema = json_schema()
    assert not is_valid(yaml.safe_load(text), schema, schema)


def test_keys_carry_help_and_policy() -> None:
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    epochs = schema["$defs"]["Training"]["properties"]["epochs"]
    assert epochs["description"] == "Passes over the training text."
    assert (epochs["resume"], epochs["unit"], epochs["default"]) == ("recorded", "epochs", 10)
