"""Text to tokens and back: char, byte, bpe, wordpiece, unigram behind one small protocol."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal

# The library warns on standard error when a process that used its threads forks (data workers do) unless this is set.
# A worker never tokenizes, so its threads are not missed there.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

from trifecta.tokenizers.base import END_OF_TEXT, UNKNOWN, Tokenizer, fingerprint
from trifecta.tokenizers.byte import byte
from trifecta.tokenizers.char import char
from trifecta.tokenizers.files import file, from_json, load_tokenizer
from trifecta.tokenizers.nothing import none
from trifecta.tokenizers.stream import StreamDecoder
from trifecta.tokenizers.trainers import bpe, unigram, wordpiece

TOKENIZERS: dict[str, Callable[..., Tokenizer]] = {
    "char": char,
    "byte": byte,
    "bpe": bpe,
    "wordpiece": wordpiece,
    "unigram": unigram,
    "file": file,
    "none": none,
}

TEXT_NEEDED: dict[str, Literal["all", "training", "none"]] = {
    "char": "all",
    "byte": "none",
    "bpe": "training",
    "wordpiece": "training",
    "unigram": "training",
    "file": "none",
    "none": "none",
}
"""Which text a factory reads: an alphabet from everything, merges and pieces from the training part only."""


def tokenizer_key(type: str, **fields: Any) -> str:
    """A text that is the same for tokenizers trained alike on the same text, and differs otherwise."""
    if type == "file":
        return f"file {fingerprint(load_tokenizer(fields['path']))}"
    return " ".join([type, *(f"{name}={fields[name]!r}" for name in sorted(fields))])


__all__ = [
    "END_OF_TEXT",
    "TEXT_NEEDED",
    "TOKENIZERS",
    "UNKNOWN",
    "StreamDecoder",
    "Tokenizer",
    "fingerprint",
    "from_json",
    "load_tokenizer",
    "tokenizer_key",
]
