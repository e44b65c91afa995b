"""Tokenizers as tokenizer.json of Hugging Face's tokenizers, with a token for every id of the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from trifecta.errors import CheckpointError
from trifecta.tokenizers.base import END_OF_TEXT, UNKNOWN, Tokenizer
from trifecta.tokenizers.byte import ByteTokenizer
from trifecta.tokenizers.char import CharTokenizer
from trifecta.tokenizers.extended import ExtendedTokenizer
from trifecta.tokenizers.subword import SubwordTokenizer, explain_panics

BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def library_json(tokenizer: Tokenizer) -> str:
    """The same tokenizer, with the same ids, for the tokenizers library.

    Raises:
        CheckpointError: a kind of tokenizer that the library has no equal of.
    """
    if isinstance(tokenizer, ExtendedTokenizer):
        return with_tokens(library_json(tokenizer.inner), tokenizer.special, tokenizer.vocab_size)
    if isinstance(tokenizer, SubwordTokenizer):
        return tokenizer.to_json()
    if isinstance(tokenizer, ByteTokenizer):
        inner = tokenizers.Tokenizer(models.BPE(vocab=_byte_letters(), merges=[]))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        inner.decoder = decoders.ByteLevel()
        return _with_entries(inner.to_str(), {END_OF_TEXT: tokenizer.eos_id})
    if isinstance(tokenizer, CharTokenizer):
        ids = {END_OF_TEXT: tokenizer.eos_id, UNKNOWN: int(tokenizer.unk_id or 0)}
        letters = {character: len(ids) + n for n, character in enumerate(tokenizer.characters)}
        inner = tokenizers.Tokenizer(models.WordLevel(vocab=ids | letters, unk_token=UNKNOWN))
        inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
        inner.decoder = decoders.Fuse()
        return _with_entries(inner.to_str(), ids)
    raise CheckpointError(
        f"a tokenizer of type {tokenizer.type!r} has no equal in the tokenizers library",
        fix="train with tokenizer.type byte, char, bpe, wordpiece or unigram",
    )


def _byte_letters() -> dict[str, int]:
    """The library's letter of each byte; letters of printable bytes are the bytes themselves."""
    letters = pre_tokenizers.ByteLevel.alphabet()
    plain = {letter: ord(letter) for letter in letters if ord(letter) < 256}
    others = [value for value in range(256) if value not in plain.values()]
    return plain | {chr(256 + n): value for n, value in enumerate(others)}


def with_tokens(text: str, ids: Mapping[str, int], size: int) -> str:
    """A tokenizer.json with these special tokens at exactly these ids, and so many tokens in all.

    Ids that nothing else has become special tokens `<|unused_32100|>`: no text is ever tokenized into one.

    Raises:
        CheckpointError: an id belongs to another token, or it has more tokens.
    """
    with explain_panics():
        present: dict[str, int] = tokenizers.Tokenizer.from_str(text).get_vocab(with_added_tokens=True)
    if present and max(present.values()) >= size:
        raise CheckpointError(
            f"the tokenizer has ids up to {max(present.values())}, the model only {size} tokens",
            fix="use the tokenizer that belongs to this model",
        )
    names = {token_id: name for name, token_id in present.items()}
    wanted = {token_id: name for name, token_id in ids.items() if present.get(name) != token_id}
    clashing = [name for token_id, name in wanted.items() if token_id in names]
    if clashing:
        raise CheckpointError(f"the ids of {', '.join(clashing[:4])} belong to other tokens")
    entries = {wanted.get(i, f"<|unused_{i}|>"): i for i in range(size) if i not in names}
    config = json.loads(text)
    vocabulary = config["model"].get("vocab")
    holes = {name: token_id for name, token_id in entries.items() if token_id < max(present.values(), default=0)}
    if holes and isinstance(vocabulary, dict):  # the library numbers added tokens itself, from the last one on
        config["model"]["vocab"] = vocabulary | holes
    return _with_entries(json.dumps(config, ensure_ascii=False), entries)


def with_frame(text: str, first: tuple[str, int], last: tuple[str, int]) -> str:
    """A tokenizer.json that puts a token before and one after each text where special tokens are asked for."""
    config = json.loads(text)

    def token(name: str) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": 0}}

    pair = [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": last[0], "type_id": 1}}]
    single = [token(first[0]), {"Sequence": {"id": "A", "type_id": 0}}, token(last[0])]
    tokens = {name: {"id": name, "ids": [token_id], "tokens": [name]} for name, token_id in (first, last)}
    config["post_processor"] = {
        "type": "TemplateProcessing", "single": single, "pair": [*single, *pair], "special_tokens": tokens,
    }  # fmt: skip
    return json.dumps(config, ensure_ascii=False)


def wordpiece_json(vocabulary: str, *, lowercase: bool) -> str:
    """The tokenizer.json of BERT's vocab.txt: a token a line, its number is its id.

    Raises:
        CheckpointError: a special token of BERT is missing, or a token stands there twice.
    """
    tokens = vocabulary.rstrip("\n").split("\n")
    ids = {token.rstrip("\r"): number for number, token in enumerate(tokens)}
    lacking = [name for name in BERT_TOKENS if name not in ids]
    if lacking or len(ids) < len(tokens):
        what = f"there is no {', '.join(lacking)} in it" if lacking else "a token stands in it twice"
        raise CheckpointError(f"this isn't a BERT's vocabulary: {what}", where="vocab.txt")
    inner = tokenizers.Tokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=lowercase)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    text = _with_entries(inner.to_str(), {name: ids[name] for name in BERT_TOKENS})
    return with_frame(text, ("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"]))


def _with_entries(text: str, ids: Mapping[str, int]) -> str:
    """A tokenizer.json with special tokens, which the library gives the ids that they are to have.

    Raises:
        CheckpointError: it gave one another, which happens where ids below are free.
    """
    config = json.loads(text)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    added = [*config["added_tokens"], *({"id": number, "content": name, **flags} for name, number in ids.items())]
    config["added_tokens"] = sorted(added, key=lambda token: int(token["id"]))
    text = json.dumps(config, ensure_ascii=False)
    with explain_panics():
        made = tokenizers.Tokenizer.from_str(text)
    moved = [name for name, number in ids.items() if made.token_to_id(name) != number]
    if moved:
        raise CheckpointError(
            f"the tokenizers library gives {', '.join(moved[:4])} other ids: the tokenizer's ids have holes",
            fix="make the tokenizer again without holes in its ids",
        )
    return text


def names_of(text: str) -> dict[int, str]:
    """Each id's token in a tokenizer.json."""
    with explain_panics():
        vocabulary: dict[str, int] = tokenizers.Tokenizer.from_str(text).get_vocab(with_added_tokens=True)
    return {token_id: name for name, token_id in vocabulary.items()}


def has_frame(text: str) -> bool:
    """Whether a tokenizer.json puts tokens around a text."""
    return json.loads(text).get("post_processor") is not None
