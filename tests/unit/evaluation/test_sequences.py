"""BLEU, chrF and ROUGE by hand; the libraries behind them are quiet, offline and optional."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trifecta.errors import DataError, RecipeError
from trifecta.evaluation.sequences import bleu_chrf, exact_match_rate, rouge


@pytest.mark.fast
def test_bleu_and_chrf_by_hand() -> None:
    """Precisions 5/6, 4/5, 3/4, 2/3, and a brevity penalty of exp(1 - 6/5) once a word is dropped."""
    truth = "the cat sat on the rug"
    found = bleu_chrf(["the cat sat on the mat"], [truth])
    assert found["bleu"] == pytest.approx(100 * (1 / 3) ** 0.25, rel=1e-12)
    assert bleu_chrf(["the cat sat on the"], [truth])["bleu"] == pytest.approx(100 * math.exp(-1 / 5), rel=1e-12)
    assert bleu_chrf(["abc"], ["abd"])["chrf"] == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3, rel=1e-12)
    assert bleu_chrf([truth], [truth]) == pytest.approx({"bleu": 100.0, "chrf": 100.0})


@pytest.mark.fast
def test_bleu_is_of_the_whole_split() -> None:
    """Counts are added up over texts: the mean of the two texts' figures would be 50."""
    truth = ["one two three four five", "six seven eight nine ten eleven"]
    found = bleu_chrf([truth[0], "nothing"], truth)["bleu"]
    precisions = [5 / 6, 4 / 4, 3 / 3, 2 / 2]
    assert found == pytest.approx(100 * math.exp(1 - 11 / 6) * math.prod(precisions) ** 0.25, rel=1e-12)


def test_rouge_by_hand() -> None:
    assert rouge(["the cat sat", "x"], ["the cat ran", "y z"]) == pytest.approx(
        {"rouge1": (2 / 3 + 0) / 2, "rouge2": (1 / 2 + 0) / 2, "rougeL": (2 / 3 + 0) / 2}
    )
    swapped = rouge(["b a c d"], ["a b c"])
    assert swapped == pytest.approx({"rouge1": 6 / 7, "rouge2": 0.0, "rougeL": 4 / 7})
    assert rouge(["running"], ["runs"])["rouge1"] == 0.0
    assert rouge(["running"], ["runs"], stem=True)["rouge1"] == 1.0


@pytest.mark.fast
def test_exact_match_rate() -> None:
    assert exact_match_rate(["a", "b ", "c"], ["a", "b", "d"]) == pytest.approx(1 / 3)


def test_without_texts_figures_are_none() -> None:
    assert bleu_chrf([], []) == {"bleu": None, "chrf": None}
    assert rouge([], []) == {"rouge1": None, "rouge2": None, "rougeL": None}
    assert exact_match_rate([], []) is None


def test_empty_texts_score_nothing() -> None:
    assert bleu_chrf(["", ""], ["a b", "c"]) == {"bleu": 0.0, "chrf": 0.0}
    assert rouge([""], ["a b"]) == {"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0}


@pytest.mark.fast
@pytest.mark.parametrize("figure", [bleu_chrf, rouge, exact_match_rate])
def test_unequal_numbers_are_refused(figure: Any) -> None:
    with pytest.raises(DataError, match="2 truths, but 1 predictions"):
        figure(["a"], ["a", "b"])


@pytest.mark.fast
@pytest.mark.parametrize(
    ("figure", "module", "package"),
    [(bleu_chrf, "sacrebleu", "sacrebleu"), (rouge, "rouge_score.rouge_scorer", "rouge-score")],
)
def test_a_missing_package_names_its_install(
    figure: Any, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RecipeError, match=f"need the package {package}") as caught:
        figure(["a"], ["a"])
    assert caught.value.exit_code == 2
    assert caught.value.fix == "pip install 'trifecta[metrics]'"


@pytest.mark.fast
def test_warnings_of_the_libraries_fail_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(*_: object, **__: object) -> SimpleNamespace:
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        return SimpleNamespace(score=1.0, corpus_score=noisy)

    with pytest.raises(DeprecationWarning):
        noisy()
    monkeypatch.setitem(sys.modules, "sacrebleu", SimpleNamespace(BLEU=noisy, CHRF=noisy))
    assert bleu_chrf(["a"], ["a"]) == {"bleu": 1.0, "chrf": 1.0}


@pytest.mark.fast
def test_text_that_looks_tokenized_brings_no_note(caplog: pytest.LogCaptureFixture) -> None:
    texts = [f"sentence {number} ." for number in range(200)]
    bleu_chrf(texts, texts)
    assert not caplog.records
    import sacrebleu

    sacrebleu.BLEU().corpus_score(texts, [texts])
    assert caplog.records, "sacrebleu by itself would note it"


OFFLINE = """
import sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request"):
        raise SystemExit(f"asked the network: {event} {arguments}")

sys.addaudithook(watch)
from trifecta.evaluation.sequences import bleu_chrf, rouge
assert not {"sacrebleu", "rouge_score", "nltk"} & set(sys.modules)
"""


def alone(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a process of its own with an empty home folder."""
    environment = os.environ | {"HOME": str(home), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", OFFLINE + code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_nothing_is_downloaded(tmp_path: Path) -> None:
    """The libraries are loaded when a figure is asked for; they ask no network, and leave the home folder empty."""
    done = alone('bleu_chrf(["a b"], ["a b"]); rouge(["a b"], ["a b"], stem=True)', tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())
    asks = alone('import socket; socket.create_connection(("localhost", 9))', tmp_path)
    assert "asked the network" in asks.stderr, "the watch sees a connection"
