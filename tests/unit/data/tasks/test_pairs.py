"""Pairs of source and target, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from trifecta.data.tasks import Pair, pairs, read_pairs
from trifecta.errors import DataError

pytestmark = pytest.mark.fast
Write = Callable[..., str]


def sides(*paths: str, **options: Any) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in read_pairs(paths, **options)]


def refused(write: Write, name: str, content: str, **options: Any) -> DataError:
    path = write(name, content)
    with pytest.raises(DataError) as caught:
        read_pairs([path], **options)
    assert caught.value.fix
    caught.value.where = (caught.value.where or "").replace(path, name)
    return caught.value


def test_tsv_with_and_without_a_header(write: Write) -> None:
    path = write("a.tsv", 'Go.\tVa !\n"Hi" there\tSalut\n')
    assert read_pairs([path]) == [Pair("Go.", "Va !", f"{path}:1"), Pair('"Hi" there', "Salut", f"{path}:2")]
    assert sides(write("b.tsv", "Target\tid\tSource\nVa !\t1\tGo.\n")) == [("Go.", "Va !")]
    assert sides(write("c.tsv", "en\tfr\nGo.\tVa !\n")) == [("Go.", "Va !")]
    assert sides(write("d.tsv", "x\ty\nGo.\tVa !\n"), source_field="y", target_field="x") == [("Va !", "Go.")]


@pytest.mark.parametrize(
    "names",
    [
        ("source", "target"), ("src", "tgt"), ("input", "output"), ("text", "summary"), ("document", "summary"),
        ("article", "highlights"), ("question", "answer"), ("prompt", "response"), ("prompt", "completion"),
        ("de", "en"), ("Source", "TARGET"),
    ],
)  # fmt: skip
def test_names_are_found(write: Write, names: tuple[str, str]) -> None:
    record = {"id": "1", names[0]: "from", names[1]: "to"}
    backwards = dict(reversed(record.items())) if names != ("de", "en") else record
    for content in (record, backwards):
        assert sides(write("a.jsonl", json.dumps(content))) == [("from", "to")]
        assert sides(write("a.json", json.dumps([content]))) == [("from", "to")]
        rows = "\n".join(",".join(row) for row in (content.keys(), content.values()))
        assert sides(write("a.csv", rows)) == [("from", "to")]


def test_translations(write: Write) -> None:
    path = write("a.jsonl", json.dumps({"id": 1, "translation": {"fr": "oui", "en": "yes"}}))
    assert sides(path) == [("oui", "yes")]
    assert sides(path, source_field="en") == [("yes", "oui")]
    assert sides(path, target_field="fr") == [("yes", "oui")]
    three = {"translation": {"fr": "oui", "en": "yes", "de": "ja"}}
    assert "can't be told" in refused(write, "b.jsonl", json.dumps(three)).what
    assert "fr and en; fr and de" in refused(write, "b.jsonl", json.dumps(three), source_field="fr").what
    assert sides(write("b.jsonl", json.dumps(three)), source_field="de", target_field="fr") == [("ja", "oui")]


def test_one_side_is_named(write: Write) -> None:
    path = write("a.jsonl", json.dumps({"text": "t", "summary": "s", "target": "g"}))
    assert sides(path) == [("t", "s")]
    assert sides(path, target_field="target", source_field="text") == [("t", "g")]
    assert sides(write("b.jsonl", json.dumps({"mine": "m", "target": "g"})), source_field="mine") == [("m", "g")]


def test_what_cannot_be_told_is_asked(write: Write) -> None:
    error = refused(write, "a.jsonl", json.dumps({"instruction": "a", "input": "b", "output": "c"}))
    assert "input and output; instruction and output" in error.what
    assert "data.source_field=COLUMN data.target_field=COLUMN" in str(error.fix)
    error = refused(write, "a.csv", "Go.,Va !\nHi.,Salut !\n")
    assert (error.where, "'Go.', 'Va !'" in error.what) == ("a.csv:1", True)
    assert "3 columns, of which none" in refused(write, "a.tsv", "Go.\tVa !\tCC-BY\n").what
    assert "did you mean 'source'" in refused(write, "a.csv", "source,target\na,b\n", source_field="sauce").what


def check_sides(write: Write) -> None:
    for name, content, line in [
        ("a.tsv", "a\tb\nc\t \n", 2), ("a.tsv", "source\ttarget\na\tb\n\tc\n", 3), ("a.csv", "src,tgt\na,b\nc,\n", 3),
        ("a.jsonl", '{"src": "a", "tgt": "b"}\n{"src": "a", "tgt": ""}', 2),
        ("a.jsonl", '{"src": "a", "tgt": "b"}\n{"src": "a", "tgt": null}', 2),
        ("a.jsonl", '{"src": "a", "tgt": "b"}\n{"src": "a"}', 2),
        ("a.tsv", "a\tb\nc\n", 2), ("a.tsv", "a\tb\nc\td\te", 2),
        ("a.jsonl", '{"src": "a", "tgt": "b"}\n{"src": "a", "tgt": "b"', 2),
        ("a.jsonl", '{"translation": {"en": "a", "fr": "b"}}\n{"translation": {"en": "a", "fr": ""}}', 2),
    ]:  # fmt: skip
        assert refused(write, name, content).where == f"{name}:{line}"


def test_an_empty_side_is_refused_with_its_line(write: Write) -> None:
    check_sides(write)
    for name in ("a.tsv", "a.csv", "a.jsonl"):
        assert refused(write, name, "").where == name


def test_control_empty_sides_are_noticed(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that takes any value for a side fails the test."""
    monkeypatch.setattr(pairs, "require_text", lambda value, *_: str(value))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_sides(write)
