"""Where in the text each token is, and which special tokens there are."""

from __future__ import annotations

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

from trifecta.errors import DataError
from trifecta.tokenizers import TOKENIZERS, Tokenizer, from_json
from trifecta.tokenizers.subword import SubwordTokenizer

pytestmark = pytest.mark.fast

ALL = ["char", "byte", "bpe", "wordpiece", "unigram", "words", "gpt2", "nfkc"]
WORDS = ["the quick brown fox jumps over the lazy dog's naïve café 日本. "] * 4
TEXTS = st.text(
    st.one_of(
        st.sampled_from(" \n\tthequickdogé日\u0301\u00a0\x00\ufffdİﬁ\U0001f600"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=16,
)


def _words() -> SubwordTokenizer:
    inner = tokenizers.Tokenizer(models.WordLevel({"the": 0, "dog": 1, "?": 2, "[MASK]": 3, "[CLS]": 4}, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_special_tokens(["[MASK]"])
    return SubwordTokenizer(inner)


def _gpt2() -> tokenizers.Tokenizer:
    """As GPT-2's file has it: the library takes leading spaces out of its ranges."""
    inner = tokenizers.Tokenizer.from_str(_tokenizer("bpe").to_json())
    inner.post_processor = processors.ByteLevel(trim_offsets=True)
    return inner


def _nfkc() -> tokenizers.Tokenizer:
    inner = _gpt2()
    inner.normalizer = normalizers.NFKC()
    return inner


_MADE: dict[str, Tokenizer] = {}
_FIELDS = {
    "bpe": {"vocab_size": 300},
    "wordpiece": {"vocab_size": 90, "lowercase": True},
    "unigram": {"vocab_size": 300},
}


def _tokenizer(type: str) -> Tokenizer:
    if type not in _MADE:
        if type == "words":
            _MADE[type] = _words()
        elif type in ("gpt2", "nfkc"):
            _MADE[type] = SubwordTokenizer(_gpt2() if type == "gpt2" else _nfkc())
        else:
            _MADE[type] = TOKENIZERS[type](WORDS, **_FIELDS.get(type, {}))
    return _MADE[type]


def covered(text: str, tokenizer: Tokenizer) -> list[str]:
    return [text[start:stop] for start, stop in tokenizer.encode_with_offsets(text)[1]]


@pytest.mark.parametrize("type", ALL)
@settings(max_examples=60)
@given(text=TEXTS)
def test_ids_are_those_of_encode_and_ranges_ascend_in_the_text(type: str, text: str) -> None:
    tokenizer = _tokenizer(type)
    ids, ranges = tokenizer.encode_with_offsets(text)
    assert np.array_equal(ids, tokenizer.encode(text))
    assert ids.dtype == ranges.dtype == np.int64
    assert ranges.shape == (len(ids), 2)
    assert (ranges[:, 0] < ranges[:, 1]).all()
    assert (ranges >= 0).all()
    assert (ranges <= len(text)).all()
    assert (np.diff(ranges, axis=0) >= 0).all()
    if tokenizer.lossless or type == "char":
        seen = np.zeros(len(text), bool)
        for start, stop in ranges:
            seen[start:stop] = True
        assert seen.all()


@pytest.mark.parametrize("type", ["char", "byte", "bpe", "unigram", "gpt2"])
@settings(max_examples=60)
@given(text=TEXTS)
def test_each_tokens_bytes_are_those_of_its_range(type: str, text: str) -> None:
    """Its bytes are part of its characters' bytes, and leave out less than one character at either end."""
    tokenizer = _tokenizer(type)
    table = tokenizer.token_bytes
    assert table is not None
    for token, (start, stop) in zip(*tokenizer.encode_with_offsets(text), strict=True):
        if token == tokenizer.unk_id:
            assert stop - start == 1
            continue
        assert table[token] in text[start:stop].encode()
        inner = text[start + 1 : stop - 1].encode()
        assert inner in table[token]


@pytest.mark.parametrize("type", ["wordpiece", "words"])
def test_each_tokens_text_is_in_its_range(type: str) -> None:
    text = " the  Quick\tdog, THE\x00 dog's"
    tokenizer = _tokenizer(type)
    ids, _ = tokenizer.encode_with_offsets(text)
    known = [(tokenizer.token_text(int(i)), part) for i, part in zip(ids, covered(text, tokenizer), strict=True)]
    assert sum(token not in ("?", "<unk>") for token, _ in known) > 1
    for token, part in known:
        if token not in ("?", "<unk>"):
            assert part.replace("\x00", "").lower() == token.removeprefix("##")


def test_ranges_of_wordpiece_are_in_the_original_text() -> None:
    """Lower-casing and taking accents off change lengths; the ranges are of what the user wrote."""
    text = "  THE NAI\u0308VE Ca\u0301f\u00c9 \U0001f600"
    ids, ranges = _tokenizer("wordpiece").encode_with_offsets(text)
    words: list[str] = []
    for token, (start, stop) in zip(ids, ranges, strict=True):
        part = text[start:stop]
        if _tokenizer("wordpiece").token_text(int(token)).startswith("##"):
            words[-1] += part
        else:
            words.append(part)
    assert [word.replace("\u0308", "").replace("\u0301", "") for word in words] == [
        "THE",
        "NAIVE",
        "Caf\u00c9",
        text[-1],
    ]


@pytest.mark.parametrize("type", ["bpe", "unigram", "gpt2", "nfkc"])
def test_a_tokens_range_has_its_leading_space(type: str) -> None:
    # With NFKC the ligature isn't the tokens' bytes, so that the library's own ranges are used.
    parts = covered("the the  ﬁ", _tokenizer(type))
    assert parts[:2] == ["the", " the"]
    assert all(parts)


def test_a_tokens_range_has_its_leading_space_control() -> None:
    """The library, with GPT-2's post-processor, takes the space out: the checks above do notice."""
    text = "the the  ﬁ"
    parts = [text[start:stop] for start, stop in _gpt2().encode(text, add_special_tokens=False).offsets]
    assert parts[:2] == ["the", "the"]
    assert "" in parts  # a token that is a space


def test_tokens_of_one_character_share_its_range() -> None:
    text = "a日\U0001f600"
    assert covered(text, _tokenizer("byte")) == ["a", *"日" * 3, *"\U0001f600" * 4]
    for name in ("bpe", "unigram"):
        assert covered("x\U0001f600\U0001f601", _tokenizer(name)) == ["x", *"\U0001f600" * 4, *"\U0001f601" * 4]


def test_a_byte_of_unigrams_has_its_own_character_where_the_library_gives_the_whole_word() -> None:
    text = "aÏÖe"
    tokenizer = _tokenizer("unigram")
    library = tokenizers.Tokenizer.from_str(tokenizer.to_json()).encode(text, add_special_tokens=False)
    assert max(stop - start for start, stop in library.offsets) > 1
    assert covered(text, tokenizer) == ["a", "Ï", "Ï", "Ö", "Ö", "e"]


@pytest.mark.parametrize("type", ["bpe", "gpt2", "nfkc", "words"])
def test_text_like_special_tokens_has_ranges_of_ordinary_tokens(type: str) -> None:
    tokenizer = _tokenizer(type)
    text = "the[MASK]<|endoftext|>ﬁ"
    ids, _ = tokenizer.encode_with_offsets(text)
    assert not {tokenizer.eos_id, tokenizer.special_id("[MASK]")} & set(ids.tolist())
    assert len(ids) > 4


@pytest.mark.parametrize("type", ["byte", "bpe", "wordpiece", "unigram", "words", "nfkc"])
def test_half_a_surrogate_pair_is_refused(type: str) -> None:
    with pytest.raises(DataError, match="U\\+D800"):
        _tokenizer(type).encode_with_offsets("a\ud800b")


def test_char_gives_half_a_surrogate_pair_a_range() -> None:
    assert _tokenizer("char").encode_with_offsets("a\ud800")[1].tolist() == [[0, 1], [1, 2]]


def test_special_id_is_the_first_there_is() -> None:
    names = ("<mask>", "[MASK]", "<unk>", "<|endoftext|>")
    assert _tokenizer("byte").special_id(*names) == 256
    assert [_tokenizer(name).special_id(*names) for name in ("char", "unigram", "wordpiece")] == [1, 1, 1]
    assert _tokenizer("char").special_id("<|endoftext|>", "<unk>") == 0
    assert _tokenizer("words").special_id(*names) == 3
    assert _tokenizer("words").special_id("?") == 2
    for name in ALL:
        assert _tokenizer(name).special_id() is None
        assert _tokenizer(name).special_id("[PAD]", "the", "t") is None
    assert _tokenizer("words").special_id("[CLS]") is None  # in the vocabulary, but read in ordinary text


def test_special_ids_come_back_from_json() -> None:
    again = from_json(_tokenizer("words").to_json())
    assert [again.special_id(name) for name in ("[MASK]", "?", "<|endoftext|>")] == [3, 2, again.eos_id]
