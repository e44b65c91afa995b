"""A small world in sentences, from a grammar whose entropy is known: what the best possible model would score.

Sentences are drawn one by one from a probabilistic grammar. Each sentence has one derivation and none is the beginning
of another, so the entropy of the text per character is the entropy of a sentence divided by its mean length (the
renewal argument of Cover and Thomas, Elements of Information Theory, 2006, chapter 4).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

import numpy as np

from trifecta.randomness import numpy_generator

Rule = tuple[float, tuple[str, ...]]


def _words(*words: str) -> list[Rule]:
    """One rule for each word, the n-th with a share of 1/n (Zipf)."""
    total = sum(1 / n for n in range(1, len(words) + 1))
    return [(1 / n / total, (word,)) for n, word in enumerate(words, 1)]


GRAMMAR: dict[str, list[Rule]] = {
    "SENTENCE": [(0.55, ("ONE", "DOES", ".\n")), (0.3, ("MANY", "DO", ".\n")), (0.15, ("ASKED", "?\n"))],
    "ASKED": [(0.6, ("does ", "ONE", " ", "DO-IT")), (0.4, ("do ", "MANY", " ", "DO-IT"))],
    "DO-IT": [(0.7, ("DO-TO", " ", "ANY")), (0.3, ("DO-ALONE",))],
    "DOES": [
        (0.5, (" ", "DOES-TO", " ", "ANY")),
        (0.3, (" ", "DOES-ALONE")),
        (0.2, (" ", "DOES-ALONE", " ", "WHERE")),
    ],
    "DO": [(0.5, (" ", "DO-TO", " ", "ANY")), (0.3, (" ", "DO-ALONE")), (0.2, (" ", "DO-ALONE", " ", "WHERE"))],
    "ANY": [(0.65, ("ONE",)), (0.35, ("MANY",))],
    "ONE": [
        (0.5, ("the ", "NAME")),
        (0.3, ("the ", "KIND", " ", "NAME")),
        (0.2, ("the ", "NAME", " that ", "DOES-TO", " ", "ANY")),
    ],
    "MANY": [
        (0.5, ("all ", "NAME", "s")),
        (0.3, ("all ", "KIND", " ", "NAME", "s")),
        (0.2, ("all ", "NAME", "s that ", "DO-TO", " ", "ANY")),
    ],
    "WHERE": [(0.6, ("near ", "ANY")), (0.4, ("PLACE",))],
    "NAME": _words("dog", "cat", "bird", "king", "farmer", "bear", "miller", "dragon", "child", "queen"),
    "KIND": _words("old", "small", "brown", "clever", "hungry", "silent"),
    "PLACE": _words("at home", "in town", "by night", "in spring"),
    "DOES-TO": _words("sees", "follows", "likes", "fears", "helps"),
    "DO-TO": _words("see", "follow", "like", "fear", "help"),
    "DOES-ALONE": _words("sleeps", "sings", "waits", "dances"),
    "DO-ALONE": _words("sleep", "sing", "wait", "dance"),
}
"""Symbol -> its rules as (probability, parts); a part that is no symbol is text."""


def generate_sentences(count: int, seed: int) -> Iterator[str]:
    """Sentences, each ended by a line end."""
    generator = numpy_generator(seed, "grammar")
    shares = {symbol: list(accumulate(p for p, _ in rules)) for symbol, rules in GRAMMAR.items()}
    for _ in range(count):
        parts, todo = [], ["SENTENCE"]
        while todo:
            symbol = todo.pop()
            if symbol not in GRAMMAR:
                parts.append(symbol)
                continue
            rules = GRAMMAR[symbol]
            chosen = min(bisect_right(shares[symbol], generator.random()), len(rules) - 1)
            todo.extend(reversed(rules[chosen][1]))
        yield "".join(parts)


def grammar_entropy() -> float:
    """Nats per character of an endless text of sentences: no model's loss per character can be lower.

    The entropy and the mean length of a symbol are those of its rules plus those of the rules' symbols, two systems of
    linear equations.
    """
    symbols = {symbol: row for row, symbol in enumerate(GRAMMAR)}
    uses, nats, characters = np.zeros((len(symbols), len(symbols))), np.zeros(len(symbols)), np.zeros(len(symbols))
    for symbol, rules in GRAMMAR.items():
        row = symbols[symbol]
        for probability, parts in rules:
            nats[row] -= probability * math.log(probability)
            for part in parts:
                if part in symbols:
                    uses[row, symbols[part]] += probability
                else:
                    characters[row] += probability * len(part)
    matrix = np.eye(len(symbols)) - uses
    start = symbols["SENTENCE"]
    return float(np.linalg.solve(matrix, nats)[start] / np.linalg.solve(matrix, characters)[start])
