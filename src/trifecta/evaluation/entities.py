"""Figures of named entities: whole spans with their label, as CoNLL's script and seqeval count them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypedDict

from trifecta.errors import DataError
from trifecta.evaluation.classification import Scores, mean, require_pairs, scores

Entity = tuple[str, int, int]
"""Label, first position, position after the last."""

_NO_LABEL = "_"
"""The label of a bare B or I."""


class EntityScores(TypedDict):
    """precision, recall, f1: over all entities (micro). macro_f1: mean over labels, None without any entity."""

    precision: float
    recall: float
    f1: float
    macro_f1: float | None
    per_label: dict[str, Scores]


def entities(tags: Sequence[str]) -> set[Entity]:
    """The spans of one sequence of BIO tags, or BIOES.

    Lenient, as seqeval is by default (the rules of CoNLL-2000's conlleval): an I- after O, or after another label,
    begins an entity.

    Raises:
        DataError: a tag that is neither O nor one of B-, I-, E-, S- with a label.
    """
    found: set[Entity] = set()
    kind, label, start = "O", _NO_LABEL, 0
    for position, tag in enumerate([*tags, "O"]):
        next_kind, next_label = _parts(tag)
        if _parted(kind, label, next_kind, next_label):
            if kind != "O":
                found.add((label, start, position))
            start = position
        kind, label = next_kind, next_label
    return found


def entity_scores(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> EntityScores:
    """Precision, recall and F1 of entities: right are those with the label and both ends right.

    Args:
        truth: the tags of each sequence. predicted: as many of the same lengths.

    Raises:
        DataError: unequal lengths (with the sequence, counted from 1), or a tag that isn't one.
    """
    require_pairs(truth, predicted)
    truths, predictions, hits = Counter[str](), Counter[str](), Counter[str]()
    for number, (true_tags, predicted_tags) in enumerate(zip(truth, predicted, strict=True), 1):
        require_pairs(true_tags, predicted_tags, where=f"sequence {number}")
        there, seen = entities(true_tags), entities(predicted_tags)
        for counter, spans in ((truths, there), (predictions, seen), (hits, there & seen)):
            counter.update(label for label, _, _ in spans)
    per_label = {
        label: scores(hits[label], truths[label], predictions[label]) for label in sorted({*truths, *predictions})
    }
    total = scores(hits.total(), truths.total(), predictions.total())
    return {
        "precision": total["precision"],
        "recall": total["recall"],
        "f1": total["f1"],
        "macro_f1": mean(row["f1"] for row in per_label.values()),
        "per_label": per_label,
    }


def _parted(kind: str, label: str, next_kind: str, next_label: str) -> bool:
    """Whether two neighbours can't be of one entity."""
    return kind in "OES" or next_kind in "OBS" or label != next_label


def _parts(tag: str) -> tuple[str, str]:
    """`B-PER` -> B, PER."""
    kind, dash, label = tag[:1], tag[1:2], tag[2:]
    if tag == "O":
        return tag, _NO_LABEL
    if kind and kind in "BIES" and dash in ("", "-"):
        return kind, label or _NO_LABEL
    raise DataError(f"{tag[:60]!r} is no tag", fix="use O, and B- and I- with a label, such as B-PER and I-PER")
