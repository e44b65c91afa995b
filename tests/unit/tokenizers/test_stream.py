"""The stream of text while ids come."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trifecta.tokenizers import StreamDecoder, Tokenizer, from_json

Make = Callable[[str], Tokenizer]
TEXT = "The naïve king's café,  日本語 \U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301\r\n<unk> \ufffd."


def stream(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = StreamDecoder(tokenizer)
    return [*(decoder.push(token) for token in ids), decoder.flush()]


@pytest.mark.fast
@pytest.mark.parametrize("type", ["char", "byte", "bpe", "wordpiece", "unigram"])
def test_stream_is_the_decoded_text_and_never_half_a_character(make: Make, type: str) -> None:
    tokenizer = make(type)
    ids = [*tokenizer.encode(TEXT), tokenizer.eos_id, *tokenizer.encode(" and on")]
    parts = stream(tokenizer, ids)
    assert "".join(parts) == tokenizer.decode(ids)
    if tokenizer.lossless:
        assert "".join(parts).count("\ufffd") == 1  # the one in the text
    assert sum(map(bool, parts)) > 5  # it does stream


@pytest.mark.parametrize("type", ["char", "byte", "bpe", "wordpiece", "unigram"])
def test_stream_of_any_ids(make: Make, type: str) -> None:
    """A model may write anything: lone continuation bytes, beginnings without an end."""
    tokenizer = make(type)
    generator = np.random.default_rng(1)
    for _ in range(100):
        ids = generator.integers(0, tokenizer.vocab_size, 20).tolist()
        assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)


@pytest.mark.fast
def test_incomplete_character_waits_for_flush(make: Make) -> None:
    decoder = StreamDecoder(make("byte"))
    assert [decoder.push(byte) for byte in "é\U0001f600".encode()[:-1]] == ["", "é", "", "", ""]
    assert decoder.flush() == "\ufffd"


@pytest.mark.fast
def test_incomplete_character_control(make: Make) -> None:
    """Decoding token by token shows halves: the check above does notice."""
    tokenizer = make("byte")
    assert "\ufffd" in "".join(tokenizer.decode([token]) for token in tokenizer.encode(TEXT.replace("\ufffd", "")))


def test_stream_of_a_foreign_tokenizer() -> None:
    import tokenizers
    from tokenizers import decoders, models, normalizers

    vocabulary = {"<unk>": 0, "</s>": 1} | {f"<0x{i:02X}>": 2 + i for i in range(256)} | {"▁": 258, "a": 259}
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.add_special_tokens(["<unk>", "</s>"])
    tokenizer = from_json(inner.to_str())
    assert tokenizer.token_bytes is None
    ids = tokenizer.encode("a aé \U0001f600 a")
    parts = stream(tokenizer, list(ids))
    assert "".join(parts) == "a aé \U0001f600 a" == tokenizer.decode(ids)
    assert "\ufffd" not in "".join(parts)
