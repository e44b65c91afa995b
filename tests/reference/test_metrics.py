"""Figures of fine-tuning tasks against scikit-learn, scipy and seqeval."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from trifecta.evaluation import classification, entities
from trifecta.evaluation.classification import confusion_matrix, multi_label, per_class, regression, single_label


def exactly(figures: Any) -> Any:
    return pytest.approx(figures, rel=0, abs=1e-12)


def median(values: Iterable[float]) -> float:
    """The bug that is planted for the mean."""
    return float(np.median(list(values)))


def sklearn_figures(truth: Any, predicted: Any) -> dict[str, float]:
    from sklearn import metrics

    # scikit-learn warns of cases that are wanted here, such as a single class.
    with warnings.catch_warnings(action="ignore"):
        figures = {
            f"{average}_f1": metrics.f1_score(truth, predicted, average=average, zero_division=0)
            for average in ("macro", "micro", "weighted")
        }
        figures["accuracy"] = metrics.accuracy_score(truth, predicted)
        return figures | {"mcc": metrics.matthews_corrcoef(truth, predicted)}


def test_numeric_036_single_label_equals_sklearn() -> None:
    """Accuracy, F1 by every average, MCC, the confusion matrix and each class's figures are scikit-learn's to 1e-12,
    with classes that are never true, never predicted, or neither."""
    from sklearn import metrics

    rng = np.random.default_rng(0)
    for case in range(60):
        classes, samples = int(rng.integers(2, 9)), int(rng.integers(2, 50))
        truth = rng.integers(0, max(1, classes - case % 3), samples)
        predicted = np.where(rng.random(samples) < 0.5, truth, rng.integers(case % 2, classes, samples))
        if case % 10 == 0:
            predicted = np.zeros_like(truth)
        assert single_label(truth, predicted, classes) == exactly(sklearn_figures(truth, predicted))
        labels = range(classes)
        wanted = metrics.confusion_matrix(truth, predicted, labels=labels)
        assert np.array_equal(confusion_matrix(truth, predicted, classes), wanted)
        rows = metrics.precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0)
        table = per_class(truth, predicted, classes)
        for name, column in zip(("precision", "recall", "f1", "support"), rows, strict=True):
            assert [dict(row)[name] for row in table] == exactly(column.tolist())


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("_ratio", lambda part, whole: part / whole if whole else 1.0),
        ("mean", median),
        ("_mcc", lambda hits, truths_C, _: 2 * hits / sum(truths_C) - 1),
        ("_counts", lambda truth, predicted, classes: _counts(predicted, truth, classes)),
    ],
)
def test_numeric_036_control_single_label(name: str, bug: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A division by zero that gives 1, a wrong mean, a wrong MCC, and truths taken for predictions are noticed."""
    monkeypatch.setattr(classification, name, bug)
    with pytest.raises(AssertionError):
        test_numeric_036_single_label_equals_sklearn()


_counts = classification._counts


