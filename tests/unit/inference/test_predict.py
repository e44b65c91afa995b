"""Predictions from scores that are known: entities, answers over windows, gaps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from objectives import objective
from torch import nn

from trifecta.data.tasks.unlabelled import Unlabelled
from trifecta.errors import DataError, RecipeError
from trifecta.inference import gaps as gaps_module
from trifecta.inference import predict as module
from trifecta.inference import spans
from trifecta.inference.gaps import fill_gaps
from trifecta.inference.judged import Options
from trifecta.inference.predict import PREDICTORS, predict
from trifecta.models import Bert

pytestmark = pytest.mark.fast
LABELS = ("O", "B-P", "I-P", "B-Q", "I-Q")


class Oracle(nn.Module):
    """A model whose objective's scores are given by the test; it only has a device."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))


# ---------------------------------------------------------------------------------------------------------------- tags


def tagger_that_says(meant: dict[str, str], sequence_length: int = 32) -> Any:
    """Scores 3 for the tag that a byte at a word's start has in `meant`, 0 for the others."""
    tagger = objective("tag", sequence_length, labels=LABELS)

    def scores(_: Any, batch: Any) -> torch.Tensor:
        words = batch.targets["words_BT"].flatten()
        letters = batch.inputs["tokens_BT"].flatten()[words >= 0].tolist()
        made = torch.zeros(len(letters), len(LABELS))
        for number, letter in zip(words[words >= 0].tolist(), letters, strict=True):
            made[number, LABELS.index(meant.get(chr(letter), "O"))] = 3.0
        return made

    tagger.scores = scores
    return tagger


def test_entities_have_the_offsets_of_their_words() -> None:
    tagger = tagger_that_says({"A": "B-P", "b": "I-P", "C": "B-Q", "I": "I-Q"})
    texts = [Unlabelled("so Ann  bee, A."), Unlabelled("x"), Unlabelled("C C I! bb")]
    found = predict(Oracle(), "tag", tagger, texts, Options(batch_size=2))
    share = float(torch.tensor([3.0, 0, 0, 0, 0]).softmax(0)[0])
    got = [[(e["start"], e["end"], e["label"], e["text"]) for e in result["entities"]] for result in found]
    assert got == [
        [(3, 11, "P", "Ann  bee"), (13, 14, "P", "A")],
        [],
        [(0, 1, "Q", "C"), (2, 5, "Q", "C I"), (7, 9, "P", "bb")],
    ]
    assert all(e["score"] == pytest.approx(share) for result in found for e in result["entities"])
    assert found[2]["tags"] == ["B-Q", "B-Q", "I-Q", "O", "B-P"], "an inside without a beginning begins"


def check_long_text() -> None:
    tagger = tagger_that_says({"A": "B-P", "b": "I-P"})
    text = " ".join(["xx A bb y"] * 20)
    (found,) = predict(Oracle(), "tag", tagger, [Unlabelled(text)], Options(batch_size=3))
    assert [(e["start"], e["text"]) for e in found["entities"]] == [(10 * n + 3, "A bb") for n in range(20)]


def test_long_texts_lose_no_entity() -> None:
    check_long_text()


def test_control_windows_in_another_order_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module.batches
    monkeypatch.setattr(module, "batches", lambda *a: ((numbers[::-1], batch) for numbers, batch in plain(*a)))
    with pytest.raises(AssertionError):
        check_long_text()


def test_words_in_one_token_go_on_with_the_first() -> None:
    record = module._untagged(Unlabelled("a b c"))
    found = module._tagged(record, {0: ("B-P", 0.5), 2: ("O", 0.9)})
    assert found["tags"] == ["B-P", "I-P", "O"]
    assert found["entities"] == [{"start": 0, "end": 3, "label": "P", "text": "a b", "score": 0.5}]
    assert module._tagged(record, {1: ("I-Q", 1.0)})["tags"] == ["O", "B-Q", "I-Q"]


# ------------------------------------------------------------------------------------------------------------- answers


def test_best_span_is_that_of_trying_all() -> None:
    generator = torch.Generator().manual_seed(0)
    for length in range(1, 12):
        for longest in (1, 3, 30):
            scores = torch.randn(length, 2, generator=generator)
            tried = {
                (i, j): float(scores[i, 0] + scores[j, 1])
                for i in range(length) for j in range(i, min(i + longest, length))
            }  # fmt: skip
            assert spans.best_span(scores, longest) == max(tried, key=lambda pair: tried[pair])


