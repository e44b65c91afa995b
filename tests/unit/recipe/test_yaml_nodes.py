"""YAML 1.2's scalars, places, and everything that is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from trifecta.recipe.tree import Node, Rank, plain
from trifecta.recipe.yaml_nodes import MAX_CHARACTERS, MAX_NODES, parse, parse_scalar

SCALARS: list[tuple[str, Any]] = [
    ("3e-4", 3e-4), ("1.", 1.0), (".5", 0.5), ("-2", -2), ("+2", 2), ("012", 12), ("0o14", 12), ("0xff", 255),
    ("12:30", "12:30"), ("12:30:45", "12:30:45"), ("no", "no"), ("on", "on"), ("yes", "yes"), ("true", True),
    ("FALSE", False), ("null", None), ("~", None), ("", None), (".inf", math.inf), ("-.Inf", -math.inf),
    ("1_000", "1_000"),
    ("0b1", "0b1"), ("2026-11-21", "2026-11-21"), ("1e400", math.inf), ("e5", "e5"), (".", "."), ("tRUE", "tRUE"),
]  # fmt: skip


def tree(text: str) -> Node:
    root, errors = parse(text, "f.yaml", Rank.FILE)
    assert not errors, [str(error) for error in errors]
    assert root is not None
    return root


def messages(text: str) -> list[str]:
    return [str(error) for error in parse(text, "f.yaml", Rank.FILE)[1]]


@pytest.mark.fast
@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_core_schema(text: str, value: Any) -> None:
    assert parse_scalar(text) == value
    assert type(parse_scalar(text)) is type(value)
    assert plain(tree(f"a: {text}")) == {"a": value}


def test_core_schema_nan() -> None:
    assert math.isnan(parse_scalar(".nan"))  # type: ignore[arg-type]


def test_core_schema_control() -> None:
    """PyYAML's own loader reads several of them otherwise, so the table above can tell."""
    wrong = [text for text, value in SCALARS if yaml.safe_load(f"a: {text}") != {"a": value}]
    assert {"3e-4", "012", "12:30:45", "no", "on", "yes", "2026-11-21"} <= set(wrong)


def test_quotes_and_tags_make_text() -> None:
    assert plain(tree("a: '012'\nb: \"true\"\nc: !!str 12\nd: !!float 1\ne: !!int 3")) == {
        "a": "012", "b": "true", "c": "12", "d": 1.0, "e": 3,
    }  # fmt: skip


def test_wrong_standard_tag() -> None:
    assert "is not what its tag says" in messages("a: !!int x")[0]


def test_every_value_knows_its_place() -> None:
    root = tree("# comment\nmodel:\n  d_model: 64\n  names: [a, b]\n")
    assert root.mapping is not None
    model = root.mapping["model"]
    assert model.mapping is not None
    assert model.key_origin.where == "f.yaml:2:1"
    assert model.mapping["d_model"].origin.where == "f.yaml:3:12"
    assert model.mapping["d_model"].key_origin.where == "f.yaml:3:3"
    names = model.mapping["names"].value
    assert isinstance(names, list)
    assert names[1].origin.where == "f.yaml:4:14"
    assert names[1].origin.excerpt == "   |   names: [a, b]\n   |              ^"


def test_anchors_and_aliases_are_followed() -> None:
    assert plain(tree("a: &x {b: 1}\nc: *x")) == {"a": {"b": 1}, "c": {"b": 1}}


def test_crlf_and_trailing_spaces() -> None:
    assert plain(tree("a: 1  \r\nb: 2\r\n")) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a:\n\tb: 1", "indent with spaces, not tabs"),
        ("a: b: c", "put quotes around text that holds a colon"),
        ("a: [1, 2", "f.yaml:1:9: YAML: expected ',' or ']'"),
        ("a: *x", "put quotes around text that begins with *"),
        ("a: [*.txt]", "put quotes around text that begins with *"),
        ("a: 1\n---\nb: 2", "keep one document"),
        ("a: \x07", "f.yaml:1: character U+0007 is not allowed in YAML"),
        ("[1, 2]: 3", "a key must be text"),
        ("1: 3", "a key must be text"),
        ("? \n: 3", "a key must be text"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "merge keys (<<) are not part of YAML 1.2"),
        (f"a: {'9' * 5000}", "a number of 5000 digits"),
        ("a: " + "x" * MAX_CHARACTERS, "a recipe has at most 100,000"),
        ("\n".join(f"k{i}: 1" for i in range(MAX_NODES)), "more than 10000 values"),
    ],
)
def test_refused(text: str, wanted: str) -> None:
    assert any(wanted in message for message in messages(text)), messages(text)


def test_long_lines_are_cut_around_the_caret() -> None:
    excerpt = messages(f"a: '{'x' * 400}' y")[0].splitlines()[1:3]
    assert all(len(line) < 130 for line in excerpt)
    assert excerpt[0][excerpt[1].index("^")] == "y"


def test_an_empty_text_has_no_tree() -> None:
    assert parse("# nothing\n", "f.yaml", Rank.FILE) == (None, [])
