"""Conversations between a user and an assistant, in the forms that are common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from trifecta.data.tasks.objects import list_names, name_kind, read_objects, require_text, short
from trifecta.data.tasks.tables import input_files
from trifecta.errors import DataError, did_you_mean

_ROLES = {
    "system": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
}  # fmt: skip
_FIX = "mend or remove this dialogue"
_FORMS = (
    'write {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}, '
    '{"prompt": ..., "response": ...} or {"instruction": ..., "input": ..., "output": ...}'
)


@dataclass(frozen=True)
class Dialogue:
    """Who said what, in order: (role, content); the role is system, user or assistant. place: `file:line`."""

    turns: tuple[tuple[str, str], ...]
    place: str


def read_dialogues(paths: Sequence[str | Path]) -> list[Dialogue]:
    """Every dialogue of .jsonl and .json files, which may be packed (.gz, .zst).

    Each object is one of `{"messages": [{"role", "content"}]}`, `{"conversations": [{"from", "value"}]}` (ShareGPT),
    `{"prompt", "response" or "completion"}` and `{"instruction", "input", "output"}` (Alpaca, where the input may be
    empty or missing); a key `system` beside them is the first turn.

    Raises:
        DataError: another form, an unknown role, an empty turn, two turns of the user in a row, or no turn of the
            assistant; with the line.
    """
    dialogues = [_dialogue(record, where) for file in input_files(paths) for where, record in read_objects(file)]
    if not dialogues:
        raise DataError("there are no dialogues", where=", ".join(map(str, paths)), fix=_FORMS)
    return dialogues


def _dialogue(record: dict[str, Any], where: str) -> Dialogue:
    turns = _turns(record, where)
    system = record.get("system")
    if system not in (None, ""):
        turns.insert(0, ("system", require_text(system, "the system's text", where)))
    roles = [role for role, _ in turns]
    if ("user", "user") in pairwise(roles):
        raise DataError("two turns of the user in a row", where=where, fix="join them, or remove this dialogue")
    if "assistant" not in roles:
        raise DataError("no turn of the assistant, so there is nothing to learn", where=where, fix=_FIX)
    return Dialogue(tuple(turns), where)


def _turns(record: dict[str, Any], where: str) -> list[tuple[str, str]]:
    if "messages" in record:
        return _listed(record, "messages", "role", "content", where)
    if "conversations" in record:
        return _listed(record, "conversations", "from", "value", where)
    answers = [name for name in ("response", "completion") if name in record]
    if "prompt" in record and len(answers) == 1:
        return [
            ("user", require_text(record["prompt"], "'prompt'", where)),
            ("assistant", require_text(record[answers[0]], f"{answers[0]!r}", where)),
        ]
    if "instruction" in record and "output" in record:
        asked = require_text(record["instruction"], "'instruction'", where)
        given = record.get("input")
        if given is not None and (not isinstance(given, str) or given.strip()):
            asked += "\n\n" + require_text(given, "'input'", where)
        return [("user", asked), ("assistant", require_text(record["output"], "'output'", where))]
    raise DataError(f"no known form; the keys are: {list_names(list(record))}", where=where, fix=_FORMS)


def _listed(record: dict[str, Any], name: str, role_key: str, text_key: str, where: str) -> list[tuple[str, str]]:
    turns = record[name]
    if not isinstance(turns, list):
        raise DataError(f"{name!r} should be a list, but is {name_kind(turns)}", where=where, fix=_FORMS)
    found = []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, dict) or role_key not in turn or text_key not in turn:
            raise DataError(
                f"turn {number} should be an object with {role_key!r} and {text_key!r}, but is {short(turn)}",
                where=where, fix=_FORMS,
            )  # fmt: skip
        role = turn[role_key]
        if not isinstance(role, str) or role.strip().lower() not in _ROLES:
            near = did_you_mean(role, _ROLES) if isinstance(role, str) else ""
            raise DataError(
                f"turn {number} has the unknown role {short(role)}{'; ' + near if near else ''}", where=where,
                fix="use system, user or assistant",
            )  # fmt: skip
        found.append((_ROLES[role.strip().lower()], require_text(turn[text_key], f"turn {number}", where)))
    return found
