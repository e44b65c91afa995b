"""A tokenizer's tokens and, after them, the special tokens that an objective needs.

No text is ever tokenized into those: a text that contains `[MASK]` holds six ordinary characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from trifecta.errors import RecipeError
from trifecta.tokenizers.base import REPLACEMENT, Int64, Tokenizer
from trifecta.tokenizers.extended import ExtendedTokenizer

KNOWN_NAMES: Mapping[str, tuple[str, ...]] = {
    "[PAD]": ("[PAD]", "<pad>"),
    "[CLS]": ("[CLS]", "<s>"),
    "[SEP]": ("[SEP]", "</s>"),
    "[MASK]": ("[MASK]", "<mask>"),
}
"""How tokenizers from elsewhere call the same."""


class Vocabulary:
    """Ids of text and of special tokens.

    Args:
        special: names of the special tokens. One that the tokenizer has itself (a BERT's from elsewhere) keeps its id;
            the others follow the tokenizer's last id in this order.
        fixed: name -> id, for ids that are chosen by the user.

    Raises:
        RecipeError: a fixed id belongs to a token of text.
    """

    def __init__(self, tokenizer: Tokenizer, special: Sequence[str] = (), fixed: Mapping[str, int] | None = None):
        self.tokenizer = tokenizer
        ids: dict[str, int] = {}
        size = tokenizer.vocab_size
        for name, token_id in (fixed or {}).items():
            if token_id < tokenizer.vocab_size:
                raise RecipeError(
                    f"{name} would have the id {token_id}, which is the token "
                    f"{tokenizer.token_text(token_id)!r} of the text: the tokenizer has {tokenizer.vocab_size} tokens",
                    fix=f"begin at {tokenizer.vocab_size} or above, or choose a smaller tokenizer.vocab_size",
                )
            ids[name] = token_id
            size = max(size, token_id + 1)
        for name in special:
            own = tokenizer.special_id(*KNOWN_NAMES.get(name, (name,)))
            if own is None:
                ids[name], size = size, size + 1
            else:
                ids[name] = own
        self.ids: Mapping[str, int] = ids
        self.size = size
        self._names = {token_id: name for name, token_id in ids.items()}

    def __getitem__(self, name: str) -> int:
        return self.ids[name]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, special tokens left out."""
        return self.tokenizer.decode(i for i in ids if i not in self._names and i < self.tokenizer.vocab_size)

    def shown(self, ids: Iterable[int]) -> str:
        """The text of ids with special tokens by name."""
        parts: list[str] = []
        run: list[int] = []
        for token_id in [*ids, -1]:
            if token_id in self._names or not 0 <= token_id < self.tokenizer.vocab_size:
                parts.append(self.tokenizer.decode(run))
                parts.append(self._names.get(token_id, ""))
                run = []
            else:
                run.append(token_id)
        return "".join(parts)

    def token_text(self, token_id: int) -> str:
        """One token's printable name."""
        if token_id in self._names or token_id >= self.tokenizer.vocab_size:
            return self._names.get(token_id, f"<unused {token_id}>")
        return self.tokenizer.token_text(token_id)

    def extended(self) -> Tokenizer:
        """The tokenizer with these special tokens as its own: a vocabulary made of it has the same ids."""
        own = {name: token_id for name, token_id in self.ids.items() if token_id >= self.tokenizer.vocab_size}
        return ExtendedTokenizer(self.tokenizer, own) if own else self.tokenizer

    @cached_property
    def is_special(self) -> npt.NDArray[np.bool_]:
        """For each id, whether it is a special token or the end of a text: never masked, never drawn at random."""
        special = np.ones(self.size, np.bool_)
        special[: self.tokenizer.vocab_size] = False
        special[[*self.ids.values(), self.tokenizer.eos_id]] = True
        return special

    @cached_property
    def ordinary(self) -> Int64:
        """Ids of ordinary tokens."""
        return np.flatnonzero(~self.is_special)

    @cached_property
    def begins_word(self) -> npt.NDArray[np.bool_]:
        """For each id, whether a word begins with it: tokens with a space before, all but `##` pieces."""
        begins = np.zeros(self.size, np.bool_)
        table = self.tokenizer.token_bytes
        for token_id in range(self.tokenizer.vocab_size):
            if table is None:
                begins[token_id] = not self.tokenizer.token_text(token_id).startswith("##")
            else:
                begins[token_id] = not _goes_on(table[token_id].decode("utf-8", "replace"))
        return begins | self.is_special


def _goes_on(text: str) -> bool:
    """Whether a token with this text goes on with a word: it begins with a letter, a digit, an accent, or with bytes
    that are only a part of a character."""
    first = text[:1]
    return first.isalnum() or first == REPLACEMENT or (first != "" and unicodedata.category(first).startswith("M"))
