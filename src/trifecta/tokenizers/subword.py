"""The tokenizers of the `tokenizers` library behind our protocol, ours or loaded from a Hugging Face tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import tokenizers
from tokenizers import pre_tokenizers

from trifecta.errors import CheckpointError
from trifecta.tokenizers.base import (
    END_OF_TEXT,
    REPLACEMENT,
    UNKNOWN,
    Int64,
    byte_ranges,
    first_id,
    join_bytes,
    printable,
    utf8,
)

BYTE_TOKENS = [f"<0x{value:02X}>" for value in range(256)]
END_OF_TEXT_NAMES = (
    END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>", "<|im_end|>", "<|eot_id|>", "[EOS]", "[SEP]", "<sep>",
)  # fmt: skip
WORD_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's cut into words (Radford et al., 2019). It keeps letters, digits and signs apart, so that no word can hold
a special token's name."""

MAKE_AGAIN = "make it again with `trifecta tokenizer train`, or with Hugging Face's tokenizers"


class SubwordTokenizer:
    """A tokenizer of the `tokenizers` library.

    Args:
        inner: it is changed: padding, truncation and the reading of special tokens in text are switched off, and an
            end of text is added when it has none.
    """

    def __init__(self, inner: tokenizers.Tokenizer):
        with explain_panics():
            self._set_up(inner)

    def _set_up(self, inner: tokenizers.Tokenizer) -> None:
        inner.no_padding()
        inner.no_truncation()
        inner.encode_special_tokens = True
        names = [name for name in END_OF_TEXT_NAMES if inner.token_to_id(name) is not None]
        if not names:
            inner.add_special_tokens([END_OF_TEXT])
        self._inner = inner
        self._config: dict[str, Any] = json.loads(inner.to_str())
        self._config["model"] |= {"vocab": None, "merges": None}  # the large parts; `inner` has them too
        self.type = {"BPE": "bpe", "WordPiece": "wordpiece", "Unigram": "unigram"}.get(self._model_type, "words")
        self.vocab_size = max(inner.get_vocab().values()) + 1
        end_of_text = inner.token_to_id(names[0] if names else END_OF_TEXT)
        assert end_of_text is not None
        self.eos_id: int = end_of_text
        model = self._config["model"]
        unknown = model.get("unk_token")
        self.unk_id: int | None = model.get("unk_id") if unknown is None else inner.token_to_id(unknown)
        added = inner.get_added_tokens_decoder().items()
        self._special = {token for token, entry in added if entry.special}
        self._special_ids = {entry.content: token for token, entry in added if entry.special}
        if self.unk_id is not None and (unknown := inner.id_to_token(self.unk_id)) is not None:
            self._special_ids.setdefault(unknown, self.unk_id)
        self.lossless = self._is_lossless()

    def encode(self, text: str) -> Int64:
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Int64]:
        with _explain_surrogates(texts), explain_panics():
            encodings = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.int64) for encoding in encodings]

    def encode_with_offsets(self, text: str) -> tuple[Int64, Int64]:
        # The tokens' own bytes are exact; the library gives every byte of a fallen-back word the whole word.
        if (table := self.token_bytes) is not None:
            ids = self.encode(text)
            parts = [table[token] for token in ids]
            if all(parts) and b"".join(parts) == utf8(text):
                return ids, byte_ranges(text, np.array([len(part) for part in parts], np.int64))
        with _explain_surrogates([text]), explain_panics():
            encoding = self._untrimmed.encode_batch([text], add_special_tokens=False)[0]
        ranges = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        return np.array(encoding.ids, np.int64), ranges

    def special_id(self, *names: str) -> int | None:
        return first_id(self._special_ids, names)

    def decode(self, ids: Iterable[int]) -> str:
        if self.token_bytes is not None:
            return join_bytes(self.token_bytes, ids)
        with explain_panics():
            text: str = self._inner.decode([int(token) for token in ids], skip_special_tokens=True)
        return text if self.unk_id in self._special else text.replace(UNKNOWN, REPLACEMENT)

    def token_text(self, token_id: int) -> str:
        if token_id in self._special or token_id == self.unk_id or self.token_bytes is None:
            with explain_panics():
                return self._inner.id_to_token(token_id) or f"<unused {token_id}>"
        return printable(self.token_bytes[token_id])

    def to_json(self) -> str:
        with explain_panics():
            text: str = self._inner.to_str()
        return text

    @cached_property
    def token_bytes(self) -> list[bytes] | None:
        """Bytes of each id when the decoder only puts bytes together."""
        decoder = self._config["decoder"] or {}
        if decoder.get("type") == "ByteLevel":
            to_bytes = _byte_level_bytes
        elif [step.get("type") for step in decoder.get("decoders", [])] == ["ByteFallback", "Fuse"]:
            to_bytes = _fallback_bytes
        else:
            return None
        table = [b""] * self.vocab_size
        for token, token_id in self._inner.get_vocab().items():
            table[token_id] = b"" if token_id in self._special else to_bytes(token)
        if self.unk_id is not None:
            table[self.unk_id] = REPLACEMENT.encode()
        return table

    @cached_property
    def _untrimmed(self) -> tokenizers.Tokenizer:
        """The same without a post-processor, which adds nothing here but may take leading spaces out of the ranges."""
        if self._config.get("post_processor") is None:
            return self._inner
        with explain_panics():
            inner = tokenizers.Tokenizer.from_str(json.dumps(json.loads(self.to_json()) | {"post_processor": None}))
        inner.encode_special_tokens = True
        return inner

    @property
    def _model_type(self) -> str:
        return str(self._config["model"].get("type"))

    def _is_lossless(self) -> bool:
        """Whether every text comes back: nothing is normalised or dropped, and every byte has a token."""
        config, vocabulary = self._config, self._inner.get_vocab()
        stripping = any(token["lstrip"] or token["rstrip"] for token in config["added_tokens"] if not token["special"])
        if config["normalizer"] or stripping or self.token_bytes is None:
            return False
        cut = config["pre_tokenizer"] or {}
        steps = cut["pretokenizers"] if cut.get("type") == "Sequence" else [cut]
        kept = all(step.get("behavior") != "Removed" and not step.get("add_prefix_space") for step in steps)
        if self.type == "bpe":
            byte_level = bool(steps) and steps[-1].get("type") == "ByteLevel"
            return kept and byte_level and vocabulary.keys() >= set(_BYTE_OF_LETTER)
        falls_back = config["model"].get("byte_fallback") and vocabulary.keys() >= set(BYTE_TOKENS)
        own_cut = [step.get("pattern") for step in steps] == [{"Regex": WORD_PATTERN}]
        return self.type == "unigram" and kept and bool(falls_back) and own_cut


