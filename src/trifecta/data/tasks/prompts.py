"""Prompts with their answers, from whatever holds them: conversations, or tables of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from trifecta.data.tasks.dialogues import Dialogue, read_dialogues
from trifecta.data.tasks.objects import kind_of
from trifecta.data.tasks.pairs import Pair, read_pairs
from trifecta.data.tasks.tables import input_files


def read_prompts(
    paths: Sequence[str | Path], *, source_field: str | None = None, target_field: str | None = None
) -> list[Dialogue]:
    """Every dialogue of the files, a pair being one of two turns.

    Args:
        paths: .csv and .tsv files as `read_pairs` reads them, .jsonl and .json files as `read_dialogues` does.
        source_field, target_field: columns of a pair; with one of them every file is read as pairs.

    Raises:
        DataError: as those two.
    """
    found: list[Dialogue] = []
    for file in input_files(paths):
        if source_field or target_field or kind_of(file) in ("csv", "tsv"):
            pairs = read_pairs([file.path], source_field=source_field, target_field=target_field)
            found += dialogues_of(pairs)
        else:
            found += read_dialogues([file.path])
    return found


def dialogues_of(pairs: Iterable[Pair]) -> list[Dialogue]:
    """The user says the source, the assistant the target."""
    return [Dialogue((("user", pair.source), ("assistant", pair.target)), pair.place) for pair in pairs]
