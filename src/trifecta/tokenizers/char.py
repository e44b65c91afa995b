"""One token for each character of the data, and an unknown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from trifecta.errors import CheckpointError
from trifecta.tokenizers.base import END_OF_TEXT, REPLACEMENT, UNKNOWN, Int64, first_id, join_bytes, printable
from trifecta.tokenizers.byte import FORMAT

SPECIAL_TOKENS = (END_OF_TEXT, UNKNOWN)


class CharTokenizer:
    """Id 0 is the end of text, 1 the unknown, then the characters by code point.

    Exact for the characters it knows; another becomes `<unk>`, so it doesn't claim to be lossless.

    Args:
        characters: the alphabet, each character once, ascending.
    """

    type = "char"
    eos_id = 0
    unk_id: int | None = 1
    lossless = False

    def __init__(self, characters: str):
        self.characters = characters
        self.vocab_size = len(SPECIAL_TOKENS) + len(characters)
        self.token_bytes: list[bytes] = [b"", REPLACEMENT.encode(), *(c.encode() for c in characters)]
        codes = _codes(characters)
        # One row more than the largest code, so that every code beyond it falls on an unknown.
        self._id_of_code = np.full(int(codes.max(initial=0)) + 2, 1, np.int64)
        self._id_of_code[codes] = np.arange(len(SPECIAL_TOKENS), self.vocab_size)

    def encode(self, text: str) -> Int64:
        return self._id_of_code[np.minimum(_codes(text), len(self._id_of_code) - 1)]

    def encode_batch(self, texts: Sequence[str]) -> list[Int64]:
        return [self.encode(text) for text in texts]

    def encode_with_offsets(self, text: str) -> tuple[Int64, Int64]:
        starts = np.arange(len(text), dtype=np.int64)
        return self.encode(text), np.stack([starts, starts + 1], axis=1)

    def special_id(self, *names: str) -> int | None:
        return first_id({name: number for number, name in enumerate(SPECIAL_TOKENS)}, names)

    def decode(self, ids: Iterable[int]) -> str:
        return join_bytes(self.token_bytes, ids)

    def token_text(self, token_id: int) -> str:
        if token_id < len(SPECIAL_TOKENS):
            return SPECIAL_TOKENS[token_id]
        return printable(self.token_bytes[token_id])

    def to_json(self) -> str:
        fields = {"format": FORMAT, "version": 1, "type": self.type, "special_tokens": SPECIAL_TOKENS}
        return json.dumps({**fields, "characters": self.characters}, indent=1) + "\n"


def char(texts: Iterable[str], *, vocab_size: int | None = None) -> CharTokenizer:
    """The alphabet of the texts; with a vocab_size only the most frequent characters, ties by code point."""
    counts = np.zeros(sys.maxunicode + 1, np.int64)
    for text in texts:
        codes = _codes(text)
        if codes.max(initial=0) < 1 << 12:  # a short table: faster than sorting
            table = np.bincount(codes)
            counts[: len(table)] += table
        else:
            values, times = np.unique(codes, return_counts=True)
            counts[values] += times
    known = np.flatnonzero(counts)
    if vocab_size is not None:
        by_frequency = np.lexsort((known, -counts[known]))
        known = np.sort(known[by_frequency[: vocab_size - len(SPECIAL_TOKENS)]])
    return CharTokenizer("".join(map(chr, known)))


def char_from_fields(fields: dict[str, object]) -> CharTokenizer:
    """The tokenizer of a tokenizer.json.

    Raises:
        CheckpointError: the alphabet isn't ascending characters.
    """
    characters = fields.get("characters")
    good = isinstance(characters, str) and not any("\ud800" <= c <= "\udfff" for c in characters)
    if not isinstance(characters, str) or not good or list(characters) != sorted(set(characters)):
        raise CheckpointError("'characters' of a char tokenizer must be a text of ascending characters, each once")
    return CharTokenizer(characters)


def _codes(text: str) -> npt.NDArray[np.uint32]:
    """Code points of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
