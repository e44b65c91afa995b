"""One token for each byte of UTF-8."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from trifecta.tokenizers.base import END_OF_TEXT, Int64, byte_ranges, first_id, join_bytes, printable, utf8

FORMAT = "trifecta-tokenizer"


class ByteTokenizer:
    """Ids 0..255 are the bytes, 256 is the end of text; lossless for every text."""

    type = "byte"
    vocab_size = 257
    eos_id = 256
    unk_id: int | None = None
    lossless = True

    def __init__(self) -> None:
        self.token_bytes: list[bytes] = [bytes([value]) for value in range(256)] + [b""]

    def encode(self, text: str) -> Int64:
        return np.frombuffer(utf8(text), np.uint8).astype(np.int64)

    def encode_batch(self, texts: Sequence[str]) -> list[Int64]:
        return [self.encode(text) for text in texts]

    def encode_with_offsets(self, text: str) -> tuple[Int64, Int64]:
        ids = self.encode(text)
        return ids, byte_ranges(text, np.ones_like(ids))

    def special_id(self, *names: str) -> int | None:
        return first_id({END_OF_TEXT: self.eos_id}, names)

    def decode(self, ids: Iterable[int]) -> str:
        return join_bytes(self.token_bytes, ids)

    def token_text(self, token_id: int) -> str:
        return END_OF_TEXT if token_id == self.eos_id else printable(self.token_bytes[token_id])

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, "version": 1, "type": self.type}, indent=1) + "\n"


def byte(texts: Iterable[str]) -> ByteTokenizer:  # noqa: ARG001 - every factory takes the texts
    """The byte tokenizer; there is nothing to train, so no text is read."""
    return ByteTokenizer()


def byte_from_fields(fields: dict[str, Any]) -> ByteTokenizer:
    """The byte tokenizer of a tokenizer.json, which holds nothing but its type."""
    del fields
    return ByteTokenizer()
