"""Cuts fall at the same places however the text is read, and change no token."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from trifecta.data import Sources
from trifecta.data.pieces import LONGEST_PIECE, PIECE_CHARACTERS, Cleaning, cut, documents_to_pieces, training_texts
from trifecta.tokenizers import TOKENIZERS


def chunked(text: str, seed: int, longest: int) -> Iterator[str]:
    generator = random.Random(seed)
    start = 0
    while start < len(text):
        end = start + generator.randint(0, longest)
        yield text[start:end]
        start = end


@pytest.fixture(scope="module")
def plays(tinyshakespeare: Path) -> str:
    return tinyshakespeare.read_bytes().decode()


@pytest.mark.fast
@pytest.mark.parametrize("target", [1, 7, 50])
def test_cut_does_not_depend_on_the_chunks(plays: str, target: int) -> None:
    text = plays[:6_000] + "\r\n\r\n   \n" + "x" * 300 + "  " * 100 + plays[6_000:8_000]
    pieces = list(cut([text], target, 2 * target))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 2 * target
    for seed in range(20):
        assert list(cut(chunked(text, seed, 3 * target), target, 2 * target)) == pieces


@pytest.mark.fast
def test_cut_prefers_line_ends_then_spaces() -> None:
    assert list(cut(["abc de\nfg hi jk lm"], 4, 8)) == ["abc de", "\nfg hi", " jk lm"]
    assert list(cut(["abcdefghijklmnop"], 4, 8)) == ["abcdefgh", "ijklmnop"]
    assert list(cut(["aaaa\r\nbbbbbbbbb"], 4, 8)) == ["aaaa", "\r\nbbbbbb", "bbb"]
    assert list(cut([], 4, 8)) == list(cut(["", ""], 4, 8)) == []


@pytest.mark.parametrize("type", ["bpe", "unigram", "wordpiece", "char", "byte"])
def test_cut_changes_no_token(plays: str, type: str) -> None:
    text = plays[:200_000]
    fields = {"vocab_size": 400} if type not in ("char", "byte") else {}
    tokenizer = TOKENIZERS[type](list(training_texts([text[:50_000]])), **fields)
    whole = tokenizer.encode(text)
    for target in (30, 2_000):
        pieces = list(cut([text], target, 2 * target))
        assert len(pieces) > 30
        assert np.array_equal(np.concatenate(tokenizer.encode_batch(pieces)), whole)


@pytest.mark.fast
def test_cut_changes_no_token_control(plays: str) -> None:
    """Cutting anywhere does change tokens: the check above does notice."""
    text = plays[:20_000]
    tokenizer = TOKENIZERS["bpe"](list(training_texts([text])), vocab_size=400)
    pieces = [text[start : start + 30] for start in range(0, len(text), 30)]
    assert not np.array_equal(np.concatenate(tokenizer.encode_batch(pieces)), tokenizer.encode(text))


@pytest.mark.fast
@pytest.mark.parametrize(("control", "collapse"), [(True, False), (False, True), (True, True)])
def test_cleaning_does_not_depend_on_the_chunks(control: bool, collapse: bool) -> None:
    cleaning = Cleaning(control, collapse)
    generator = random.Random(0)
    text = "".join(
        generator.choice(["a", "é", " ", "\n", "\r\n", "\t", "\x00", "\x85", "\u2028", "\x07"]) for _ in range(500)
    )
    whole = "".join(cleaning.apply([text]))
    for seed in range(50):
        assert "".join(cleaning.apply(chunked(text, seed, 4))) == whole
    assert ("\x07" in whole) != control
    assert ("  " in whole or "\n" in whole) != collapse


@pytest.mark.fast
def test_cleaning() -> None:
    assert "".join(Cleaning(True, False).apply(["a\x00b\x1b\x7f\x9f\tc\r\nd"])) == "ab\tc\r\nd"
    assert "".join(Cleaning(False, True).apply([" a \n", "\t b\u2028\u00a0c"])) == " a b c"


@pytest.mark.fast
def test_last_piece_ends_its_document() -> None:
    documents = [("one", ["a" * 200_000]), ("empty", []), ("blank", ["", ""]), ("two", ["b"])]
    pieces = list(documents_to_pieces(documents, Cleaning()))
    assert [(len(piece.text), piece.ends_document, piece.place) for piece in pieces] == [
        (LONGEST_PIECE, False, "one"), (200_000 - LONGEST_PIECE, True, "one"), (1, True, "two"),
    ]  # fmt: skip


def test_one_long_line_is_read_in_bounded_memory(write: Callable[..., str]) -> None:
    """FAULTS 47 in small: 24 MB without a line end, white space, or any other place to cut well."""
    path = write("line.txt", "x" * 24_000_000)
    sources = Sources([path])
    tracemalloc.start()
    total = sum(len(piece.text) for piece in sources.pieces())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 24_000_000
    assert peak < 6_000_000


def test_pieces_have_bounded_size(plays: str) -> None:
    assert max(map(len, list(cut([plays]))[:-1])) < PIECE_CHARACTERS + 200
    assert max(map(len, training_texts([plays]))) < 3_000
