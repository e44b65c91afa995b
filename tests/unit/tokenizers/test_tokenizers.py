"""Every tokenizer: round trips, ids, JSON, and text that looks like special tokens."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from trifecta.errors import DataError, RecipeError
from trifecta.tokenizers import (
    END_OF_TEXT,
    TEXT_NEEDED,
    TOKENIZERS,
    Tokenizer,
    fingerprint,
    from_json,
    tokenizer_key,
)
from trifecta.tokenizers.subword import SubwordTokenizer
from trifecta.tokenizers.unigram import train_pieces

ALL = ["char", "byte", "bpe", "wordpiece", "unigram"]
LOSSLESS = ["byte", "bpe", "unigram"]
Make = Callable[[str], Tokenizer]


def lost(tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    """Texts that don't come back."""
    ids = tokenizer.encode_batch(texts)
    return [text for text, its in zip(texts, ids, strict=True) if tokenizer.decode(its) != text]


@pytest.mark.fast
@pytest.mark.parametrize("type", LOSSLESS)
def test_numeric_030_round_trip(make: Make, random_texts: list[str], type: str) -> None:
    """10,000 random strings of all of Unicode come back exactly from the lossless tokenizers (byte, BPE, unigram)."""
    tokenizer = make(type)
    assert tokenizer.lossless
    assert lost(tokenizer, random_texts) == []


@settings(max_examples=40)
@given(st.lists(st.text(max_size=30), max_size=30))
def test_numeric_030_round_trip_hypothesis(texts: list[str]) -> None:
    """40 lists of up to 30 strings that Hypothesis searches for a counterexample come back exactly."""
    for name in LOSSLESS:
        assert lost(_hypothesis_tokenizer(name), texts) == []


@pytest.mark.fast
@pytest.mark.parametrize("bug", ["prefix space", "nfkc"])
def test_numeric_030_round_trip_control(make: Make, random_texts: list[str], bug: str) -> None:
    """A tokenizer that adds a space, or normalises to NFKC, loses more than 100 of the strings."""
    import tokenizers
    from tokenizers import normalizers

    inner = tokenizers.Tokenizer.from_str(make("bpe").to_json())
    if bug == "nfkc":
        inner.normalizer = normalizers.NFKC()
    else:
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    broken = SubwordTokenizer(inner)
    assert len(lost(broken, random_texts)) > 100
    assert not broken.lossless


def test_char_is_exact_on_its_alphabet(random_texts: list[str]) -> None:
    tokenizer = TOKENIZERS["char"](iter(random_texts))
    assert lost(tokenizer, random_texts) == []
    characters = sorted(set("".join(random_texts)))
    assert [tokenizer.decode([token]) for token in range(2, tokenizer.vocab_size)] == characters


@pytest.mark.fast
def test_char_vocab_size_keeps_the_most_frequent() -> None:
    tokenizer = TOKENIZERS["char"](["aaab", "bccd"], vocab_size=4)
    assert tokenizer.vocab_size == 4
    assert tokenizer.decode(tokenizer.encode("abcd")) == "ab\ufffd\ufffd"  # b before c: more frequent or earlier


@pytest.mark.fast
def test_bpe_of_tinyshakespeare_has_exactly_2000_tokens(tinyshakespeare: Path) -> None:
    text = tinyshakespeare.read_bytes().decode()
    texts = [text[start : start + 2048] for start in range(0, 1_003_854, 2048)]
    tokenizer = TOKENIZERS["bpe"](iter(texts), vocab_size=2000)
    assert tokenizer.vocab_size == 2000
    ids = tokenizer.encode(text)
    assert ids.max() == 1999
    assert tokenizer.decode(ids) == text


@pytest.mark.fast
@pytest.mark.parametrize("type", ALL)
def test_protocol(make: Make, type: str) -> None:
    tokenizer = make(type)
    assert tokenizer.type == type
    ids = tokenizer.encode("The king's dog")
    assert ids.dtype == np.int64
    assert 0 <= ids.min() <= ids.max() < tokenizer.vocab_size
    assert tokenizer.token_text(tokenizer.eos_id) == END_OF_TEXT
    assert tokenizer.decode([*ids, tokenizer.eos_id]) == tokenizer.decode(ids)
    assert len(tokenizer.encode("")) == 0
    assert tokenizer.decode([]) == ""
    names = [tokenizer.token_text(token) for token in range(tokenizer.vocab_size)]
    assert all(name.isprintable() and name for name in names)
    for single, batched in zip(
        map(tokenizer.encode, ["a b", "\n"]), tokenizer.encode_batch(["a b", "\n"]), strict=True
    ):
        assert (single == batched).all()