def asker_that_says(high: dict[str, tuple[float, float]], null: float, **fields: Any) -> Any:
    """A token has the start and the end that `high` says of its letter; `[CLS]` scores `null` as either."""
    asker = objective("answer", 22, stride=64, **fields)

    def scores(_: Any, batch: Any) -> torch.Tensor:
        members, letters = batch.targets["members_BT"].flatten(), batch.inputs["tokens_BT"].flatten()
        rows = []
        for number in range(batch.samples):
            inside = letters[members == number].tolist()
            rows.append([(null, null)] + [high.get(chr(i), (-9.0, -9.0)) for i in inside[1:]])
        longest = max(map(len, rows))
        return torch.tensor([row + [(-torch.inf, -torch.inf)] * (longest - len(row)) for row in rows])

    asker.scores = scores
    return asker


CONTEXT = "abcdefghijklmnopqrstu yz"


def ask(asker: Any, context: str = CONTEXT) -> Any:
    return predict(Oracle(), "answer", asker, [Unlabelled("who?", context)], Options(batch_size=2))[0]


def test_the_best_answer_of_all_windows() -> None:
    found = ask(asker_that_says({"c": (4.0, 4.0), "t": (5.0, -9.0), "u": (-9.0, 5.0)}, null=0.0))
    assert (found["answer"], found["start"], found["end"]) == ("tu", 19, 21)
    assert 0.9 < found["score"] < 1
    backwards = ask(asker_that_says({"u": (5.0, -9.0), "t": (-9.0, 5.0), "c": (1.0, 1.0)}, null=0.0))
    assert backwards["answer"] == "c", "an end before its start is none"
    spaced = ask(asker_that_says({" ": (5.0, -9.0), "y": (-9.0, 5.0)}, null=0.0))
    assert (spaced["answer"], spaced["start"], spaced["end"]) == ("y", 22, 23)
    assert ask(asker_that_says({" ": (5.0, 5.0)}, null=0.0))["start"] is None, "a space is no answer"


def test_no_answer_and_its_threshold() -> None:
    nothing = {"answer": "", "start": None, "end": None}
    found = ask(asker_that_says({"t": (5.0, 5.0)}, null=6.0))
    assert {name: found[name] for name in nothing} == nothing
    assert ask(asker_that_says({"t": (5.0, 5.0)}, null=6.0, no_answer_threshold=2.1))["answer"] == "t", (
        "2 * (6 - 5) < 2.1"
    )
    assert ask(asker_that_says({"t": (5.0, 5.0)}, null=6.0, no_answer=False))["answer"] == "t"
    assert ask(asker_that_says({"t": (5.0, 5.0)}, null=4.0, no_answer_threshold=-2.1))["answer"] == ""


def test_answers_are_no_longer_than_allowed() -> None:
    high = {"c": (9.0, 2.0), "h": (2.0, 9.0)}
    scores = asker_that_says(high, null=0.0, max_answer_tokens=3)
    assert ask(scores)["answer"] == "c"


def test_a_question_needs_a_context() -> None:
    with pytest.raises(DataError, match=r"q\.txt:3: a question without a context"):
        predict(Oracle(), "answer", objective("answer"), [Unlabelled("who?", place="q.txt:3")], Options())


# ---------------------------------------------------------------------------------------------------------------- gaps


def filler() -> tuple[Any, Any]:
    made = objective("masked", 32)
    torch.manual_seed(0)
    model = Bert(made.vocabulary.size, d_model=16, num_heads=2, num_layers=1, d_ff=32, dropout=0.0, init_std=0.3)
    return model.eval(), made


def check_gaps() -> None:
    model, made = filler()
    texts = ["a[MASK]c", "[MASK]", "one [MASK] or [MASK] more", "xx[MASK]"]
    found = fill_gaps(model, made, [Unlabelled(text) for text in texts], Options(top_k=3, batch_size=3))
    ids = made.vocabulary
    for text, result in zip(texts, found, strict=True):
        inner = [token for part in text.split("[MASK]") for token in (ids["[MASK]"], *part.encode())][1:]
        tokens = torch.tensor([[ids["[CLS]"], *inner, ids["[SEP]"]]])
        with torch.inference_mode():
            shares = model(tokens)[0].softmax(-1)
        places = (tokens[0] == ids["[MASK]"]).nonzero().flatten().tolist()
        assert len(result["gaps"]) == len(places)
        for number, (place, candidates) in enumerate(zip(places, result["gaps"], strict=True)):
            ordinary = shares[place][torch.from_numpy(~ids.is_special)]
            assert [c["probability"] for c in candidates] == pytest.approx(ordinary.topk(3).values.tolist(), abs=1e-5)
            parts = text.split("[MASK]")
            head, tail = "[MASK]".join(parts[: number + 1]), "[MASK]".join(parts[number + 1 :])
            for candidate in candidates:
                assert candidate["text"].startswith(head)
                assert candidate["text"].endswith(tail)


