"""Writes the small data of this folder's pages to runs/techniques/data: `python docs/techniques/small_data.py`.

Run it from the root of the repository. The same files on every machine with the same package of plays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trifecta.data import stage
from trifecta.data.builtin import builtin_documents
from trifecta.data.builtin_tasks import builtin_task
from trifecta.randomness import key, permute

PLACE = Path("runs/techniques/data")
LABELLED = {"genre": (500, 600), "grammar-agreement": (200, 600)}
"""Built-in task -> records to train on, and held-out ones."""
TEXT_CHARACTERS = 400_000


def chosen(records: Sequence[Any], count: int, name: str) -> list[Any]:
    """So many records, always the same."""
    return [records[i] for i in permute(np.arange(count), len(records), key(0, name)).tolist()]


def write_records(name: str, records: Sequence[Any]) -> None:
    """Text and label, a line each."""
    lines = (json.dumps({"text": record.text, "label": record.label}) + "\n" for record in records)
    (PLACE / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def texts() -> Iterator[tuple[str, str]]:
    """Names and texts: the plays to train on, a part of them, a part of others, a part of the Python reference."""
    plays, others = ["\n\n".join(map(stage.play_script, part)) for part in stage.read_parts()]
    python = "\n\n".join(piece for _, pieces in builtin_documents("python")[1]() for piece in pieces)
    yield "all-plays", plays
    yield "plays", plays[:TEXT_CHARACTERS]
    yield "other-plays", others[: TEXT_CHARACTERS // 10]
    yield "python", python[:TEXT_CHARACTERS]


def main() -> None:
    """Writes all of it."""
    PLACE.mkdir(parents=True, exist_ok=True)
    for name, (few, held_out) in LABELLED.items():
        task = builtin_task(name)
        write_records(f"{name}-{few}", chosen(task.train, few, name))
        write_records(f"{name}-held-out", chosen(task.validation, held_out, name))
    for name, text in texts():
        (PLACE / f"{name}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
