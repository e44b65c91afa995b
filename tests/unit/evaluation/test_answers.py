"""SQuAD's figures: by hand, and against the formulas of the official scripts written again."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Mapping, Sequence

import pytest

from trifecta.errors import DataError
from trifecta.evaluation import answers
from trifecta.evaluation.answers import exact_match, f1, normalize, squad_scores

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Eiffel\tTower!", "eiffel tower"),
        ("a cat, an owl and the hen.", "cat owl and hen"),
        ("Panthers' theatre", "panthers theatre"),
        ("U.S.A.", "usa"),
        ("$1,000", "1000"),
        ("the.", ""),
        ("", ""),
    ],
)
def test_normal_form(text: str, normal: str) -> None:
    assert normalize(text) == normal


def test_exact_match_and_f1_by_hand() -> None:
    assert exact_match("The Eiffel Tower", ["eiffel tower.", "tower"]) == 1.0
    assert exact_match("Eiffel", ["eiffel tower"]) == 0.0
    assert f1("Eiffel", ["the eiffel tower"]) == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert f1("big big dog", ["big dog dog"]) == pytest.approx(2 / 3), "each word counts as often as both have it"
    assert f1("big dog", ["cat", "dog", "big"]) == pytest.approx(2 / 3), "the best of the truths"
    assert f1("cat", ["dog"]) == 0.0


def test_an_unanswerable_question_wants_no_answer() -> None:
    """As in the official script "the" counts as none, and truths of which nothing is left don't count."""
    for given, right in [("", 1.0), ("the.", 1.0), ("Paris", 0.0)]:
        assert exact_match(given, []) == f1(given, []) == right
    assert exact_match("", ["Paris"]) == f1("", ["Paris"]) == 0.0
    assert exact_match("", ["Paris", "!"]) == f1("", ["Paris", "!"]) == 0.0


def test_scores_by_hand() -> None:
    truths: dict[str, list[str]] = {"a": ["Paris"], "b": ["the red house", "house"]}
    predictions = {"a": "paris", "b": "a red car", "unknown": "x"}
    assert squad_scores(predictions, truths) == {"exact_match": 50.0, "f1": 75.0}
    truths |= {"c": [], "d": [], "e": []}
    predictions |= {"c": "", "d": "something", "e": ""}
    assert squad_scores(predictions, truths) == pytest.approx(
        {
            "exact_match": 60.0, "f1": 70.0,
            "HasAns_exact": 50.0, "HasAns_f1": 75.0, "HasAns_total": 2,
            "NoAns_exact": 200 / 3, "NoAns_f1": 200 / 3, "NoAns_total": 3,
        }
    )  # fmt: skip


def test_nothing_to_score_is_none() -> None:
    assert squad_scores({}, {}) == {"exact_match": None, "f1": None}
    found = squad_scores({"a": ""}, {"a": []})
    assert (found["HasAns_exact"], found["HasAns_f1"], found["HasAns_total"]) == (None, None, 0)
    assert (found["exact_match"], found["NoAns_exact"]) == (100.0, 100.0)


def test_a_question_without_prediction_is_refused() -> None:
    with pytest.raises(DataError, match="1 of 2 questions have no prediction; the first is 'b'") as caught:
        squad_scores({"a": ""}, {"a": [], "b": ["x"]})
    assert caught.value.exit_code == 3


def official_normal(text: str) -> str:
    kept = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def official_f1(gold: str, predicted: str) -> float:
    truth, words = official_normal(gold).split(), official_normal(predicted).split()
    if not truth or not words:
        return float(truth == words)
    left, same = list(truth), 0
    for word in words:
        if word in left:
            left.remove(word)
            same += 1
    if same == 0:
        return 0.0
    precision, recall = same / len(words), same / len(truth)
    return 2 * precision * recall / (precision + recall)


def official(predictions: Mapping[str, str], truths: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """evaluate-v2.0.py: golden answers that normalise to nothing are dropped; without any, [''] is golden."""
    exact, overlap = {}, {}
    for key, texts in truths.items():
        golden = [text for text in texts if official_normal(text)] or [""]
        exact[key] = max(int(official_normal(text) == official_normal(predictions[key])) for text in golden)
        overlap[key] = max(official_f1(text, predictions[key]) for text in golden)
    result = {}
    groups = {
        "": list(truths),
        "HasAns_": [k for k in truths if truths[k]],
        "NoAns_": [k for k in truths if not truths[k]],
    }
    for name, keys in groups.items():
        result[name + ("exact" if name else "exact_match")] = 100 * sum(exact[key] for key in keys) / len(keys)
        result[name + "f1"] = 100 * sum(overlap[key] for key in keys) / len(keys)
        if name:
            result[name + "total"] = len(keys)
    return result


def test_numeric_036_answers_follow_the_official_script() -> None:
    """2,000 random questions score as by the formulas of SQuAD 2.0's script, to 1e-12."""
    rng = random.Random(0)
    words = [
        "the",
        "The",
        "a",
        "An",
        "theatre",
        "Red",
        "red,",
        "house",
        "house.",
        "U.S.",
        "us",
        "-",
        "'s",
        "élan",
        "\u2014",
        "1,000",
    ]

    def text() -> str:
        return rng.choice([" ", "  ", "\n"]).join(rng.choices(words, k=rng.randrange(5)))

    truths = {str(i): [text() for _ in range(rng.randrange(4))] for i in range(2000)}
    predictions = {key: text() if rng.random() < 0.5 else rng.choice([*texts, ""]) for key, texts in truths.items()}
    assert squad_scores(predictions, truths) == pytest.approx(official(predictions, truths), rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("normalize", lambda text: " ".join(text.lower().split())),
        ("_golden", lambda truths: [normalize(text) for text in truths] or [""]),
        ("_overlap", lambda words, truth: len(set(words) & set(truth)) * 2 / max(len(words) + len(truth), 1)),
    ],
)
def test_numeric_036_control_answers(name: str, bug: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text kept as it is, empty truths that count, and words counted once each are noticed."""
    monkeypatch.setattr(answers, name, bug)
    with pytest.raises(AssertionError):
        test_numeric_036_answers_follow_the_official_script()
