"""A small text and each tokenizer trained on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trifecta.tokenizers import TOKENIZERS, Tokenizer

SENTENCES = (
    "When shall we three meet again, in thunder, lightning, or in rain?\n",
    "Naïve café: 12.5 €, 日本語 and Ελληνικά;\r\n\tdon't stop \U0001f600!  ",
    "The king's old dog doesn't sleep near the queen's 3 cats.\n\n",
)
FIELDS = {
    "char": {},
    "byte": {},
    "bpe": {"vocab_size": 320},
    "wordpiece": {"vocab_size": 200},
    "unigram": {"vocab_size": 380},
}


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return [sentence * 3 for sentence in SENTENCES]


@pytest.fixture(scope="session")
def make(texts: list[str]) -> Callable[[str], Tokenizer]:
    """The tokenizer of a type, trained once."""
    made: dict[str, Tokenizer] = {}

    def tokenizer(type: str) -> Tokenizer:
        if type not in made:
            made[type] = TOKENIZERS[type](texts, **FIELDS[type])
        return made[type]

    return tokenizer


@pytest.fixture(scope="session")
def random_texts() -> list[str]:
    """10,000 strings of every part of Unicode, with the white space and signs that tokenizers trip over."""
    generator = np.random.default_rng(0)
    ranges = [(0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x11000), (0x1F300, 0x1F700), (0, 0x110000)]
    pieces = ["\r\n", "\r", "\n\n", "  ", " ", "\t", "\u2028", "\u00a0", "\u2581", "\ufeff", "'s", "e\u0301", "\ufffd"]
    pieces += ["<unk>", "<|endoftext|>", "<0x41>", "[MASK]", "Ġ", "##a", "the", " and", "\U0001f468\u200d\U0001f469"]
    made = []
    for _ in range(10_000):
        parts = []
        for _ in range(generator.integers(0, 12)):
            if generator.random() < 0.4:
                parts.append(pieces[generator.integers(len(pieces))])
            else:
                code = int(generator.integers(*ranges[generator.integers(len(ranges))]))
                parts.append("" if 0xD800 <= code < 0xE000 else chr(code))
        made.append("".join(parts))
    return made
