"""Figures of answered questions, by the rules of SQuAD's official scripts (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

from trifecta.errors import DataError
from trifecta.evaluation.classification import mean

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """Lower case, without ASCII punctuation and the articles a, an, the; one space between words."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(predicted: str, truths: Sequence[str]) -> float:
    """1 if the prediction is one of the truths, both normalised, else 0.

    Without truths the question is unanswerable: right is an empty prediction, or one of which normalising leaves
    nothing, such as `.`.
    """
    return float(normalize(predicted) in _golden(truths))


def f1(predicted: str, truths: Sequence[str]) -> float:
    """F1 of the words that the prediction shares with a truth, both normalised; of the truth where it is highest.

    2 shared / (words predicted + words of the truth). Where either has no words: 1 if both have none, else 0.
    """
    words = normalize(predicted).split()
    return max(_overlap(words, truth.split()) for truth in _golden(truths))


def squad_scores(predictions: Mapping[str, str], truths: Mapping[str, Sequence[str]]) -> dict[str, float | None]:
    """exact_match and f1 in percent, over all questions.

    With unanswerable questions among them (SQuAD 2.0) also HasAns_exact, HasAns_f1, HasAns_total and NoAns_exact,
    NoAns_f1, NoAns_total, of those with and without an answer. None where there are no such questions.

    Args:
        predictions: a text for each question's id, "" for no answer; ids without truths are left out, as by SQuAD.
        truths: the accepted texts for each question's id, none if it is unanswerable.

    Raises:
        DataError: a question has no prediction.
    """
    if missing := [key for key in truths if key not in predictions]:
        raise DataError(
            f"{len(missing):,} of {len(truths):,} questions have no prediction; the first is {missing[0]!r}",
            fix='predict a text for each question, "" where there is no answer',
        )
    exact = {key: exact_match(predictions[key], texts) for key, texts in truths.items()}
    overlap = {key: f1(predictions[key], texts) for key, texts in truths.items()}
    result = {"exact_match": _percent(exact, truths), "f1": _percent(overlap, truths)}
    parts = {"HasAns": [key for key in truths if truths[key]], "NoAns": [key for key in truths if not truths[key]]}
    if parts["NoAns"]:
        for name, keys in parts.items():
            result |= {f"{name}_exact": _percent(exact, keys), f"{name}_f1": _percent(overlap, keys)}
            result[f"{name}_total"] = len(keys)
    return result


def _golden(truths: Sequence[str]) -> list[str]:
    """The truths, normalised; those of which nothing is left don't count, and if none is left "" is the truth."""
    return list(filter(None, map(normalize, truths))) or [""]


def _overlap(words: list[str], truth: list[str]) -> float:
    if not words or not truth:
        return float(words == truth)
    shared = (Counter(words) & Counter(truth)).total()
    return 2 * shared / (len(words) + len(truth))


def _percent(values: Mapping[str, float], keys: Sequence[str] | Mapping[str, Sequence[str]]) -> float | None:
    share = mean(values[key] for key in keys)
    return None if share is None else 100 * share