def subword_from_json(text: str) -> SubwordTokenizer:
    """A tokenizer of a Hugging Face tokenizer.json.

    Raises:
        CheckpointError: it isn't one, or it breaks on a small text.
    """
    try:
        with explain_panics():
            inner = tokenizers.Tokenizer.from_str(text)
            ids = inner.get_vocab().values()
        if not ids:
            raise CheckpointError("this tokenizer.json has no tokens: its vocabulary is empty", fix=MAKE_AGAIN)
        if max(ids) >= 4 * len(ids) + 1024:
            raise CheckpointError(
                f"{len(ids)} tokens with ids up to {max(ids)}: most ids have no token", fix=MAKE_AGAIN
            )
        tokenizer = SubwordTokenizer(inner)
        tokenizer.decode(tokenizer.encode("A proof: 1 + 1 = 2;\n\té \U0001f600."))
        return tokenizer
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"this isn't a tokenizer.json that the tokenizers library can use: {error}", fix=MAKE_AGAIN
        ) from error


@contextmanager
def _explain_surrogates(texts: Iterable[str]) -> Iterator[None]:
    """Turns the library's error about half a surrogate pair into one for users.

    Raises:
        DataError: one of the texts has half of a surrogate pair.
    """
    try:
        yield
    except (UnicodeEncodeError, TypeError):
        for text in texts:
            utf8(text)
        raise


@contextmanager
def explain_panics() -> Iterator[None]:
    """Turns a panic of the library's Rust side into an error for users.

    Raises:
        CheckpointError: the library panicked.
    """
    try:
        yield
    except BaseException as error:
        # PanicException is no Exception, and pyo3 gives no way to import it.
        if type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(
            f"this tokenizer.json can't be used: the tokenizers library failed with it: {error}", fix=MAKE_AGAIN
        ) from error


def _byte_letters() -> dict[str, int]:
    """GPT-2's printable letter for each byte (Radford et al., 2019)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in plain]
    letters = {chr(value): value for value in plain} | {chr(256 + i): value for i, value in enumerate(others)}
    assert letters.keys() == set(pre_tokenizers.ByteLevel.alphabet())
    return letters


_BYTE_OF_LETTER = _byte_letters()


def _byte_level_bytes(token: str) -> bytes:
    """A token of byte letters; one with other letters was added as text."""
    if all(letter in _BYTE_OF_LETTER for letter in token):
        return bytes(_BYTE_OF_LETTER[letter] for letter in token)
    return token.encode()


def _fallback_bytes(token: str) -> bytes:
    """`<0x41>` is a byte, everything else is text."""
    return bytes([BYTE_TOKENS.index(token)]) if token in _BYTE_TOKEN_SET else token.encode()


_BYTE_TOKEN_SET = frozenset(BYTE_TOKENS)
