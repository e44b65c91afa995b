"""Prompts with their answers, of tables and of conversations."""

from __future__ import annotations

from pathlib import Path

import pytest

from trifecta.data.tasks import Dialogue, read_prompts
from trifecta.errors import DataError

pytestmark = pytest.mark.fast


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_pair_is_a_dialogue_of_two_turns(tmp_path: Path) -> None:
    table = write(tmp_path / "a.tsv", "prompt\tresponse\n2+3=\t5\n")
    chats = write(tmp_path / "b.jsonl", '{"prompt": "a", "completion": "b"}\n')
    assert read_prompts([table, chats]) == [
        Dialogue((("user", "2+3="), ("assistant", "5")), f"{table}:2"),
        Dialogue((("user", "a"), ("assistant", "b")), f"{chats}:1"),
    ]


def test_named_columns_are_pairs_in_every_kind_of_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"q": "a", "a": "b"}\n')
    found = read_prompts([path], source_field="q", target_field="a")
    assert [dialogue.turns for dialogue in found] == [(("user", "a"), ("assistant", "b"))]
    with pytest.raises(DataError, match="no known form"):
        read_prompts([path])


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.csv", "prompt,response\na,\n", 2),
        ("a.jsonl", '{"prompt": "a", "response": "b"}\n{"prompt": "a", "response": ""}\n', 2),
    ],
)
def test_an_empty_side_is_named(name: str, text: str, line: int, tmp_path: Path) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(DataError, match="is empty") as caught:
        read_prompts([path])
    assert caught.value.where == f"{path}:{line}"
