"""What every tokenizer offers, and the two special tokens' names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trifecta.errors import DataError

Int64 = npt.NDArray[np.int64]

END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "<unk>"
REPLACEMENT = "\ufffd"
"""What an unknown token is shown as."""


class Tokenizer(Protocol):
    """Text to ids and back. Text that looks like a special token is ordinary text.

    type: the row of TOKENIZERS. vocab_size: one more than the largest id. eos_id: the end of a text. unk_id: what an
    unknown character becomes; None when there is none. lossless: decode(encode(text)) == text for every text.
    token_bytes: the UTF-8 bytes of each id when decoding is their concatenation, else None.
    """

    @property
    def type(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def eos_id(self) -> int: ...
    @property
    def unk_id(self) -> int | None: ...
    @property
    def lossless(self) -> bool: ...
    @property
    def token_bytes(self) -> Sequence[bytes] | None: ...

    def encode(self, text: str) -> Int64:
        """Ids of a text, without an end of text."""

    def encode_batch(self, texts: Sequence[str]) -> list[Int64]:
        """Ids of each text."""

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special tokens are left out, an unknown is shown as U+FFFD."""

    def token_text(self, token_id: int) -> str:
        """One token's printable name."""

    def to_json(self) -> str:
        """The content of tokenizer.json: the same tokenizer gives the same text, always."""


def fingerprint(tokenizer: Tokenizer) -> str:
    """SHA-256 of to_json(), in hexadecimal."""
    return hashlib.sha256(tokenizer.to_json().encode()).hexdigest()


def utf8(text: str) -> bytes:
    """UTF-8 bytes of a text.

    Raises:
        DataError: the text holds half of a surrogate pair, which no UTF-8 can express.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"the text has half of a surrogate pair (U+{ord(text[error.start]):04X}) at character {error.start}",
            fix="remove it; it isn't a character",
        ) from error


def join_bytes(table: Sequence[bytes], ids: Iterable[int]) -> str:
    """The text of ids by a table of bytes; bytes that aren't UTF-8 become U+FFFD."""
    return b"".join([table[token] for token in ids]).decode("utf-8", "replace")


def printable(text: bytes) -> str:
    r"""Bytes as one visible line: a line end is `\n`, a half character `\xe2`."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text.decode("utf-8", "backslashreplace")
    )
