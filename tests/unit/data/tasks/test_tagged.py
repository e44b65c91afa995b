"""Tagged words of columns and of JSON, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from trifecta.data.tasks import Tagged, read_tagged
from trifecta.data.tasks import tagged as module
from trifecta.errors import DataError

pytestmark = pytest.mark.fast
Write = Callable[..., str]

CONLL = "-DOCSTART- -X- O O\n\nU.N. NNP I-NP B-ORG\nchief NN I-NP O\n\n \nKofi NNP I-NP B-PER\nAnnan NNP I-NP I-PER\n"


def words_of(record: Tagged) -> list[str]:
    return [record.text[start:end] for start, end in record.words]


def refused(write: Write, name: str, content: str, **options: Any) -> DataError:
    path = write(name, content)
    with pytest.raises(DataError) as caught:
        read_tagged([path], **options)
    assert caught.value.fix
    caught.value.where = (caught.value.where or "").replace(path, name)
    return caught.value


def test_columns(write: Write) -> None:
    path = write("a.conll", CONLL)
    assert read_tagged([path]) == [
        Tagged("U.N. chief", ((0, 4), (5, 10)), ("B-ORG", "O"), f"{path}:3"),
        Tagged("Kofi Annan", ((0, 4), (5, 10)), ("B-PER", "I-PER"), f"{path}:7"),
    ]
    tabs = read_tagged([write("b.txt", "# id = 1\n1\tNew York\tB-LOC\tx\r\n2\t#\tO\ty\r\n")], columns=(1, -2))
    assert (words_of(tabs[0]), tabs[0].tags) == (["New York", "#"], ("B-LOC", "O"))
    sign = read_tagged([write("c.txt", "# O\nKofi B-PER\n")])
    assert words_of(sign[0]) == ["#", "Kofi"]
    assert words_of(read_tagged([write("d.txt", "a\u00a0b   B-X\n")])[0]) == ["a\u00a0b"]


@pytest.mark.parametrize(
    ("tags", "bio"),
    [
        ("O B-X I-X I-X O", "O B-X I-X I-X O"),  # BIO
        ("I-X I-X B-X I-Y O I-X", "B-X I-X B-X B-Y O B-X"),  # IOB1: B only between neighbours
        ("S-X B-X I-X E-X S-X S-Y", "B-X B-X I-X I-X B-X B-Y"),  # BIOES
        ("B-X E-X I-X", "B-X I-X B-X"),  # what has ended doesn't go on
        ("U-X B-X L-X B-X M-X E-X", "B-X B-X I-X B-X I-X I-X"),  # BILOU, BMES
        ("B-a-b I-a-b I-a", "B-a-b I-a-b B-a"),
    ],
)
def test_every_scheme_becomes_bio(write: Write, tags: str, bio: str) -> None:
    (record,) = read_tagged([write("a.txt", "\n".join(f"w {tag}" for tag in tags.split()))])
    assert record.tags == tuple(bio.split())
    (record,) = read_tagged([write("a.jsonl", json.dumps({"tokens": ["w"] * len(tags.split()), "tags": tags.split()}))])
    assert record.tags == tuple(bio.split())


def test_entities_in_text(write: Write) -> None:
    text = "Mr. Kofi_1 Annan's U.N., Zürich!"
    entities: list[Any] = [{"start": 4, "end": 16, "label": "PER"}, {"start": 25, "end": 31, "label": "LOC"}]
    for key, items in [("entities", entities), ("spans", [[4, 17 - 1, "PER"], [24, 31, "LOC"]])]:
        (record,) = read_tagged([write("a.jsonl", json.dumps({"text": text, key: items}))])
        assert words_of(record) == ["Mr", ".", "Kofi_1", "Annan", "'", "s", "U", ".", "N", ".", ",", "Zürich", "!"]
        assert record.tags == ("O", "O", "B-PER", "I-PER", *["O"] * 7, "B-LOC", "O")
        assert record.text == text
    neighbours = [{"start": 1, "end": 2, "label": "B"}, {"start": 0, "end": 1, "label": "A"}]
    (record,) = read_tagged([write("a.jsonl", json.dumps({"text": "+-", "entities": neighbours}))])
    assert record.tags == ("B-A", "B-B")


ENTITIES = [
    ([2, 4, "X"], "cuts a word"), ([0, 2, "X"], "cuts a word"), ([0, 20, "X"], "outside"), ([-3, 3, "X"], "outside"),
    ([3, 0, "X"], "outside"), ([3, 3, "X"], "is empty"), ([3, 4, "X"], "is empty"), ([0, 3, ""], "is empty"),
    ([0, 3], "no entity"), ([0.0, 3, "X"], "no entity"), ([False, 3, "X"], "no entity"), ({"start": 0}, "no entity"),
    (None, "no entity"), ([0, 3, None], "is null"),
]  # fmt: skip


@pytest.mark.parametrize(("entity", "found"), ENTITIES)
def test_entities_that_cannot_be(write: Write, entity: Any, found: str) -> None:
    good = json.dumps({"text": "one two", "entities": [[0, 3, "X"]]})
    error = refused(write, "a.jsonl", f"{good}\n{json.dumps({'text': 'one two', 'entities': [entity]})}\n")
    assert error.where == "a.jsonl:2"
    assert found in error.what


def test_entities_that_overlap(write: Write) -> None:
    for items in ([[0, 7, "X"], [4, 7, "Y"]], [[4, 7, "Y"], [0, 7, "X"]], [[0, 3, "X"], [0, 3, "X"]]):
        record = {"text": "one two", "entities": items}
        assert "overlap" in refused(write, "a.jsonl", json.dumps(record)).what


def test_control_entities_that_cut_words_are_noticed(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entities that are widened to whole words, silently, fail the test."""
    keep = module._tags_of
    monkeypatch.setattr(module, "_tags_of", lambda _, *others: keep([(0, 3, "X")], *others))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_entities_that_cannot_be(write, *ENTITIES[0])


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Annan", "one column"), ("Annan B-PER x", "3 columns"), ("Annan NNP", "is no tag"), ("Annan PER", "is no tag"),
        ("Annan B-", "is no tag"), ("Annan\t", "is no tag"), ("\tO", "the word is empty"), ("Annan o", "is no tag"),
    ],
)  # fmt: skip
def test_lines_that_cannot_be(write: Write, line: str, found: str) -> None:
    error = refused(write, "a.conll", f"Kofi B-PER\n{line}\nspoke O\n")
    assert error.where == "a.conll:2"
    assert found in error.what


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "2 tokens, but 1 tags"), ({"tokens": [], "tags": []}, "aren't empty"),
        ({"tokens": ["a"], "tags": [0]}, "a tag should be a text, but is 0"), ({"tokens": ["a"]}, "should be lists"),
        ({"tokens": [" "], "tags": ["O"]}, "token 0 is empty"), ({"tokens": ["a"], "tags": ["PER"]}, "is no tag"),
        ({"text": "a"}, "the keys are: 'text'"), ({"text": "", "entities": []}, "is empty"),
        ({"text": "a", "entities": {}}, "an object"),
    ],
)  # fmt: skip
def test_records_that_cannot_be(write: Write, record: Any, found: str) -> None:
    error = refused(write, "a.jsonl", f"\n{json.dumps(record)}")
    assert error.where == "a.jsonl:2"
    assert found in error.what


def test_no_entity_no_sentence_or_no_such_column(write: Write) -> None:
    assert "every tag is O" in refused(write, "a.txt", "a O\n\nb O\n").what
    assert "every tag is O" in refused(write, "a.jsonl", '{"text": "a", "entities": []}').what
    assert "no sentences" in refused(write, "a.txt", "-DOCSTART- O\n\n\n").what
    assert "there are 2" in refused(write, "a.txt", "a O\n", columns=(0, 2)).what
