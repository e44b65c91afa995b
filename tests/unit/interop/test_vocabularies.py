"""Tokenizers for the tokenizers library, with a token for every id of a model."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import tokenizers
from tokenizers import models

from trifecta.errors import CheckpointError
from trifecta.interop.vocabularies import library_json, names_of, with_frame, with_tokens, wordpiece_json
from trifecta.tokenizers import TOKENIZERS, Tokenizer, from_json

TEXT = ["The cat sat on the mat.\n\tIt's été: 12 \U0001f600!\n"] * 9
MAKERS: dict[str, Callable[[], Tokenizer]] = {
    "byte": lambda: TOKENIZERS["byte"](TEXT),
    "char": lambda: TOKENIZERS["char"](TEXT),
    "bpe": lambda: TOKENIZERS["bpe"](TEXT, vocab_size=290),
    "wordpiece": lambda: TOKENIZERS["wordpiece"](TEXT, vocab_size=80),
    "unigram": lambda: TOKENIZERS["unigram"](TEXT, vocab_size=330),
}
pytestmark = pytest.mark.fast


@pytest.mark.parametrize("name", MAKERS)
def test_the_library_gives_the_same_ids_and_the_same_text(name: str) -> None:
    ours = MAKERS[name]()
    size = ours.vocab_size + 9
    text = with_tokens(library_json(ours), {"[MASK]": ours.vocab_size + 3}, size)
    theirs, again = tokenizers.Tokenizer.from_str(text), from_json(text)
    for sample in ("the mat sat", TEXT[0] * 2, "  two  spaces\n\n", "unseen \u00d8 \u4e16", ""):
        ids = ours.encode(sample).tolist()
        assert theirs.encode(sample, add_special_tokens=False).ids == again.encode(sample).tolist() == ids
        if ours.unk_id not in ids:  # which theirs shows by its name, or not at all
            assert theirs.decode(ids) == again.decode(ids) == ours.decode(ids)
    assert again.vocab_size == theirs.get_vocab_size() == size
    assert (again.eos_id, again.special_id("[MASK]")) == (ours.eos_id, ours.vocab_size + 3)
    assert names_of(text)[ours.vocab_size] == f"<|unused_{ours.vocab_size}|>"
    assert again.decode([ours.vocab_size, *ours.encode("cat").tolist()]) == "cat"


def test_holes_are_filled_and_what_does_not_fit_is_refused() -> None:
    inner = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 3}, unk_token="a"))
    text = with_tokens(inner.to_str(), {"[X]": 5}, 7)
    assert names_of(text) == {
        0: "a", 1: "<|unused_1|>", 2: "<|unused_2|>", 3: "b", 4: "<|unused_4|>", 5: "[X]", 6: "<|unused_6|>",
    }  # fmt: skip
    with pytest.raises(CheckpointError, match="ids up to 3, the model only 3 tokens"):
        with_tokens(inner.to_str(), {}, 3)
    with pytest.raises(CheckpointError, match=r"the ids of \[X\] belong to other tokens"):
        with_tokens(inner.to_str(), {"[X]": 3}, 7)


def test_a_bert_vocabulary_cuts_as_bert_does() -> None:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "Cat", "."]
    text = wordpiece_json("\n".join(names) + "\n", lowercase=True)
    inner = tokenizers.Tokenizer.from_str(text)
    assert inner.encode("The CATS. [MASK] dog").ids == [2, 5, 6, 7, 9, 4, 1, 3]
    ours = from_json(text)
    assert ours.encode("the cats").tolist() == [5, 6, 7]
    assert (ours.eos_id, ours.unk_id, ours.special_id("[MASK]")) == (3, 1, 4)
    cased = tokenizers.Tokenizer.from_str(wordpiece_json("\n".join(names), lowercase=False))
    assert cased.encode("Cat", add_special_tokens=False).ids == [8]
    with pytest.raises(CheckpointError, match=r"there is no \[MASK\] in it"):
        wordpiece_json("\n".join(names[:4]), lowercase=True)
    with pytest.raises(CheckpointError, match="stands in it twice"):
        wordpiece_json("\n".join([*names, "cat"]), lowercase=True)


def test_a_frame_stands_around_one_text_and_between_two() -> None:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    config = json.loads(wordpiece_json("\n".join(names), lowercase=True)) | {"post_processor": None}
    inner = tokenizers.Tokenizer.from_str(with_frame(json.dumps(config), ("[CLS]", 2), ("[SEP]", 3)))
    assert inner.encode("a").ids == [2, 5, 3]
    assert inner.encode("a", "b").ids == [2, 5, 3, 6, 3]
    assert inner.encode("a", "b").type_ids == [0, 0, 0, 1, 1]