@pytest.mark.fast
@pytest.mark.parametrize("type", ALL)
def test_json_comes_back(make: Make, type: str) -> None:
    tokenizer = make(type)
    again = from_json(tokenizer.to_json())
    assert again.to_json() == tokenizer.to_json()
    assert fingerprint(again) == fingerprint(tokenizer)
    facts = ("type", "vocab_size", "eos_id", "unk_id", "lossless", "token_bytes")
    assert [getattr(again, fact) for fact in facts] == [getattr(tokenizer, fact) for fact in facts]
    text = "The café is naïve. \U0001f600 <unk>\r\n"
    assert (again.encode(text) == tokenizer.encode(text)).all()


_TRAIN = """
import sys
from trifecta.tokenizers import TOKENIZERS, fingerprint
text = sys.stdin.buffer.read().decode()
texts = [text[i:i + 2048] for i in range(0, len(text), 2048)]
for type in ("char", "bpe", "wordpiece", "unigram"):
    print(type, fingerprint(TOKENIZERS[type](texts, **({} if type == "char" else {"vocab_size": 600}))))
"""


def test_same_json_in_another_process(tinyshakespeare: Path) -> None:
    text = tinyshakespeare.read_bytes()[:150_000]
    outputs = [
        subprocess.run([sys.executable, "-c", _TRAIN], input=text, capture_output=True, check=True).stdout
        for _ in range(3)
    ]
    assert outputs[0].count(b"\n") == 4
    assert outputs[0] == outputs[1] == outputs[2]


def test_same_json_control() -> None:
    """The library alone gives WordPiece's letters other ids in other processes: the check above does notice."""
    script = (
        "from tokenizers import Tokenizer, models, pre_tokenizers, trainers\n"
        "t = Tokenizer(models.WordPiece(unk_token='u')); t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()\n"
        "t.train_from_iterator(['abcdefghij klmnopqrstuvwxyz zyxwvuts'] * 9, "
        "trainers.WordPieceTrainer(vocab_size=90, special_tokens=['u'], show_progress=False)); print(t.to_str())"
    )
    outputs = {subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout for _ in range(4)}
    assert len(outputs) > 1


@pytest.mark.fast
@pytest.mark.parametrize("type", ALL)
def test_fault_055_text_like_special_tokens(make: Make, type: str) -> None:
    """Text that looks like special tokens is encoded as several ordinary tokens, and lossless tokenizers give it back
    exactly."""
    tokenizer = make(type)
    for text in ("<|endoftext|>", "<unk>", "[MASK]", "<pad>", "<extra_id_0>", "a<|endoftext|>b", "<0x41>"):
        ids = tokenizer.encode(text)
        assert tokenizer.eos_id not in ids
        assert len(ids) > 1
        if tokenizer.lossless:
            assert tokenizer.decode(ids) == text


@pytest.mark.fast
def test_fault_055_text_like_special_tokens_control(make: Make) -> None:
    """The tokenizers library as it comes reads an end-of-text token in the text."""
    import tokenizers

    library = tokenizers.Tokenizer.from_str(make("bpe").to_json())  # as it comes, it reads special tokens in text
    assert library.token_to_id(END_OF_TEXT) in library.encode("a<|endoftext|>b").ids


@pytest.mark.fast
def test_fault_050_unseen_character() -> None:
    """Unseen characters become `<unk>` and decode to U+FFFD, even with an empty vocabulary."""
    tokenizer = TOKENIZERS["char"](["abc"])
    assert tokenizer.unk_id == 1
    assert list(tokenizer.encode("a\U0010ffff\x00z")) == [2, 1, 1, 1]
    assert tokenizer.decode(tokenizer.encode("aéb")) == "a\ufffdb"
    assert tokenizer.token_text(1) == "<unk>"
    assert list(TOKENIZERS["char"]([]).encode("a")) == [1]


@pytest.mark.fast
@pytest.mark.parametrize("type", LOSSLESS)
def test_half_a_surrogate_pair_is_refused(make: Make, type: str) -> None:
    with pytest.raises(DataError, match="U\\+D800"):
        make(type).encode("a\ud800b")


@pytest.mark.fast
def test_wordpiece_vocabulary_too_small_for_the_letters(texts: list[str]) -> None:
    with pytest.raises(RecipeError, match="vocab_size=64") as error:
        TOKENIZERS["wordpiece"](texts, vocab_size=64)
    needed = int(error.value.what.split("need ")[1].split()[0])
    assert TOKENIZERS["wordpiece"](texts, vocab_size=needed).vocab_size == needed