def test_numeric_036_multi_label_equals_sklearn() -> None:
    """F1 by micro and macro average, exact match and Hamming loss are scikit-learn's to 1e-12, with empty columns."""
    from sklearn import metrics

    rng = np.random.default_rng(1)
    for _ in range(60):
        shape = int(rng.integers(1, 40)), int(rng.integers(2, 8))
        truth_NC = rng.random(shape) < rng.random(shape[1]) * 0.6
        predicted_NC = truth_NC ^ (rng.random(shape) < 0.2)
        truth_NC[:, 0] = predicted_NC[:, 0] = False
        assert multi_label(truth_NC, predicted_NC) == exactly(
            {
                "micro_f1": metrics.f1_score(truth_NC, predicted_NC, average="micro", zero_division=0),
                "macro_f1": metrics.f1_score(truth_NC, predicted_NC, average="macro", zero_division=0),
                "exact_match": metrics.accuracy_score(truth_NC, predicted_NC),
                "hamming": metrics.hamming_loss(truth_NC, predicted_NC),
            }
        )


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("_ratio", lambda part, whole: part / whole if whole else 1.0),
        ("mean", median),
    ],
)
def test_numeric_036_control_multi_label(name: str, bug: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty column that counts 1, and a median for the mean, are noticed."""
    monkeypatch.setattr(classification, name, bug)
    with pytest.raises(AssertionError):
        test_numeric_036_multi_label_equals_sklearn()


def test_numeric_036_regression_equals_scipy() -> None:
    """Errors and both correlations are scikit-learn's and scipy's to 1e-12, with ties, few samples, far offsets."""
    from scipy import stats
    from sklearn import metrics

    rng = np.random.default_rng(2)
    for case in range(60):
        truth = rng.integers(0, 6, 3 + case).astype(np.float64) if case % 2 else rng.normal(size=3 + case)
        predicted = np.round(truth + rng.normal(size=len(truth)), case % 3) + 100 * (case % 4)
        truth[0], predicted[0] = -9, -7
        assert regression(truth, predicted) == exactly(
            {
                "mse": metrics.mean_squared_error(truth, predicted),
                "mae": metrics.mean_absolute_error(truth, predicted),
                "pearson": stats.pearsonr(truth, predicted).statistic,
                "spearman": stats.spearmanr(truth, predicted).statistic,
            }
        )


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("_ranks", lambda x: np.argsort(np.argsort(x, kind="stable"), kind="stable").astype(np.float64)),
        ("_direction", lambda x: x / np.linalg.norm(x)),
    ],
)
def test_numeric_036_control_regression(name: str, bug: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties ranked in the order of appearance, and lists that aren't centred, are noticed."""
    monkeypatch.setattr(classification, name, bug)
    with pytest.raises(AssertionError):
        test_numeric_036_regression_equals_scipy()


def test_numeric_036_entities_equal_seqeval() -> None:
    """Of 1,000 random tag sequences, most of them malformed, spans and every figure are seqeval's to 1e-12."""
    from seqeval.metrics import sequence_labeling as seqeval

    rng = random.Random(0)
    kinds = ["O", *(f"{kind}-{label}" for kind in "BI" for label in ("PER", "LOC", "geo-city")), "B", "I"]
    full = [*kinds, *(f"{kind}-{label}" for kind in "ES" for label in ("PER", "LOC"))]
    truth = [rng.choices(full if n % 2 else kinds, k=rng.randrange(1, 15)) for n in range(1000)]
    predicted = [[tag if rng.random() < 0.7 else rng.choice(full if n % 2 else kinds) for tag in tags]
                 for n, tags in enumerate(truth)]  # fmt: skip
    for tags in (*truth, *predicted):
        assert entities.entities(tags) == {
            (label, start, last + 1) for label, start, last in seqeval.get_entities(tags)
        }
    for start in range(0, 1000, 20):
        pair = truth[start : start + 20], predicted[start : start + 20]
        found = entities.entity_scores(*pair)
        wanted = {a: seqeval.precision_recall_fscore_support(*pair, average=a, zero_division=0)
                  for a in ("micro", "macro", None)}  # fmt: skip
        assert [found["precision"], found["recall"], found["f1"]] == exactly(list(wanted["micro"][:3]))
        assert found["macro_f1"] == exactly(wanted["macro"][2])
        rows = [list(row.values()) for row in found["per_label"].values()]
        assert np.array(rows) == exactly(np.array(wanted[None]).T)


@pytest.mark.parametrize(
    "bug",
    [
        lambda _kind, label, next_kind, next_label: next_kind in "OBS" or label != next_label,
        lambda kind, _label, next_kind, _next_label: kind in "OES" or next_kind in "OBS",
        lambda kind, label, next_kind, next_label: kind in "OES" or next_kind in "OS" or label != next_label,
    ],
)
def test_numeric_036_control_entities(bug: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """An I- after O that begins nothing, labels that run together, and a B- that begins nothing are noticed."""
    monkeypatch.setattr(entities, "_parted", bug)
    with pytest.raises(AssertionError):
        test_numeric_036_entities_equal_seqeval()