def test_gaps_alone_and_in_a_batch() -> None:
    check_gaps()


def test_control_gaps_in_another_order_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = gaps_module.places_of
    monkeypatch.setattr(gaps_module, "places_of", lambda *given: plain(*given).flip(0))
    with pytest.raises(AssertionError):
        check_gaps()


def test_spaces_before_gaps() -> None:
    """Tokens that bring their own space get none before them; the text keeps the others'."""
    table = [b"a", b" be", b" "]
    tokenizer = SimpleNamespace(token_bytes=table, decode=lambda ids: b"".join(table[i] for i in ids).decode())
    vocabulary: Any = SimpleNamespace(tokenizer=tokenizer, decode=tokenizer.decode, token_text=str)
    rows = gaps_module._Rows(vocabulary, 9)
    pieces = rows.pieces("a [MASK] a [MASK]")
    assert pieces == ["a", " a", ""]
    made = [
        gaps_module._candidate(vocabulary, pieces, "a [MASK] a [MASK]", (gap, token, 0.5))["text"]
        for gap, token in ((0, 1), (1, 1), (0, 0))
    ]
    assert made == ["a be a [MASK]", "a [MASK] a be", "aa a [MASK]"]
    tokenizer.token_bytes = [b"a", b" "]
    assert rows.pieces("a [MASK]") == ["a ", ""]


def test_texts_without_gaps_and_too_long_ones() -> None:
    model, made = filler()
    with pytest.raises(DataError, match=r"a.txt:2: no gap in this text: 'hello'") as caught:
        fill_gaps(model, made, [Unlabelled("hello", place="a.txt:2")], Options())
    assert caught.value.exit_code == 3
    with pytest.raises(DataError, match="31 tokens, but the model was trained on at most 30"):
        fill_gaps(model, made, [Unlabelled("[MASK]" + "x" * 30)], Options())


# ------------------------------------------------------------------------------------------------------------- classes


def test_classes_in_the_order_given() -> None:
    for kind, labels, wanted in (
        ("single", ["even", "odd"], [{"label": "odd"}, {"label": "even"}, {"label": "odd"}]),
        ("multi", ["even", "odd"], [{"labels": ["odd"]}, {"labels": []}, {"labels": ["odd"]}]),
        ("regression", [], [{"value": 14.0}, {"value": 12.0}, {"value": 16.0}]),
    ):  # fmt: skip
        made = objective("classify", 32, kind=kind, labels=labels, label_mean=10.0, label_scale=2.0)

        def scores(_: Any, batch: Any, kind: str = kind) -> torch.Tensor:
            members = batch.targets["members_BT"].flatten()
            sizes = np.array([int((members == n).sum()) - 2 for n in range(batch.samples)])
            if kind == "regression":
                return torch.tensor(sizes, dtype=torch.float)[:, None]
            odd = torch.tensor(sizes % 2 * 2.0 - 1)
            return torch.stack((torch.full_like(odd, -0.5), odd), 1)

        made.scores = scores
        texts = ["ab", "a", "abc"] if kind == "regression" else ["a", "ab", "abc"]
        found = predict(Oracle(), "classify", made, [Unlabelled(text) for text in texts], Options(batch_size=2))
        assert [{name: f[name] for name in w} for f, w in zip(found, wanted, strict=True)] == wanted
        if kind != "regression":
            assert all(set(f["probabilities"]) == set(labels) for f in found)


def test_what_was_cut_is_said() -> None:
    made = objective("classify", 8, kind="regression")
    made.scores = lambda _, batch: torch.zeros(batch.samples, 1)
    found = predict(Oracle(), "classify", made, [Unlabelled("x" * 9), Unlabelled("x")], Options())
    assert found == [{"value": 0.0, "cut": 3}, {"value": 0.0}]


def test_unknown_kinds() -> None:
    assert {"classify", "tag", "answer", "masked"} <= set(PREDICTORS)
    with pytest.raises(RecipeError, match="unknown kind of prediction 'causal'"):
        predict(Oracle(), "causal", None, [], Options())
