"""Questions: windows of a context, where an answer stands in them, and what is learned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from objectives import objective

from trifecta.data.tasks import Question
from trifecta.models import Bert
from trifecta.objectives import answer as module

pytestmark = pytest.mark.fast


def question(context: str, answer: str = "", asked: str = "who?") -> Question:
    answers = ((answer, context.index(answer)),) if answer else ()
    return Question("1", asked, context, answers, "q.json: data[0]")


def made(sequence_length: int = 64, **fields: Any) -> Any:
    return objective("answer", sequence_length, **fields)


def model_for(asker: Any) -> Any:
    torch.manual_seed(0)
    body = Bert(asker.vocabulary.size, d_model=16, num_heads=2, num_layers=2, d_ff=32, dropout=0.0)
    model = asker.headed(body)
    torch.nn.init.normal_(model.head.weight, std=1.0)
    return model.double().eval()


def batch_of(asker: Any, *questions: Question) -> Any:
    return asker.collate([asker.prepare(window) for window in asker.expand(questions)])


def test_an_example_by_hand() -> None:
    asker = made()
    (window,) = asker.expand([question("It was Ann.", "Ann")])
    arrays, ids = asker.prepare(window).arrays, asker.vocabulary
    assert arrays["tokens"].tolist() == [ids["[CLS]"], *b"who?", ids["[SEP]"], *b"It was Ann.", ids["[SEP]"]]
    assert arrays["types"].tolist() == [0] * 6 + [1] * 12
    assert arrays["choice"].tolist() == [1] + [0] * 5 + [1] * 11 + [0]
    assert arrays["answer"].tolist() == [8, 10], "the first choice is [CLS], so character 7 is the eighth"
    (empty,) = asker.expand([question("It was Ann.")])
    assert asker.prepare(empty).arrays["answer"].tolist() == [0, 0]


def check_windows(asker: Any) -> None:
    """Of 26 letters in rows that hold 15 of them, each window has the answer only where it is whole."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    for start in range(26):
        for stop in range(start + 1, min(start + 5, 27)):
            asked = question(letters, letters[start:stop])
            windows = asker.expand([asked])
            assert [chr(w.tokens[0]) for w in windows] == ["a", "h", "o"]
            assert [len(w.tokens) for w in windows] == [15, 15, 12]
            found = 0
            for window in windows:
                first, last = (int(window.ranges[0, 0]), int(window.ranges[-1, 1]))
                whole = first <= start and stop <= last
                assert (window.answer is not None) == whole
                if window.answer is not None:
                    a, b = window.answer
                    assert "".join(map(chr, window.tokens[a : b + 1])) == letters[start:stop]
                    found += 1
            assert found, "an answer of up to 8 tokens is whole in one window at least"


def test_windows_of_a_long_context() -> None:
    check_windows(made(22, stride=64))


def test_control_an_answer_that_a_window_cuts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module._tokens_of

    def one_less(*arguments: Any) -> Any:
        found = plain(*arguments)
        return found and (found[0], max(found[0], found[1] - 1))

    monkeypatch.setattr(module, "_tokens_of", one_less)
    with pytest.raises(AssertionError):
        check_windows(made(22, stride=64))


def test_stride_and_long_questions() -> None:
    asker = made(22, stride=4)
    assert [int(w.ranges[0, 0]) for w in asker.expand([question("x" * 26)])] == [0, 4, 8, 12]
    windows = made(32).expand([question("y" * 60, asked="w" * 11)])
    assert [len(w.asked) for w in windows] == [8] * 5
    assert [w.cut for w in windows] == [3, 0, 0, 0, 0], "counted once"
    assert made(32).prepare(windows[0]).cut == 3


@torch.no_grad()
def test_loss_against_its_definition() -> None:
    asker = made()
    model = model_for(asker)
    questions = [question("It was Ann.", "Ann"), question("Bob."), question("So it is Eve, not me.", "Eve")]
    result = asker.loss(model, batch_of(asker, *questions))
    totals, right = [0.0, 0.0], 0
    for one in questions:
        (window,) = asker.expand([one])
        arrays = asker.prepare(window).arrays
        hidden = model.hidden(torch.from_numpy(arrays["tokens"])[None]).hidden_BTD[0]
        scores = model.scores(hidden[torch.from_numpy(arrays["choice"] == 1)])
        truth = torch.from_numpy(arrays["answer"])
        for side in (0, 1):
            totals[side] += float(F.cross_entropy(scores[None, :, side], truth[None, side]))
        right += int((scores.argmax(0) == truth).all())
    for side, name in enumerate(("start", "end")):
        total, weight = result.terms[name]
        assert weight == 3.0
        assert float(total) == pytest.approx(totals[side], abs=1e-9)
    assert float(result.metrics["accuracy"][0]) == right


def check_alone_equals_packed(asker: Any) -> None:
    model = model_for(asker)
    questions = [question("Ann."), question("It was Bob.", "Bob"), question("x"), question("a longer one " * 9)]
    batch = batch_of(asker, *questions)
    assert len(batch.inputs["tokens_BT"]) < batch.samples, "some share a row"
    together = asker.scores(model, batch)
    windows = asker.expand(questions)
    assert len(together) == len(windows) > len(questions)
    for row, window in zip(together, windows, strict=True):
        alone = asker.scores(model, asker.collate([asker.prepare(window)]))[0]
        assert (row[: len(alone)] - alone).abs().max() < 1e-5
        assert len(alone) == len(window.tokens) + 1
        assert torch.isinf(row[len(alone) :]).all()


def test_scores_alone_and_packed() -> None:
    check_alone_equals_packed(made())


def test_control_questions_that_see_each_other_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module.packed
    monkeypatch.setattr(
        module, "packed", lambda *given: {name: t for name, t in plain(*given).items() if "segments" not in name}
    )
    with pytest.raises(AssertionError):
        check_alone_equals_packed(made())


def test_only_choices_have_a_gradient() -> None:
    asker = made()
    model = model_for(asker)
    kept: list[torch.Tensor] = []
    plain = model.hidden

    def hidden(*arguments: Any, **inputs: Any) -> Any:
        output = plain(*arguments, **inputs)
        output.hidden_BTD.retain_grad()
        kept.append(output.hidden_BTD)
        return output

    model.hidden = hidden
    batch = batch_of(asker, question("It was Ann.", "Ann"), question("Bob"))
    terms = asker.loss(model, batch).terms
    (terms["start"][0] + terms["end"][0]).backward()
    gradient = kept[0].grad
    assert torch.isfinite(gradient).all()
    assert ((gradient.abs().sum(-1) > 0) == (batch.targets["members_BT"] >= 0)).all()
