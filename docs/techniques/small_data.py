"""Writes the small data of this folder's pages to runs/techniques/data: `python docs/techniques/small_data.py`.

Run it from the root of the repository. The same files on every machine with the same package of plays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trifecta.data import stage
from trifecta.data.builtin import builtin_documents
from trifecta.data.builtin_tasks import builtin_task
from trifecta.randomness import key, permute

PLACE = Path("runs/techniques/data")
FEW, HELD_OUT = 500, 600
MARKS = {"?": "question", "!": "exclamation", ".": "statement"}
TEXT_CHARACTERS = 400_000


def chosen(records: Sequence[Any], count: int, name: str) -> list[Any]:
    """So many records, always the same."""
    return [records[i] for i in permute(np.arange(count), len(records), key(0, name)).tolist()]


def sentences(plays: Sequence[stage.Play], count: int) -> list[tuple[str, str]]:
    """Sentences without the mark at their end, and which one it was: so many, a third of each kind."""
    found = {" ".join(text.split()) for play in plays for speech in play.speeches
             for text in re.findall(r"[A-Z][^.?!]*[.?!]", " ".join(speech.lines))}  # fmt: skip
    kept = sorted(text for text in found if 4 <= len(text.split()) <= 30)
    parts = [[(text[:-1], name) for text in kept if text[-1] == mark] for mark, name in MARKS.items()]
    one_each = zip(*(chosen(part, count // 3 + 1, name) for part, name in zip(parts, MARKS, strict=True)), strict=True)
    return [record for three in one_each for record in three][:count]


def near(records: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each sentence of eight words or more once again, with a word before it."""
    return [(f"Nay, {text}", label) for text, label in records if len(text.split()) >= 8]


def write_records(name: str, records: Sequence[tuple[str, str]]) -> None:
    """Text and label, a line each."""
    lines = (json.dumps({"text": text, "label": label}) + "\n" for text, label in records)
    (PLACE / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def texts() -> Iterator[tuple[str, str]]:
    """Names and texts: the plays to train on, a part of them, a part of others, a part of the Python reference."""
    plays, others = ["\n\n".join(map(stage.play_script, part)) for part in stage.read_parts()]
    python = "\n\n".join(piece for _, pieces in builtin_documents("python")[1]() for piece in pieces)
    yield "all-plays", plays
    yield "plays", plays[:TEXT_CHARACTERS]
    yield "other-plays", others[: TEXT_CHARACTERS // 10]
    yield "python", python[:TEXT_CHARACTERS]
    yield "noisy", noisy(plays[:TEXT_CHARACTERS])


def noisy(text: str) -> str:
    """The text with 8,000 of its characters, drawn at random, put in after every 100,000."""
    generator = np.random.default_rng(key(0, "noise"))
    parts = [text[start : start + 100_000] for start in range(0, len(text), 100_000)]
    return "".join(part + "".join(generator.choice(list(text), 8_000)) for part in parts)


def main() -> None:
    """Writes all of it."""
    PLACE.mkdir(parents=True, exist_ok=True)
    train, held_out = stage.read_parts()
    records = sentences(train, FEW)
    write_records("marks", records)
    write_records("marks-near", [*records, *near(records)])
    write_records("marks-held-out", sentences(held_out, HELD_OUT))
    task = builtin_task("grammar-agreement")
    for name, records, count in (("agreement", task.train, 200), ("agreement-held-out", task.validation, HELD_OUT)):
        write_records(name, [(record.text, record.label) for record in chosen(records, count, name)])
    for name, text in texts():
        (PLACE / f"{name}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
