"""Questions of SQuAD's JSON and of flat records, and what is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from trifecta.data.tasks import Question, questions, read_questions
from trifecta.errors import DataError

pytestmark = pytest.mark.fast
Write = Callable[..., str]

CONTEXT = "Paris is the capital of France; Paris lies on the Seine."
SQUAD: dict[str, Any] = {
    "version": "v2.0",
    "data": [
        {"title": "empty", "paragraphs": []},
        {
            "title": "France",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {"id": "a", "question": "Capital?", "answers": [{"text": "Paris", "answer_start": 0}]},
                        {"id": "b", "question": "Of Spain?", "is_impossible": True, "answers": [],
                         "plausible_answers": [{"text": "Paris", "answer_start": 0}]},
                        {"id": "c", "question": "On what?",
                         "answers": [{"text": "the Seine", "answer_start": 46}, {"text": "Seine", "answer_start": 50}]},
                    ],
                }
            ],
        },
    ],
}  # fmt: skip
AT = "data[1].paragraphs[0].qas"


def squad(change: Callable[[dict[str, Any]], object]) -> str:
    """SQUAD with one paragraph changed."""
    made = copy.deepcopy(SQUAD)
    change(made["data"][1]["paragraphs"][0])
    return json.dumps(made)


def refused(write: Write, name: str, content: str) -> DataError:
    path = write(name, content)
    with pytest.raises(DataError) as caught:
        read_questions([path])
    assert caught.value.fix
    caught.value.where = (caught.value.where or "").replace(path, name)
    return caught.value


def test_squad(write: Write) -> None:
    path = write("a.json", json.dumps(SQUAD))
    assert read_questions([path]) == [
        Question("a", "Capital?", CONTEXT, (("Paris", 0),), f"{path}: {AT}[0]"),
        Question("b", "Of Spain?", CONTEXT, (), f"{path}: {AT}[1]"),
        Question("c", "On what?", CONTEXT, (("the Seine", 46), ("Seine", 50)), f"{path}: {AT}[2]"),
    ]


def test_flat_records(write: Write) -> None:
    records = [
        {"id": 7, "question": "Q", "context": CONTEXT, "answers": {"text": ["France"], "answer_start": [24]}},
        {"question": "R", "context": CONTEXT, "answers": {"text": [], "answer_start": []}},
        {"question": "S", "context": CONTEXT},
    ]
    path = write("a.jsonl", "\n".join(map(json.dumps, records)))
    found = read_questions([path])
    assert [(q.id, q.answers, q.place) for q in found] == [
        ("7", (("France", 24),), f"{path}:1"), (f"{path}:2", (), f"{path}:2"), (f"{path}:3", (), f"{path}:3"),
    ]  # fmt: skip
    listed = read_questions([write("a.json", json.dumps(records))])
    assert [(q.question, q.answers) for q in listed] == [(q.question, q.answers) for q in found]
    assert len({q.place for q in listed}) == 3  # on one line: the column tells them apart


@pytest.mark.parametrize(
    ("text", "start", "found"),
    [
        ("Paris", 1, "the nearest place where it is: 0"), ("Paris", 17, "the nearest place where it is: 32"),
        ("Paris", -1, "'nothing' stands"), ("Seine.", -6, "the nearest place where it is: 50"),
        ("Paris", 999, "the nearest place where it is: 32"),
        ("London", 0, "it isn't in the context at all"), ("", 0, "is empty"), (None, 0, "is null"),
        ("Paris", None, "should be a whole number"), ("Paris", "0", "should be a whole number"),
        ("Paris", True, "should be a whole number"), ("paris", 0, "not there"),
    ],
)  # fmt: skip
def test_answers_stand_where_they_should(write: Write, text: Any, start: Any, found: str) -> None:
    found = {"'nothing' stands": "where nothing stands", "not there": "isn't in the context"}.get(found, found)
    answer = {"text": text, "answer_start": start}
    error = refused(write, "a.json", squad(lambda paragraph: paragraph["qas"][2]["answers"].append(answer)))
    assert error.where == f"a.json: {AT}[2]"
    assert "question 'c'" in error.what
    assert found in error.what
    flat = {"id": "c", "question": "Q", "context": CONTEXT, "answers": {"text": [text], "answer_start": [start]}}
    error = refused(write, "a.jsonl", f"\n{json.dumps(flat)}")
    assert error.where == "a.jsonl:2"
    assert found in error.what


def test_control_answers_elsewhere_are_noticed(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that only asks whether the answer is somewhere in the context fails the test."""

    def lenient(text: str, _: int, context: str, *__: str) -> None:
        assert text in context

    monkeypatch.setattr(questions, "_require_answer", lenient)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_answers_stand_where_they_should(write, "Paris", 1, "")


@pytest.mark.parametrize(
    ("change", "place", "found"),
    [
        (lambda p: p.update(context=" "), "data[1].paragraphs[0]", "the context is empty"),
        (lambda p: p.pop("context"), "data[1].paragraphs[0]", "is null"),
        (lambda p: p.pop("qas"), "data[1].paragraphs[0]", "'qas' should be a list, but isn't there"),
        (lambda p: p["qas"][0].update(question=""), f"{AT}[0]", "the question of 'a' is empty"),
        (lambda p: p["qas"][0].update(answers="x"), f"{AT}[0]", "'answers' should be a list, but is a text"),
        (lambda p: p["qas"][0].update(id=""), f"{AT}[0]", "an id should be a text"),
        (lambda p: p["qas"][0].update(is_impossible=True), f"{AT}[0]", "is_impossible is true"),
        (lambda p: p["qas"].insert(1, 5), f"{AT}[1]", "a number was found"),
        (lambda p: p["qas"][2].update(id="a"), f"{AT}[2]", f"a.json: {AT}[0]"),
    ],
)
def test_shapes_that_cannot_be(
    write: Write, change: Callable[[dict[str, Any]], object], place: str, found: str
) -> None:
    error = refused(write, "a.json", squad(change))
    assert error.where == f"a.json: {place}"
    assert found in error.what


def test_files_that_cannot_be(write: Write) -> None:
    assert refused(write, "a.json", '{"data": [\n{]}').where == "a.json:2"
    assert refused(write, "a.json", '{"date": []}').where == "a.json"
    assert "no questions" in refused(write, "a.json", '{"data": []}').what
    assert "name ends otherwise" in refused(write, "a.txt", "text").what
    for answers in ([], {"text": ["a"]}, {"text": ["a"], "answer_start": []}):
        record = json.dumps({"question": "Q", "context": "a", "answers": answers})
        assert refused(write, "a.jsonl", record).where == "a.jsonl:1"
    one = json.dumps({"id": "x", "question": "Q", "context": "a"})
    assert refused(write, "a.jsonl", f"{one}\n{one}").where == "a.jsonl:2"


def test_the_nearest_place() -> None:
    assert questions.find_nearest("aaa.a", "aa", 3) == 1
    assert questions.find_nearest("a..a", "a", 1) == 0
    assert questions.find_nearest("a.b", "a.", 9) == 0
    assert questions.find_nearest("acb", "a.", 0) is None
