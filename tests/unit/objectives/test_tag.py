"""Tags: which token stands for a word, windows of long texts, what is learned, and what isn't."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from objectives import objective

from trifecta.data.tasks import Tagged
from trifecta.models import Bert
from trifecta.objectives import tag as module
from trifecta.objectives.tag import first_tokens
from trifecta.objectives.windows import owners, window_starts

pytestmark = pytest.mark.fast
LABELS = ["O", "B-X", "I-X"]


def record(*words: str, tags: list[str] | None = None) -> Tagged:
    """The words with a space between; capitals are entities."""
    ranges, start = [], 0
    for word in words:
        ranges.append((start, start + len(word)))
        start += len(word) + 1
    made = tags or ["B-X" if word[0].isupper() else "O" for word in words]
    return Tagged(" ".join(words), tuple(ranges), tuple(made), "a.conll:1")


def made(sequence_length: int = 64) -> Any:
    return objective("tag", sequence_length, labels=LABELS)


def model_for(tagger: Any, model: type = Bert, **options: Any) -> Any:
    torch.manual_seed(0)
    body = model(tagger.vocabulary.size, d_model=16, num_heads=2, num_layers=2, d_ff=32, dropout=0.0, **options)
    headed = tagger.headed(body)
    torch.nn.init.normal_(headed.head.weight, std=1.0)
    return headed.double().eval()


def batch_of(tagger: Any, *records: Tagged) -> Any:
    return tagger.collate([tagger.prepare(window) for window in tagger.expand(records)])


# ------------------------------------------------------------------------------------------------------------- places


@pytest.mark.parametrize(
    ("ranges", "words", "wanted"),
    [
        ([(0, 3), (3, 6)], [(0, 3), (4, 6)], [(0, 0), (1, 1)]),  # a token brings its space
        ([(0, 2), (2, 3), (3, 6)], [(0, 3), (4, 6)], [(0, 0), (1, 2)]),  # pieces of a word
        ([(0, 3), (3, 4), (4, 6)], [(0, 3), (4, 6)], [(0, 0), (1, 2)]),  # a space by itself
        ([(0, 0), (0, 3)], [(0, 3)], [(0, 1)]),  # a token of nothing
        ([(0, 3), (3, 6)], [(0, 3), (3, 4), (4, 5), (5, 6)], [(0, 0), (1, 1)]),  # three signs in one token
        ([(0, 3)], [(0, 3), (4, 5)], [(0, 0)]),  # a word that became no token, at the end
        ([(0, 3), (6, 9)], [(0, 3), (4, 5), (6, 9)], [(0, 0), (2, 1)]),  # and in the middle
        ([], [(0, 1)], []),
        ([(0, 1)], [], []),
    ],
)
def test_first_token_of_each_word(ranges: list[Any], words: list[Any], wanted: list[Any]) -> None:
    found = first_tokens(np.array(ranges, dtype=np.int64).reshape(-1, 2), words)
    assert list(zip(*(part.tolist() for part in found), strict=True)) == wanted


@pytest.mark.parametrize("length", range(40))
@pytest.mark.parametrize(("room", "step"), [(5, 3), (8, 8), (4, 1), (3, 9), (1, 1)])
def test_windows_cover_everything_and_each_token_has_one_owner(length: int, room: int, step: int) -> None:
    starts = window_starts(length, room, step)
    assert starts[0] == 0
    assert all(b - a <= room for a, b in pairwise(starts))
    assert starts[-1] + room >= length
    assert len(starts) == 1 or starts[-1] < length - max(0, room - step), "no window only repeats the one before"
    owner = owners(length, starts, room)
    for token in range(length):
        context = [
            min(token - s, min(s + room, length) - 1 - token) if s <= token < s + room else -1 for s in starts
        ]  # fmt: skip
        assert context[owner[token]] == max(context) >= 0


# ------------------------------------------------------------------------------------------------------------ examples


def test_an_example_by_hand() -> None:
    tagger = made()
    (window,) = tagger.expand([record("he", "saw", "Ann")])
    example, ids = tagger.prepare(window), tagger.vocabulary
    assert example.arrays["tokens"].tolist() == [ids["[CLS]"], *b"he saw Ann", ids["[SEP]"]]
    assert example.arrays["places"].tolist() == [1, 4, 8]
    assert example.arrays["labels"].tolist() == [0, 0, 1]
    assert example.cut == 0


def check_every_word_once(tagger: Any) -> None:
    texts = [record(*(f"w{number}" for number in range(count))) for count in (1, 2, 30, 77)]
    for text in texts:
        words = [word for window in tagger.expand([text]) for word in window.words.tolist()]
        assert sorted(words) == list(range(len(text.words)))
        for window in tagger.expand([text]):
            assert len(tagger.prepare(window).arrays["tokens"]) <= 32
            for word, at in zip(window.words, window.at, strict=True):
                start = text.words[word][0]
                assert chr(window.tokens[at]) + chr(window.tokens[at + 1]) == text.text[start : start + 2]


def test_long_texts_become_windows_with_each_word_in_one_of_them() -> None:
    check_every_word_once(made(32))


def test_control_words_learned_in_every_window_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "owners", lambda length, *_: np.zeros(length, np.int64))
    with pytest.raises((AssertionError, IndexError)):
        check_every_word_once(made(32))


# ------------------------------------------------------------------------------------------------------------ the loss


@torch.no_grad()
def test_loss_against_its_definition() -> None:
    tagger = made()
    model = model_for(tagger)
    records = [record("he", "saw", "Ann"), record("Bob", "ran"), record("so", "it", "is", "Eve")]
    result = tagger.loss(model, batch_of(tagger, *records))
    total = right = 0.0
    for text in records:
        (window,) = tagger.expand([text])
        example = tagger.prepare(window).arrays
        hidden = model.hidden(torch.from_numpy(example["tokens"])[None]).hidden_BTD[0, example["places"]]
        logs = model.scores(hidden).log_softmax(1)
        labels = torch.from_numpy(example["labels"])
        total -= float(logs.gather(1, labels[:, None]).sum())
        right += float((logs.argmax(1) == labels).sum())
    loss, weight = result.terms["tag"]
    assert weight == 9.0
    assert float(loss) == pytest.approx(total, abs=1e-9)
    assert (float(result.metrics["accuracy"][0]), result.metrics["accuracy"][1]) == (right, 9.0)


def check_alone_equals_packed(tagger: Any) -> None:
    """Scores of texts in one batch, some of them in the same row, equal those of each alone."""
    model = model_for(tagger)
    records = [record(*"abc"), record("Dora", "e"), record("f"), record(*"ghijklm"), record("No")]
    batch = batch_of(tagger, *records)
    assert len(batch.inputs["tokens_BT"]) < len(records), "some share a row"
    together = tagger.scores(model, batch)
    alone = torch.cat([tagger.scores(model, batch_of(tagger, text)) for text in records])
    assert (together - alone).abs().max() < 1e-5


def test_scores_alone_and_packed() -> None:
    check_alone_equals_packed(made())


def test_control_texts_that_see_each_other_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module.packed

    def unmarked(*arguments: Any) -> Any:
        found = plain(*arguments)
        return {name: tensor for name, tensor in found.items() if "segments" not in name}

    monkeypatch.setattr(module, "packed", unmarked)
    with pytest.raises(AssertionError):
        check_alone_equals_packed(made())


def test_only_the_first_tokens_of_words_have_a_gradient() -> None:
    tagger = made()
    model = model_for(tagger)
    kept: list[torch.Tensor] = []
    plain = model.hidden

    def hidden(*arguments: Any, **inputs: Any) -> Any:
        output = plain(*arguments, **inputs)
        output.hidden_BTD.retain_grad()
        kept.append(output.hidden_BTD)
        return output

    model.hidden = hidden
    (total, _) = tagger.loss(model, batch_of(tagger, record("he", "saw", "Ann"))).terms["tag"]
    total.backward()
    reached = kept[0].grad.abs().sum(-1)[0].nonzero().flatten().tolist()
    assert reached == [1, 4, 8]


def test_a_batch_of_windows_without_words_of_their_own_is_nothing() -> None:
    tagger = made()
    result = tagger.loss(model_for(tagger), batch_of(tagger, Tagged("a b", (), (), "x:1")))
    total, weight = result.terms["tag"]
    assert (float(total.detach()), weight) == (0.0, 0.0)
    total.backward()
