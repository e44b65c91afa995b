"""A tokenizer with the special tokens that a model was trained with: what goes on from it has the same ids."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from trifecta.errors import CheckpointError
from trifecta.tokenizers.base import Int64, Tokenizer
from trifecta.tokenizers.byte import FORMAT


class ExtendedTokenizer:
    """Another tokenizer's tokens, and special tokens after them that no text is tokenized into.

    Args:
        special: name -> id, none of them the other tokenizer's.
    """

    def __init__(self, inner: Tokenizer, special: Mapping[str, int]):
        assert all(token_id >= inner.vocab_size for token_id in special.values()), special
        self.inner, self.special = inner, dict(special)
        self._names = {token_id: name for name, token_id in special.items()}
        self.type, self.eos_id, self.unk_id, self.lossless = inner.type, inner.eos_id, inner.unk_id, inner.lossless
        self.vocab_size = max([inner.vocab_size - 1, *special.values()]) + 1
        table = inner.token_bytes
        extra = self.vocab_size - inner.vocab_size
        self.token_bytes: Sequence[bytes] | None = None if table is None else [*table, *([b""] * extra)]

    def encode(self, text: str) -> Int64:
        return self.inner.encode(text)

    def encode_batch(self, texts: Sequence[str]) -> list[Int64]:
        return self.inner.encode_batch(texts)

    def encode_with_offsets(self, text: str) -> tuple[Int64, Int64]:
        return self.inner.encode_with_offsets(text)

    def special_id(self, *names: str) -> int | None:
        for name in names:
            if name in self.special:
                return self.special[name]
        return self.inner.special_id(*names)

    def decode(self, ids: Iterable[int]) -> str:
        return self.inner.decode(i for i in ids if i < self.inner.vocab_size)

    def token_text(self, token_id: int) -> str:
        if token_id < self.inner.vocab_size:
            return self.inner.token_text(token_id)
        return self._names.get(token_id, f"<unused {token_id}>")

    def to_json(self) -> str:
        fields = {"format": FORMAT, "version": 1, "type": "extended", "special_tokens": self.special}
        return json.dumps({**fields, "tokenizer": self.inner.to_json()}, indent=1) + "\n"


def extended_from_fields(fields: Mapping[str, Any], from_json: Callable[[str], Tokenizer]) -> ExtendedTokenizer:
    """The tokenizer of a tokenizer.json; from_json reads the one inside.

    Raises:
        CheckpointError: the special tokens aren't names with ids after the other tokens.
    """
    inner_json, special = fields.get("tokenizer"), fields.get("special_tokens")
    if not isinstance(inner_json, str) or not isinstance(special, dict):
        raise CheckpointError("an extended tokenizer needs 'tokenizer', a text, and 'special_tokens', names with ids")
    inner = from_json(inner_json)
    ids = list(special.values())
    good = all(type(i) is int and inner.vocab_size <= i < inner.vocab_size + 1_000_000 for i in ids)
    if not good or len(set(ids)) != len(ids):
        raise CheckpointError("'special_tokens' must have ids of their own, after those of the tokenizer inside")
    return ExtendedTokenizer(inner, special)
