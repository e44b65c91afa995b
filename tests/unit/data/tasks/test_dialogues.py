"""Dialogues in each form, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from trifecta.data.tasks import Dialogue, dialogues, read_dialogues
from trifecta.errors import DataError

pytestmark = pytest.mark.fast
Write = Callable[..., str]

ASKED, ANSWERED = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
TURNS = (("user", "hi"), ("assistant", "hello"))


@pytest.mark.parametrize(
    ("record", "turns"),
    [
        ({"messages": [ASKED, ANSWERED]}, TURNS),
        ({"messages": [{"role": "System", "content": "be"}, ASKED, ANSWERED, ASKED]},
         (("system", "be"), *TURNS, ("user", "hi"))),
        ({"id": 1, "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}, TURNS),
        ({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}], "system": "be"},
         (("system", "be"), *TURNS)),
        ({"prompt": "hi", "response": "hello"}, TURNS), ({"prompt": "hi", "completion": "hello"}, TURNS),
        ({"instruction": "hi", "output": "hello"}, TURNS),
        ({"instruction": "hi", "input": "", "output": "hello"}, TURNS),
        ({"instruction": "hi", "input": "there", "output": "hello"}, (("user", "hi\n\nthere"), ("assistant", "hello"))),
    ],
)  # fmt: skip
def test_forms(write: Write, record: Any, turns: tuple[tuple[str, str], ...]) -> None:
    path = write("a.jsonl", f"\n{json.dumps(record)}\n")
    assert read_dialogues([path]) == [Dialogue(turns, f"{path}:2")]
    assert [d.turns for d in read_dialogues([write("a.json", json.dumps([record, record], indent=2))])] == [turns] * 2


def check_refused(write: Write) -> None:
    for record, found in [
        ({"messages": [ASKED]}, "no turn of the assistant"), ({"messages": []}, "no turn of the assistant"),
        ({"messages": [ASKED, ASKED, ANSWERED]}, "two turns of the user"),
        ({"messages": [{"role": "tool", "content": "x"}, ANSWERED]}, "unknown role 'tool'"),
        ({"messages": [ASKED, {"role": "asistant", "content": "x"}]}, "did you mean 'assistant'?"),
        ({"messages": [{"role": 1, "content": "x"}]}, "unknown role 1"),
        ({"messages": [ASKED, {"role": "assistant", "content": " "}]}, "turn 2 is empty"),
        ({"messages": [ASKED, {"role": "assistant", "content": None}]}, "turn 2 should be a text, but is null"),
        ({"messages": [ASKED, {"role": "assistant"}]}, "turn 2 should be an object"),
        ({"messages": [ASKED, "hello"]}, "turn 2 should be an object"), ({"messages": "hi"}, "should be a list"),
        ({"conversations": [ASKED]}, "'from' and 'value'"), ({"prompt": "hi", "response": ""}, "'response' is empty"),
        ({"prompt": "", "response": "hello"}, "'prompt' is empty"), ({"prompt": "hi"}, "no known form"),
        ({"prompt": "a", "response": "b", "completion": "c"}, "no known form"),
        ({"instruction": "a", "input": 5, "output": "c"}, "'input' should be a text"), ([], "a list was found"),
    ]:  # fmt: skip
        path = write("a.jsonl", "\n".join([*[json.dumps({"messages": [ASKED, ANSWERED]})] * 16, json.dumps(record)]))
        with pytest.raises(DataError) as caught:
            read_dialogues([path])
        assert caught.value.where == f"{path}:17"
        assert found in caught.value.what
        assert caught.value.fix


def test_what_is_no_dialogue_is_refused_with_its_line(write: Write) -> None:
    check_refused(write)
    for name in ("a.jsonl", "a.json", "a.txt"):
        with pytest.raises(DataError):
            read_dialogues([write(name, "")])


def test_control_two_turns_in_a_row_are_noticed(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that doesn't look at neighbours fails the test."""
    monkeypatch.setattr(dialogues, "pairwise", lambda _: [])
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_refused(write)
