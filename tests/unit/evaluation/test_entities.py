"""Spans of tags and their figures, by hand."""

from __future__ import annotations

import pytest

from trifecta.errors import DataError
from trifecta.evaluation.entities import entities, entity_scores

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("", set()),
        ("O O", set()),
        ("B-PER I-PER O B-LOC", {("PER", 0, 2), ("LOC", 3, 4)}),
        ("B-PER B-PER I-PER", {("PER", 0, 1), ("PER", 1, 3)}),
        ("O I-PER I-PER O I-PER", {("PER", 1, 3), ("PER", 4, 5)}),
        ("B-PER I-LOC I-LOC", {("PER", 0, 1), ("LOC", 1, 3)}),
        ("I-PER B-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("B-geo-city I-geo-city", {("geo-city", 0, 2)}),
        ("S-PER B-PER I-PER E-PER E-PER", {("PER", 0, 1), ("PER", 1, 4), ("PER", 4, 5)}),
        ("B I O", {("_", 0, 2)}),
    ],
)
def test_spans_of_tags(tags: str, spans: set[tuple[str, int, int]]) -> None:
    assert entities(tags.split()) == spans


@pytest.mark.parametrize("tag", ["", "PER", "BPER", "X-PER", "o", "O-PER", "b-PER", "-"])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(DataError, match="is no tag") as caught:
        entities(["O", tag])
    assert caught.value.exit_code == 3
    assert "B-PER" in str(caught.value)


def test_scores_by_hand() -> None:
    """Half right counts as wrong: the end and the label must fit."""
    truth = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "O"], ["B-ORG"]]
    predicted = [["B-PER", "I-PER", "O", "B-PER"], ["B-LOC", "I-LOC"], ["O"]]
    found = entity_scores(truth, predicted)
    assert found["precision"] == 1 / 3
    assert found["recall"] == 1 / 4
    assert found["f1"] == 2 / 7
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert found["per_label"] == {
        "LOC": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2},
        "ORG": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
        "PER": {"precision": 1 / 2, "recall": 1.0, "f1": 2 / 3, "support": 1},
    }


def test_the_same_place_in_another_sequence_is_another_entity() -> None:
    found = entity_scores([["B-A", "O"], ["O", "O"]], [["O", "O"], ["B-A", "O"]])
    assert found["f1"] == 0.0
    assert found["per_label"]["A"]["support"] == 1


def test_a_label_that_is_only_predicted_lowers_the_macro_figure() -> None:
    found = entity_scores([["B-A", "O"]], [["B-A", "B-Z"]])
    assert found["macro_f1"] == 1 / 2
    assert found["per_label"]["Z"]["support"] == 0


def test_without_entities_the_macro_figure_is_none() -> None:
    assert entity_scores([["O"]], [["O"]]) == {
        "precision": 0.0, "recall": 0.0, "f1": 0.0, "macro_f1": None, "per_label": {},
    }  # fmt: skip
    assert entity_scores([], [])["macro_f1"] is None


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="2 truths, but 1 predictions"):
        entity_scores([["O"], ["O"]], [["O"]])
    with pytest.raises(DataError, match="1 truths, but 2 predictions") as caught:
        entity_scores([["O"], ["O"]], [["O"], ["O", "O"]])
    assert caught.value.where == "sequence 2"
