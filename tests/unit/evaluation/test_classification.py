"""Figures of classifiers and regressors, by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from trifecta.errors import DataError
from trifecta.evaluation import classification
from trifecta.evaluation.classification import confusion_matrix, multi_label, per_class, regression, single_label

pytestmark = pytest.mark.fast

TRUTH = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 2, 0])
"""Of class 0, 1, 2 are hit: 2, 1, 0; there: 3, 2, 1; predicted: 3, 2, 1."""
NOTHING = np.array([], dtype=np.int64)


def test_confusion_matrix_has_truths_as_rows() -> None:
    found = confusion_matrix(TRUTH, PREDICTED, 4)
    assert found.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert found.dtype == np.int64
    assert confusion_matrix(NOTHING, NOTHING, 2).tolist() == [[0, 0], [0, 0]]


def test_each_class_by_hand() -> None:
    table = per_class(TRUTH, np.array([0, 0, 0, 0, 1, 0]), 4)
    assert table[0] == {"precision": 3 / 5, "recall": 1.0, "f1": 6 / 8, "support": 3}
    assert table[1] == {"precision": 1.0, "recall": 1 / 2, "f1": 2 / 3, "support": 2}
    assert table[2] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert table[3] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_single_label_by_hand() -> None:
    """The fourth class occurs nowhere and doesn't count."""
    found = single_label(TRUTH, PREDICTED, 4)
    assert found == pytest.approx(
        {
            "accuracy": 3 / 6, "macro_f1": (2 / 3 + 1 / 2 + 0) / 3, "micro_f1": 3 / 6,
            "weighted_f1": (3 * 2 / 3 + 2 * 1 / 2 + 0) / 6, "mcc": (3 * 6 - 14) / (36 - 14),
        },
        abs=1e-15,
    )  # fmt: skip


def test_a_vocabulary_can_be_the_classes() -> None:
    """No square matrix: of 100,000 classes it would take 80 gigabytes."""
    found = single_label(np.array([99_999, 5]), np.array([99_999, 6]), 100_000)
    assert found["accuracy"] == 0.5
    assert found["macro_f1"] == pytest.approx(1 / 3)


def test_multi_label_by_hand() -> None:
    truth_NC = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], dtype=bool)
    predicted_NC = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=bool)
    assert multi_label(truth_NC, predicted_NC) == pytest.approx(
        {"micro_f1": 4 / 6, "macro_f1": (1 + 0 + 0) / 3, "exact_match": 1 / 3, "hamming": 2 / 9}
    )


def test_regression_by_hand() -> None:
    found = regression([1, 2, 3, 4], [1, 3, 3, 9])
    assert found["mse"] == (1 + 25) / 4
    assert found["mae"] == (1 + 5) / 4
    assert found["pearson"] == pytest.approx(12 / (5 * 36) ** 0.5, abs=1e-15)
    assert found["spearman"] == pytest.approx(4.5 / (5 * 4.5) ** 0.5, abs=1e-15)
    assert regression([1, 2, 3], [-10, -20, -30])["pearson"] == pytest.approx(-1, abs=1e-15)


def test_a_correlation_of_large_numbers_does_not_overflow() -> None:
    assert regression([1e200, 0, 1], [-1e200, 2, 3])["pearson"] == pytest.approx(-1, abs=1e-15)


def test_a_correlation_never_exceeds_one() -> None:
    for seed in range(50):
        x = np.random.default_rng(seed).normal(size=7)
        for factor in (3.0, -0.1):
            found = regression(x, factor * x + 1)
            assert abs(found["pearson"] or 0) <= 1
            assert found["spearman"] == pytest.approx(np.sign(factor), abs=1e-15)


EMPTY: list[dict[str, Any]] = [
    single_label(NOTHING, NOTHING, 3),
    multi_label(np.zeros((0, 3), dtype=bool), np.zeros((0, 3), dtype=bool)),
    multi_label(np.zeros((3, 0), dtype=bool), np.zeros((3, 0), dtype=bool)),
    regression([], []),
    regression([1.0, 2.0], [1.0, float("nan")]),
    regression([1.0, 2.0], [1.0, float("inf")]),
]


def test_fault_036_undefined_figures_are_null() -> None:
    """A figure without a value is None, so that its JSON is valid; everything else is a finite number."""
    for figures in EMPTY:
        assert figures
        assert set(figures.values()) == {None}
    cases = [
        ([0.1] * 3, [1.0, 2.0, 4.0], {"mse", "mae"}),
        ([1.0], [2.0], {"mse", "mae"}),
        ([1e200, 0.0, 1.0], [-1e200, 2.0, 3.0], {"mae", "pearson", "spearman"}),
        ([1e308, 1.5e308], [-1e308, 1e308], {"spearman"}),
    ]
    for truth, predicted, defined in cases:
        figures = regression(truth, predicted)
        json.dumps(figures, allow_nan=False)
        assert {name for name, value in figures.items() if value is not None} == defined, (truth, predicted)


def test_fault_036_control_nan_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure that is handed on as computed, infinite or NaN, fails the test."""
    monkeypatch.setattr(classification, "_finite", float)
    with pytest.raises(ValueError, match="not JSON compliant"):
        test_fault_036_undefined_figures_are_null()


def test_misfits_are_refused() -> None:
    with pytest.raises(DataError, match="2 truths, but 1 predictions") as caught:
        single_label(np.array([0, 1]), np.array([0]), 2)
    assert caught.value.exit_code == 3
    with pytest.raises(DataError, match="a truth is class -100, but the 2 classes are 0 to 1"):
        single_label(np.array([0, -100]), np.array([0, 1]), 2)
    with pytest.raises(DataError, match="a prediction is class 2"):
        confusion_matrix(np.array([0, 1]), np.array([0, 2]), 2)
    with pytest.raises(DataError, match=r"\(2, 3\), predictions of shape \(3, 2\)"):
        multi_label(np.ones((2, 3), dtype=bool), np.ones((3, 2), dtype=bool))
    with pytest.raises(DataError, match="1 truths, but 2 predictions"):
        regression([1.0], [1.0, 2.0])
