"""Hidden and left-out tokens: what is learned stays right."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from objectives import objective

from trifecta.data.tasks import Labelled, Pair, Question, Tagged
from trifecta.objectives.noise import Noise, mask_id
from trifecta.randomness import numpy_generator
from trifecta.types import Example

pytestmark = pytest.mark.fast

SENTENCE = "ann of rome saw a big red dog near it"


def tag_example() -> tuple[Any, Example, Tagged]:
    made = objective("tag", labels=["O", "B-X", "I-X"])
    ends = [0, *(n + 1 for n, c in enumerate(SENTENCE) if c == " "), len(SENTENCE) + 1]
    words = tuple((a, b - 1) for a, b in pairwise(ends))
    record = Tagged(SENTENCE, words, ("B-X", "I-X", "I-X", *["O"] * (len(words) - 3)), "p")
    return made, made.prepare(made.expand([record])[0]), record


def noised(made: Any, example: Example, number: int, **rates: Any) -> Example:
    return Noise(made.vocabulary, **rates)(example, numpy_generator(0, "noise", 0, number))


@pytest.mark.parametrize("number", range(10))
def test_tags_keep_their_words_and_entities_their_tokens(number: int) -> None:
    made, example, _ = tag_example()
    after = noised(made, example, number, mask=0.3, drop=0.4)
    assert after.arrays["labels"].tolist() == example.arrays["labels"].tolist()
    before_first = [made.vocabulary.shown([example.arrays["tokens"][p]]) for p in example.arrays["places"]]
    first = [made.vocabulary.shown([after.arrays["tokens"][p]]) for p in after.arrays["places"]]
    assert all(a in (b, "[MASK]") for a, b in zip(first, before_first, strict=True))
    assert "ann of rome" in made.vocabulary.shown(after.arrays["tokens"])
    assert len(after.arrays["types"]) == len(after.arrays["tokens"]) < len(example.arrays["tokens"])


@pytest.mark.parametrize("number", range(10))
def test_answers_are_found_anew_and_questions_stay(number: int) -> None:
    made = objective("answer")
    question = Question("q", "who saw it?", SENTENCE, (("big red", SENTENCE.index("big red")),), "p")
    (window,) = made.expand([question])
    example = made.prepare(window)
    after = noised(made, example, number, mask=0.2, drop=0.4)
    assert len(after.arrays["tokens"]) < len(example.arrays["tokens"])
    at = np.flatnonzero(after.arrays["choice"])
    first, last = after.arrays["answer"]
    assert made.vocabulary.decode(after.arrays["tokens"][at[first] : at[last] + 1]).strip() == "big red"
    assert made.vocabulary.shown(after.arrays["tokens"]).startswith("[CLS]who saw it?[SEP]")


def test_control_an_answer_that_is_not_moved_is_noticed() -> None:
    made = objective("answer")
    question = Question("q", "who saw it?", SENTENCE, (("big red", SENTENCE.index("big red")),), "p")
    example = made.prepare(made.expand([question])[0])
    wrong = 0
    for number in range(10):
        after = noised(made, example, number, drop=0.4)
        at = np.flatnonzero(after.arrays["choice"])
        first, last = example.arrays["answer"]  # the planted bug
        here = after.arrays["tokens"][at[first] : (at[last] + 1 if last < len(at) else None)]
        wrong += "big red" not in made.vocabulary.decode(here)
    assert wrong == 10


def test_no_answer_stays_none() -> None:
    made = objective("answer", no_answer=True)
    example = made.prepare(made.expand([Question("q", "who?", SENTENCE, (), "p")])[0])
    assert noised(made, example, 1, drop=0.5).arrays["answer"].tolist() == [0, 0]


def test_special_tokens_and_the_prefix_stay_and_so_does_what_is_written() -> None:
    made = objective("seq2seq", prefix="say: ")
    example = made.prepare(Pair("abcdefgh" * 4, "target", "p"))
    for number in range(10):
        after = noised(made, example, number, mask=0.3, drop=0.3, prefix=5)
        assert after.arrays["tokens"][:5].tolist() == example.arrays["tokens"][:5].tolist()
        assert after.arrays["tokens"][-1] == made.eos_id
        for name in ("targets", "decoder_tokens"):
            assert after.arrays[name].tolist() == example.arrays[name].tolist()


def test_a_text_keeps_a_token() -> None:
    made = objective("classify", labels=["a", "b"], kind="single")
    for number in range(20):
        after = noised(made, made.prepare(Labelled("ab", None, "a", "p")), number, drop=0.99)
        assert made.vocabulary.shown(after.arrays["tokens"]) in ("[CLS]a[SEP]", "[CLS]b[SEP]", "[CLS]ab[SEP]")


def test_causal_inputs_are_hidden_and_targets_stay() -> None:
    made = objective("causal")
    window = made.vocabulary.tokenizer.encode("abcdefgh" * 8)
    example = made.prepare(window)
    after = noised(made, example, 0, mask=0.5)
    changed = (after.arrays["tokens"] != example.arrays["tokens"]).mean()
    assert 0.3 < changed < 0.7
    assert after.arrays["targets"] is example.arrays["targets"]
    assert mask_id(made.vocabulary) is None, "bytes know no unknown token: another token takes the place"
    assert mask_id(objective("classify").vocabulary) is not None
    assert mask_id(objective("span").vocabulary) == objective("span").vocabulary["<extra_id_0>"]


def test_shares_are_what_they_are_called() -> None:
    made = objective("classify", labels=["a", "b"], kind="single", sequence_length=2000)
    example = made.prepare(Labelled("x" * 1900, None, "a", "p"))
    after = noised(made, example, 0, mask=0.2, drop=0.25)
    hidden = (after.arrays["tokens"] == made.vocabulary["[MASK]"]).sum()
    left = len(after.arrays["tokens"]) - 2
    assert abs(hidden / 1900 - 0.2) < 0.04
    assert abs((1900 - left) / 1900 - 0.8 * 0.25) < 0.04
