"""Shows text as it is written, token by token."""

from __future__ import annotations

import codecs

from trifecta.tokenizers.base import REPLACEMENT, Tokenizer


class StreamDecoder:
    """Turns ids into text as they come, and never shows half a character.

    What push and flush return, put together, is the tokenizer's decode of all the ids.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._table = tokenizer.token_bytes
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        # Without a table: the ids whose text is shown and that give the next ones their context, and those to come.
        self._context: list[int] = []
        self._waiting: list[int] = []

    def push(self, token_id: int) -> str:
        """Text that has become certain with this token; empty while a character is incomplete."""
        if self._table is not None:
            return self._bytes.decode(self._table[token_id])
        self._waiting.append(int(token_id))
        text = self._new_text()
        return "" if text.endswith(REPLACEMENT) and token_id != self._tokenizer.unk_id else self._show(text)

    def flush(self) -> str:
        """What is left at the end; an incomplete character becomes U+FFFD."""
        if self._table is not None:
            return self._bytes.decode(b"", final=True)
        return self._show(self._new_text())

    def _new_text(self) -> str:
        shown = self._tokenizer.decode(self._context)
        return self._tokenizer.decode(self._context + self._waiting)[len(shown) :]

    def _show(self, text: str) -> str:
        # Tokens without text (an end of text) don't give the next word its leading space.
        if text:
            self._context = self._waiting
        self._waiting = []
        return text
