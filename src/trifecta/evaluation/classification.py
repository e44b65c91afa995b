"""Figures of classifiers and regressors, from whole splits of truths and predictions.

A division by zero gives 0, as in scikit-learn. A figure that has no value (no samples at all, the correlation of a
constant) is None, never NaN, so that it can be written as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sized
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from trifecta.errors import DataError

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


class Scores(TypedDict):
    """precision, recall, f1: 0 to 1. support: how many truths there are."""

    precision: float
    recall: float
    f1: float
    support: int


def scores(hits: int, truths: int, predictions: int) -> Scores:
    """precision = hits / predictions, recall = hits / truths, f1 = 2 hits / (truths + predictions)."""
    return {
        "precision": _ratio(hits, predictions),
        "recall": _ratio(hits, truths),
        "f1": _ratio(2 * hits, truths + predictions),
        "support": truths,
    }


def mean(values: Iterable[float]) -> float | None:
    """The mean, or None of nothing."""
    kept = list(values)
    return math.fsum(kept) / len(kept) if kept else None


def require_pairs(truth: Sized, predicted: Sized, where: str | None = None) -> None:
    """Nothing, if there is one prediction for each truth.

    Raises:
        DataError: there are more of one than of the other.
    """
    if len(truth) != len(predicted):
        raise DataError(
            f"{len(truth):,} truths, but {len(predicted):,} predictions", where=where,
            fix="give one prediction for each truth, in the same order",
        )  # fmt: skip


def confusion_matrix(truth: Int64, predicted: Int64, classes: int) -> Int64:
    """How often class i (row) was predicted as class j (column): (classes, classes), summing to the samples.

    Raises:
        DataError: unequal numbers of truths and predictions, or a class outside 0 .. classes - 1.
    """
    _require_classes(truth, predicted, classes)
    cells = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return cells.astype(np.int64).reshape(classes, classes)


def per_class(truth: Int64, predicted: Int64, classes: int) -> list[Scores]:
    """Precision, recall, F1 and support of each class; the place in the list is the class.

    Raises:
        DataError: as for `confusion_matrix`.
    """
    hits_C, truths_C, predictions_C = _counts(truth, predicted, classes)
    return [scores(*counts) for counts in zip(hits_C, truths_C, predictions_C, strict=True)]


def single_label(truth: Int64, predicted: Int64, classes: int) -> dict[str, float | None]:
    """accuracy, macro_f1, micro_f1, weighted_f1 (by support) and mcc; all None without samples.

    macro_f1 is the mean over the classes that occur among truths or predictions, as in scikit-learn: a class that a
    small split lacks doesn't count as a failure. mcc: R_K of Gorodkin (2004), the multi-class Matthews correlation.

    Raises:
        DataError: as for `confusion_matrix`.
    """
    hits_C, truths_C, predictions_C = _counts(truth, predicted, classes)
    table = [scores(*counts) for counts in zip(hits_C, truths_C, predictions_C, strict=True)]
    samples, hits = len(truth), sum(hits_C)
    if not samples:
        return dict.fromkeys(("accuracy", "macro_f1", "micro_f1", "weighted_f1", "mcc"))
    occurring = [row["f1"] for row, there in zip(table, predictions_C, strict=True) if row["support"] or there]
    return {
        "accuracy": hits / samples,
        "macro_f1": mean(occurring),
        "micro_f1": hits / samples,
        "weighted_f1": math.fsum(row["f1"] * row["support"] for row in table) / samples,
        "mcc": _mcc(hits, truths_C, predictions_C),
    }


def multi_label(truth_NC: Bool, predicted_NC: Bool) -> dict[str, float | None]:
    """micro_f1, macro_f1, exact_match (share of rows wholly right) and hamming (share of wrong cells).

    macro_f1 is the mean over every column; one without truths and predictions counts 0, as in scikit-learn.
    All are None without rows or columns.

    Raises:
        DataError: the two differ in shape, or aren't tables.
    """
    if truth_NC.ndim != 2 or truth_NC.shape != predicted_NC.shape:
        raise DataError(
            f"truths of shape {truth_NC.shape}, predictions of shape {predicted_NC.shape}",
            fix="give two tables of one shape: (samples, classes)",
        )
    if not truth_NC.size:
        return dict.fromkeys(("micro_f1", "macro_f1", "exact_match", "hamming"))
    truth_NC, predicted_NC = truth_NC.astype(bool), predicted_NC.astype(bool)
    hits_C: list[int] = (truth_NC & predicted_NC).sum(0).tolist()
    marks_C: list[int] = (truth_NC.sum(0) + predicted_NC.sum(0)).tolist()
    wrong_NC = truth_NC != predicted_NC
    return {
        "micro_f1": _ratio(2 * sum(hits_C), sum(marks_C)),
        "macro_f1": mean(_ratio(2 * hits, marks) for hits, marks in zip(hits_C, marks_C, strict=True)),
        "exact_match": float(1 - wrong_NC.any(1).mean()),
        "hamming": float(wrong_NC.mean()),
    }


def regression(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> dict[str, float | None]:
    """mse, mae, pearson and spearman (average ranks for ties) of two lists of numbers.

    None where there is no value: without samples, where a number isn't finite or a square overflows, and for the
    correlations with fewer than two samples or a constant list.

    Raises:
        DataError: unequal numbers of truths and predictions.
    """
    x, y = (np.asarray(values, dtype=np.float64).ravel() for values in (truth, predicted))
    require_pairs(x, y)
    if not len(x) or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return dict.fromkeys(("mse", "mae", "pearson", "spearman"))
    with np.errstate(over="ignore", invalid="ignore"):
        return {
            "mse": _finite(np.mean((x - y) ** 2)),
            "mae": _finite(np.mean(np.abs(x - y))),
            "pearson": _correlation(x, y),
            "spearman": _correlation(_ranks(x), _ranks(y)),
        }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _require_classes(truth: Int64, predicted: Int64, classes: int) -> None:
    require_pairs(truth, predicted)
    for name, values in (("truth", truth), ("prediction", predicted)):
        if len(outside := values[(values < 0) | (values >= classes)]):
            raise DataError(
                f"a {name} is class {outside[0]}, but the {classes} classes are 0 to {classes - 1}",
                fix="leave out positions without a label, and count every class",
            )


def _counts(truth: Int64, predicted: Int64, classes: int) -> tuple[list[int], list[int], list[int]]:
    """Of each class: hits, truths, predictions. Without the square matrix, so that a vocabulary can be the classes."""
    _require_classes(truth, predicted, classes)
    hits_C, truths_C, predictions_C = (
        np.bincount(values, minlength=classes).tolist() for values in (truth[truth == predicted], truth, predicted)
    )
    return hits_C, truths_C, predictions_C


def _mcc(hits: int, truths_C: list[int], predictions_C: list[int]) -> float:
    """(hits n - sum t p) / sqrt((n^2 - sum t^2)(n^2 - sum p^2)); whole numbers up to the root, so nothing cancels."""
    samples = sum(truths_C)
    covariance = hits * samples - sum(t * p for t, p in zip(truths_C, predictions_C, strict=True))
    spread = (samples**2 - sum(t * t for t in truths_C)) * (samples**2 - sum(p * p for p in predictions_C))
    return covariance / math.sqrt(spread) if spread else 0.0


def _finite(value: float | np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None


def _correlation(x: Float64, y: Float64) -> float | None:
    """Pearson's: the cosine of the two centred lists."""
    # Equality tells a constant list, its norm doesn't: the mean of equal numbers is rounded.
    if (x == x[0]).all() or (y == y[0]).all():
        return None
    cosine = float(_direction(x) @ _direction(y))
    return max(-1.0, min(1.0, cosine)) if math.isfinite(cosine) else None


def _direction(x: Float64) -> Float64:
    """The centred list with norm 1; scaled first, since squares of large numbers overflow."""
    centred = x - x.mean()
    centred = centred / np.abs(centred).max()
    return np.asarray(centred / np.linalg.norm(centred), dtype=np.float64)


def _ranks(x: Float64) -> Float64:
    """Places from 1 in ascending order; equal numbers share the mean of their places."""
    _, group, sizes = np.unique(x, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(sizes) - (sizes - 1) / 2)[group], dtype=np.float64)
