"""The tokenizer of those who read no text: it has no tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from trifecta.tokenizers.base import Int64
from trifecta.tokenizers.byte import FORMAT


class NoTokenizer:
    """No tokens at all; what runs on images have as tokenizer.json. eos_id: an id that nothing has."""

    type = "none"
    vocab_size = 0
    eos_id = 0
    unk_id: int | None = None
    lossless = False
    token_bytes: Sequence[bytes] | None = None

    def encode(self, text: str) -> Int64:
        del text
        return np.zeros(0, np.int64)

    def encode_batch(self, texts: Sequence[str]) -> list[Int64]:
        return [self.encode(text) for text in texts]

    def encode_with_offsets(self, text: str) -> tuple[Int64, Int64]:
        return self.encode(text), np.zeros((0, 2), np.int64)

    def special_id(self, *names: str) -> int | None:
        del names
        return None

    def decode(self, ids: Iterable[int]) -> str:
        del ids
        return ""

    def token_text(self, token_id: int) -> str:
        return f"<{token_id}>"

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, "version": 1, "type": self.type}, indent=1) + "\n"


def none(texts: Iterable[str]) -> NoTokenizer:  # noqa: ARG001 - every factory takes the texts
    """No tokenizer; no text is read."""
    return NoTokenizer()


def none_from_fields(fields: dict[str, Any]) -> NoTokenizer:
    """No tokenizer, of a tokenizer.json that says so."""
    del fields
    return NoTokenizer()
