"""Documents of a text divided so that near-duplicates stand on one side, or counted where validation is given."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from trifecta.data import near
from trifecta.data.cache import read_summed, summed, write_beside
from trifecta.data.sources import Progress, Scan, Sources
from trifecta.data.split import FEWEST_DOCUMENTS, ApartSplit, DocumentSplit, Split
from trifecta.errors import DataError


def documents_apart(
    sources: Sources,
    validation_sources: Sources | None,
    split: Split | None,
    scan: Scan,
    threshold: float,
    cache: Path,
    progress: Progress | None = None,
) -> tuple[Split | None, list[str]]:
    """The split with near documents on one side each, and what is to be said. What was found is kept in the cache.

    Args:
        split: the plain one; None where validation has sources of its own.

    Raises:
        DataError: there are too few documents, or too few that differ.
    """
    if split is not None and not isinstance(split, DocumentSplit):
        raise DataError(
            f"data.near_duplicates keeps whole documents apart, and with {scan.documents} of them (fewer than "
            f"{FEWEST_DOCUMENTS}) the end of the text is held out", where=", ".join(sources.paths) or None,
            fix="remove it, give the text as more documents, or set data.samples to paragraphs or lines",
        )  # fmt: skip
    other = validation_sources.fingerprint() if validation_sources else None
    asked = [near.VERSION, scan.fingerprint, other, repr(split), threshold]
    known = cache / f"{hashlib.sha256(json.dumps(asked).encode()).hexdigest()}.json"
    found: dict[str, Any] | None = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = read_summed(known)
        found = found if {"moved", "notes"} <= set(found) else None
    if found is None:
        found = _found(sources, validation_sources, split, threshold, progress)
        with contextlib.suppress(OSError):  # only saves time
            write_beside(known, summed(found))
    moved = frozenset(int(number) for number in found["moved"])
    return ApartSplit(split, moved) if split and moved else split, [str(note) for note in found["notes"]]


def _found(
    sources: Sources,
    validation_sources: Sources | None,
    split: DocumentSplit | None,
    threshold: float,
    progress: Progress | None,
) -> dict[str, Any]:
    def report(count: int) -> None:
        if progress and count % 100 == 0:
            progress(f"looking for near-duplicates: {count:,} documents", None)

    signatures = near.signatures_of_pieces(sources.pieces(), report)
    if split is None:
        assert validation_sources is not None
        others = near.signatures_of_pieces(validation_sources.pieces(), report)
        firsts = near.near_groups(np.concatenate([signatures, others]), threshold)
        leaks = near.count_leaks(np.arange(len(firsts)) >= len(signatures), firsts)
        return {"moved": [], "notes": [near.leak_note(leaks, len(others), "documents", threshold)]}
    plain = split.validation()
    # The scan counts documents; a last one without an end has none to count.
    apart = near.put_apart(plain, near.near_groups(signatures[: split.documents], threshold))
    if apart.validation.all() or not apart.validation.any():
        raise DataError(
            f"nearly all of the {split.documents:,} documents are near-duplicates of each other by "
            f"data.near_duplicates {threshold:g}, so they can't be divided into training and validation",
            where=", ".join(sources.paths) or None, fix="raise data.near_duplicates, or give data.validation_paths",
        )  # fmt: skip
    moved = np.flatnonzero(apart.validation != plain).tolist()
    return {"moved": moved, "notes": [near.apart_note(apart, "documents", threshold)]}
