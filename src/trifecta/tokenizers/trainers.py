"""Trains bpe, wordpiece and unigram so that the same texts always give the same tokenizer.json.

The library draws the order of its hash tables anew in each process. BPE doesn't depend on it. WordPiece's continuing
letters take their ids from it, so they get theirs from us, before training. Unigram's pieces would depend on it, so
they are trained in unigram.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from trifecta.errors import RecipeError
from trifecta.tokenizers.base import END_OF_TEXT, UNKNOWN
from trifecta.tokenizers.subword import BYTE_TOKENS, WORD_PATTERN, SubwordTokenizer
from trifecta.tokenizers.unigram import count_words, train_pieces

LARGEST_VOCABULARY = 10_000_000
"""The library takes its memory for the whole vocabulary first, and ends the process where there isn't enough."""


def bpe(texts: Iterable[str], *, vocab_size: int = 8000, min_frequency: int = 2) -> SubwordTokenizer:
    """Byte-level byte-pair encoding (Sennrich et al., 2016; Radford et al., 2019). Id 0 is the end of text.

    Raises:
        RecipeError: vocab_size is too large, or can't hold the bytes.
    """
    _require_size(vocab_size, 1 + len(BYTE_TOKENS))
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(iter(texts), trainer)
    return SubwordTokenizer(inner)


def wordpiece(
    texts: Iterable[str], *, vocab_size: int = 8000, min_frequency: int = 2, lowercase: bool = False
) -> SubwordTokenizer:
    """WordPiece (Schuster and Nakajima, 2012), cut as BERT does. Id 0 is the end of text, 1 the unknown.

    Texts are read twice; an iterator, which can't be, is kept in memory.

    Raises:
        RecipeError: vocab_size is too large, or can't hold the alphabet.
    """
    _require_size(vocab_size, 3)
    if iter(texts) is texts:
        texts = list(texts)
    inner = tokenizers.Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    inner.normalizer = normalizers.BertNormalizer(strip_accents=lowercase, lowercase=lowercase)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    continuing: set[str] = set()
    for text in texts:
        words = inner.pre_tokenizer.pre_tokenize_str(inner.normalizer.normalize_str(text))
        continuing.update("".join({word[1:] for word, _ in words}))
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[END_OF_TEXT, UNKNOWN, *(f"##{letter}" for letter in sorted(continuing))],
        show_progress=False,
    )
    inner.train_from_iterator(iter(texts), trainer)
    if (needed := inner.get_vocab_size()) > vocab_size:
        raise RecipeError(
            f"the text's letters and the special tokens alone need {needed} tokens, more than vocab_size={vocab_size}",
            where="tokenizer.vocab_size",
            fix=f"set tokenizer.vocab_size to at least {needed}, or take tokenizer=bpe, which needs 257",
        )
    config = json.loads(inner.to_str())
    # The letters were called special only to fix their ids.
    config["added_tokens"] = [token for token in config["added_tokens"] if token["content"] == END_OF_TEXT]
    return SubwordTokenizer(tokenizers.Tokenizer.from_str(json.dumps(config)))


def unigram(texts: Iterable[str], *, vocab_size: int = 8000) -> SubwordTokenizer:
    """Unigram language model (Kudo, 2018) over the text itself, spaces included, with byte fall-back; lossless.

    Id 0 is the end of text, 1 the unknown (never used, since every byte has a token), 2..257 the bytes.

    Raises:
        RecipeError: vocab_size is too large, or can't hold the bytes.
    """
    _require_size(vocab_size, 3 + len(BYTE_TOKENS))
    cut = pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated")
    special = [END_OF_TEXT, UNKNOWN, *BYTE_TOKENS]
    pieces = train_pieces(count_words(texts, cut), vocab_size - len(special))
    inner = tokenizers.Tokenizer(
        models.Unigram([*((token, 0.0) for token in special), *pieces], unk_id=1, byte_fallback=True)
    )
    inner.pre_tokenizer = cut
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    inner.add_special_tokens([END_OF_TEXT, UNKNOWN])
    return SubwordTokenizer(inner)


def _require_size(vocab_size: int, least: int) -> None:
    if least <= vocab_size <= LARGEST_VOCABULARY:
        return
    bound = f"at least {least}" if vocab_size < least else f"at most {LARGEST_VOCABULARY:,}"
    raise RecipeError(
        f"vocab_size={vocab_size} is too {'small' if vocab_size < least else 'large'}: {bound} tokens",
        where="tokenizer.vocab_size",
        fix=f"set tokenizer.vocab_size to {bound}; 8000 is usual",
    )