@pytest.mark.fast
@pytest.mark.parametrize("size", [320, 400])
def test_unigram_has_exactly_its_size(size: int) -> None:
    """Also where the text has more letters than there is room: the rare ones fall back to bytes."""
    words = "the cat and the dog and the bird who were under another thundercloud overtaking birds "
    text = " ".join(map(chr, range(0x4E00, 0x5000))) + words * 20
    tokenizer = TOKENIZERS["unigram"]([text], vocab_size=size)
    assert tokenizer.vocab_size == size
    assert lost(tokenizer, [text]) == []
    assert len(tokenizer.encode("the cat and the dog")) <= 8


def test_unigram_finds_the_pieces_of_a_known_model() -> None:
    """Words drawn from five pieces: each is found, and its probability is near its share."""
    shares = {"ka": 0.4, "lumo": 0.25, "ti": 0.2, "resa": 0.1, "vono": 0.05}
    drawn = np.random.default_rng(0).choice(list(shares), (4000, 3), p=list(shares.values()))
    pieces = train_pieces(Counter(map("".join, drawn)), size=len(set("".join(shares))) * 2)
    found = {piece: np.exp(log) for piece, log in pieces}
    assert sum(found.values()) == pytest.approx(1, abs=1e-4)
    for piece, share in shares.items():
        assert found[piece] == pytest.approx(share, abs=0.06)


def test_wordpiece_lowercase(texts: list[str]) -> None:
    tokenizer = TOKENIZERS["wordpiece"](iter(texts), vocab_size=200, lowercase=True)
    assert tokenizer.decode(tokenizer.encode("The  NAÏVE\nking's")) == "the naive king ' s"
    assert not tokenizer.lossless


def test_error_in_the_texts_comes_through() -> None:
    def texts() -> object:
        yield "a"
        raise DataError("broken")

    for name in ("char", "bpe", "wordpiece", "unigram"):
        with pytest.raises(DataError, match="broken"):
            TOKENIZERS[name](texts())


@pytest.mark.fast
def test_factories_take_the_recipe_fields() -> None:
    from trifecta.recipe import components
    from trifecta.registry import keywords

    models = (
        "CharTokenizer",
        "ByteTokenizer",
        "BpeTokenizer",
        "WordPieceTokenizer",
        "UnigramTokenizer",
        "FileTokenizer",
    )
    for model in (getattr(components, name) for name in models):
        fields = dict(model.model_fields)
        name = fields.pop("type").default
        assert keywords(TOKENIZERS[name]) == list(fields)
    assert TEXT_NEEDED.keys() == TOKENIZERS.keys()


@pytest.mark.fast
def test_tokenizer_key() -> None:
    assert tokenizer_key("bpe", vocab_size=300, min_frequency=2) == tokenizer_key(
        "bpe", min_frequency=2, vocab_size=300
    )
    assert tokenizer_key("bpe", vocab_size=300) != tokenizer_key("bpe", vocab_size=301)


_MADE: dict[str, Tokenizer] = {}


def _hypothesis_tokenizer(type: str) -> Tokenizer:
    if type not in _MADE:
        fields = {"bpe": {"vocab_size": 270}, "unigram": {"vocab_size": 330}}.get(type, {})
        _MADE[type] = TOKENIZERS[type](["the quick brown fox jumps over the lazy dog. "] * 4, **fields)
    return _MADE[type]


@pytest.mark.fast
@pytest.mark.parametrize("type", ["bpe", "wordpiece", "unigram"])
def test_absurd_vocab_size_is_refused_before_the_library_sees_it(type: str) -> None:
    for size in (10_000_000_000, 10_000_001):
        with pytest.raises(RecipeError, match=f"vocab_size={size} is too large: at most 10,000,000") as error:
            TOKENIZERS[type](["text"], vocab_size=size)
        assert "at most 10,000,000" in str(error.value.fix)


@pytest.mark.fast
@pytest.mark.parametrize(("type", "least"), [("bpe", 257), ("wordpiece", 3), ("unigram", 259)])
def test_too_small_a_vocab_size_names_the_minimum(type: str, least: int) -> None:
    for size in (-1, 0, least - 1):
        with pytest.raises(RecipeError, match=f"at least {least}") as error:
            TOKENIZERS[type](["text"], vocab_size=size)
        assert f"at least {least}" in str(error.value.fix)
    if type != "wordpiece":  # which needs more, by its letters
        assert TOKENIZERS[type](["aaaa text"], vocab_size=least).vocab_size == least
