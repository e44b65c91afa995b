"""Texts to be judged: of lines, of records, of standard input."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from trifecta.data.tasks import Labelled, Pair, Question, Tagged
from trifecta.data.tasks.unlabelled import Unlabelled, read_unlabelled, words_of
from trifecta.errors import DataError

pytestmark = pytest.mark.fast


def shown(found: list[Unlabelled]) -> list[tuple[str, str | None]]:
    return [(text.text, text.pair) for text in found]


def test_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one \r\n\n two\n")
    found = read_unlabelled([str(path)], "classify")
    assert [(text.text, text.place) for text in found] == [("one ", f"{path}:1"), (" two", f"{path}:3")]
    assert shown(read_unlabelled([str(path)], "answer", context="C")) == [("one ", "C"), (" two", "C")]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO("é\nb".encode())))
    found = read_unlabelled(["-"], "masked")
    assert [(text.text, text.place) for text in found] == [("é", "standard input:1"), ("b", "standard input:2")]


@pytest.mark.parametrize(
    ("name", "content", "kind", "options", "wanted"),
    [
        ("a.csv", "text,label\nhello,x\n", "classify", {}, [("hello", None)]),
        ("a.csv", "label,review\nx,hello\n", "classify", {}, [("hello", None)]),
        ("a.tsv", "premise\thypothesis\na\tb\n", "classify", {}, [("a", "b")]),
        ("a.tsv", "sentence\tpair\na\tb\n", "classify", {}, [("a", "b")]),
        ("a.tsv", "x\ty\na\tb\n", "classify", {"text_field": "y"}, [("b", None)]),
        ("a.tsv", "x\ty\na\tb\n", "classify", {"text_field": "y", "pair_field": "x"}, [("b", "a")]),
        ("a.jsonl", '{"text": "a"}\n{"text": "b", "entities": []}\n', "tag", {}, [("a", None), ("b", None)]),
        ("a.jsonl", '{"question": "q", "context": "c"}\n', "answer", {}, [("q", "c")]),
        ("a.csv", "question,context\nq,c\n", "answer", {}, [("q", "c")]),
        ("a.csv", "source,target\ns,t\n", "seq2seq", {}, [("s", None)]),
    ],
)
def test_records(
    tmp_path: Path, name: str, content: str, kind: str, options: dict[str, str], wanted: list[tuple[str, str | None]]
) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert shown(read_unlabelled([str(path)], kind, **options)) == wanted


def test_words_that_are_given_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"tokens": ["U.S.", "law"]}\n')
    (tmp_path / "b.conll").write_text("U.S. O\nlaw O\n\nit O\n")
    (first,) = read_unlabelled([str(tmp_path / "a.jsonl")], "tag")
    assert (first.text, first.words) == ("U.S. law", ((0, 4), (5, 8)))
    assert [t.text for t in read_unlabelled([str(tmp_path / "b.conll")], "tag")] == ["U.S. law", "it"]
    assert words_of("It's 3.5") == ((0, 2), (2, 3), (3, 4), (5, 6), (6, 7), (7, 8))


def test_squad(tmp_path: Path) -> None:
    paragraph = {"context": "c c", "qas": [{"id": "7", "question": "q1"}, {"id": "8", "question": "q2"}]}
    (tmp_path / "s.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    found = read_unlabelled([str(tmp_path / "s.json")], "answer")
    assert [(t.text, t.pair, t.id) for t in found] == [("q1", "c c", "7"), ("q2", "c c", "8")]


def test_records_without_their_labels() -> None:
    assert Unlabelled.of(Labelled("a", "b", "x", "p")) == Unlabelled("a", "b", place="p")
    assert Unlabelled.of(Pair("a", "b", "p")) == Unlabelled("a", place="p")
    assert Unlabelled.of(Tagged("a", ((0, 1),), ("O",), "p")) == Unlabelled("a", words=((0, 1),), place="p")
    assert Unlabelled.of(Question("i", "q", "c", (), "p")) == Unlabelled("q", "c", id="i", place="p")


@pytest.mark.parametrize(
    ("name", "content", "kind", "what"),
    [
        ("a.csv", "x,y\n1,2\n", "classify", "which column holds the text can't be told; there are: 'x', 'y'"),
        ("a.csv", "question,y\n1,2\n", "answer", "which column holds the context can't be told"),
        ("a.txt", " \n", "classify", "there are no texts"),
        ("a.jsonl", '{"text": "a"}\n{"text": " "}\n', "tag", "a.jsonl:2: the text in 'text' is empty"),
        ("a.jsonl", '{"tokens": []}\n', "tag", "a.jsonl:1: 'tokens' should be a list of words"),
    ],
)
def test_texts_that_cannot_be_judged(tmp_path: Path, name: str, content: str, kind: str, what: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        read_unlabelled([str(tmp_path / name)], kind)
    assert what in str(caught.value)
