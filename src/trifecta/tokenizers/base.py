"""What every tokenizer offers, and the two special tokens' names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
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

    def encode_with_offsets(self, text: str) -> tuple[Int64, Int64]:
        """Ids as encode gives them, and where each one's characters are: ranges [start, stop) in `text`, (n, 2).

        Starts and stops never fall. A token's range includes its leading space; tokens that share a character all have
        it. A token that stands for nothing in the text (a space put before it) may have an empty range.
        """

    def special_id(self, *names: str) -> int | None:
        """Id of the first of these names that is a special token here, such as `[MASK]`; None when there is none."""

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


def byte_ranges(text: str, lengths: Int64) -> Int64:
    """Characters that each token touches, when the tokens' bytes put together are the text's UTF-8.

    Args:
        lengths: bytes of each token, 1 or more, (n,).

    Returns:
        Ranges [start, stop) of characters, (n, 2).
    """
    if not len(lengths):
        return np.zeros((0, 2), np.int64)
    values = np.frombuffer(utf8(text), np.uint8)
    # Each byte but a continuation (10xxxxxx) begins a character.
    character = np.cumsum((values & 0xC0) != 0x80) - 1
    ends = np.cumsum(lengths)
    return np.stack([character[ends - lengths], character[ends - 1] + 1], axis=1).astype(np.int64)


def first_id(ids: Mapping[str, int], names: Iterable[str]) -> int | None:
    """Id of the first name that has one."""
    return next((ids[name] for name in names if name in ids), None)


def join_bytes(table: Sequence[bytes], ids: Iterable[int]) -> str:
    """The text of ids by a table of bytes; bytes that aren't UTF-8 become U+FFFD."""
    return b"".join([table[token] for token in ids]).decode("utf-8", "replace")


def printable(text: bytes) -> str:
    r"""Bytes as one visible line: a line end is `\n`, a half character `\xe2`."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text.decode("utf-8", "backslashreplace")
    )
