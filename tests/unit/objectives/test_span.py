"""Span corruption: what is taken out, where it is written, and with which sentinels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from objectives import BYTES, objective

from trifecta.errors import RecipeError
from trifecta.models import T5
from trifecta.objectives import OBJECTIVES, Text
from trifecta.objectives import span as span_module
from trifecta.objectives.span import Span, sentinel_name
from trifecta.tokenizers.char import CharTokenizer
from trifecta.types import IGNORE, Example

pytestmark = pytest.mark.fast
Int64 = Any


def corrupted(made: Span, tokens: Int64, rng: np.random.Generator) -> dict[str, Int64]:
    return dict(made.corrupt(made.prepare(tokens), rng).arrays)


def sentinels_of(made: Span) -> list[int]:
    return [made.vocabulary[sentinel_name(n)] for n in range(len(made.vocabulary.ids))]


def rebuilt(made: Span, read: Int64, written: Int64) -> list[int]:
    """The text, put together one token at a time: each sentinel of the input is replaced by what follows it in the
    target, up to the next sentinel or the end."""
    target, known = written.tolist(), set(sentinels_of(made))
    assert target[-1] == made.eos_id
    text: list[int] = []
    for token in read.tolist():
        if token not in known:
            text.append(token)
            continue
        assert target.count(token) == 1
        for follower in target[target.index(token) + 1 : -1]:
            if follower in known:
                break
            text.append(follower)
    return text


# ---------------------------------------------------------------------------------------------------- what is taken out


def check_rebuilt(made: Span, cases: int) -> None:
    """Texts of 0 to 300 tokens, ends of text among them."""
    rng, sentinels = np.random.default_rng(0), sentinels_of(made)
    for case in range(cases):
        tokens = rng.integers(0, 257, case if case < 20 else rng.integers(0, 300))
        arrays = corrupted(made, tokens, rng)
        assert rebuilt(made, arrays["tokens"], arrays["targets"]) == tokens.tolist()
        assert made.restore(arrays["tokens"], arrays["targets"]).tolist() == tokens.tolist()
        for name in ("tokens", "targets"):
            used = arrays[name][np.isin(arrays[name], sentinels)].tolist()
            assert used == sentinels[: len(used)], "from the first sentinel on, in order"


@pytest.mark.parametrize(
    "fields", [{}, {"sentinel_order": "descending"}, {"rate": 0.5, "mean_span_length": 1.5, "sentinels": 150}]
)
def test_numeric_029_input_and_target_give_the_text(fields: dict[str, Any]) -> None:
    """For 1,000 random texts of 0 to 300 tokens, input and target rebuild the text exactly, with the sentinels in
    order."""
    check_rebuilt(objective("span", 300, **fields), 1000)


def test_numeric_029_control_a_token_lost_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A span whose last token is lost, as in S0's example, is noticed."""
    plain = Span.split

    def losing(self: Span, tokens: Int64, stay: Int64, go: Int64) -> tuple[Int64, Int64]:
        read, written = plain(self, tokens, stay, go)
        return read, np.delete(written, -2) if len(written) > 2 else written

    monkeypatch.setattr(Span, "split", losing)
    with pytest.raises(AssertionError):
        check_rebuilt(objective("span", 300), 30)


def test_numeric_029_control_sentinels_in_another_order_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentinels numbered from the last one on are noticed."""
    made = objective("span", 300)
    monkeypatch.setattr(made, "_sentinels", made._sentinels[::-1])
    with pytest.raises(AssertionError, match="in order"):
        check_rebuilt(made, 30)


def check_rates(made: Span, rate: float, mean: float) -> None:
    """In texts of 500 tokens: the share taken out, the mean length of a gap, and that lengths and places differ."""
    rng, lengths, first = np.random.default_rng(0), [], []
    for _ in range(200):
        arrays = corrupted(made, np.zeros(500, np.int64), rng)
        gaps = np.split(arrays["targets"][:-1], np.flatnonzero(arrays["targets"][:-1] > 256))[1:]
        assert sum(len(gap) - 1 for gap in gaps) == round(500 * rate)
        lengths += [len(gap) - 1 for gap in gaps]
        first.append(int(np.flatnonzero(arrays["tokens"] > 256)[0]))
    assert np.mean(lengths) == pytest.approx(mean, rel=0.02)
    assert min(lengths) == 1
    assert max(lengths) > 2 * mean
    assert len(set(first)) > 10


@pytest.mark.parametrize(("rate", "mean"), [(0.15, 3.0), (0.3, 5.0), (0.2, 10.0)])
def test_shares_and_mean_lengths(rate: float, mean: float) -> None:
    check_rates(objective("span", 512, rate=rate, mean_span_length=mean), rate, mean)


def test_shares_control_other_rates_are_noticed() -> None:
    for rate, mean in ((0.16, 3.0), (0.15, 3.3)):
        with pytest.raises(AssertionError):
            check_rates(objective("span", 512, rate=rate, mean_span_length=mean), 0.15, 3.0)


def test_group_017_example_of_the_seed() -> None:
    words = ["The", "cat", "sat", "on", "the", "mat"]
    made = objective("span")
    names = dict(enumerate(words)) | {made.eos_id: "<EOS>", made.vocabulary[sentinel_name(0)]: "<X>"}
    read, written = made.split(np.arange(6), [2], [3])
    assert " ".join(names[i] for i in read.tolist()) == "The cat <X> mat"
    assert " ".join(names[i] for i in written.tolist()) == "<X> sat on the <EOS>"
    assert made.restore(read, written).tolist() == list(range(6))


# ------------------------------------------------------------------------------------------------------------ sentinels

CHARACTERS = CharTokenizer("".join(map(chr, range(300, 554))))
"""256 tokens, as S0's tokenizer."""


def span_of(tokenizer: Any = CHARACTERS, sequence_length: int = 128, **fields: Any) -> Span:
    made: Span = OBJECTIVES["span"](Text(tokenizer, sequence_length), **fields)
    return made


def test_seed_s0_356_tokens_with_sentinels_from_256() -> None:
    assert CHARACTERS.vocab_size == 256
    for fields in ({}, {"sentinel_start_id": 256}):
        made = span_of(**fields)
        assert made.vocabulary.size == 356
        assert [made.vocabulary[sentinel_name(n)] for n in (0, 1, 99)] == [256, 257, 355]
    made = span_of(sentinel_start_id=256, sentinel_order="descending")
    assert made.vocabulary.size == 356
    assert [made.vocabulary[sentinel_name(n)] for n in (0, 1, 99)] == [355, 354, 256]
    assert span_of(sentinel_start_id=1000).vocabulary.size == 1100


def test_fault_056_sentinels_that_are_tokens_of_the_text() -> None:
    """Sentinels whose ids belong to tokens of the text are refused as the objective is built (2), with the first such
    token and where to begin."""
    for order, name in (("ascending", "<extra_id_0>"), ("descending", "<extra_id_99>")):
        with pytest.raises(RecipeError) as error:
            span_of(sentinel_start_id=250, sentinel_order=order)
        assert error.value.exit_code == 2
        assert name in error.value.what
        assert "250" in error.value.what
        assert "256" in str(error.value.fix)


def check_enough(needed: int) -> None:
    """One sentinel less is refused; so many are enough for the longest text, which uses each."""
    with pytest.raises(RecipeError, match=rf"up to {needed} gaps, but there are {needed - 1} sentinels") as error:
        span_of(sentinels=needed - 1)
    assert (error.value.exit_code, error.value.where) == (2, "objective.sentinels")
    assert f"at least {needed}" in str(error.value.fix)
    made = span_of(sentinels=needed)
    assert np.isin(
        sentinels_of(made), corrupted(made, np.full(made.window, 7), np.random.default_rng(0))["tokens"]
    ).all()


def test_fault_056_sentinels_that_run_out() -> None:
    """Fewer sentinels than the longest text has gaps are refused as the objective is built (2), with the number that is
    needed; so many are enough, and one less is not."""
    check_enough(7)


def test_fault_056_control_a_check_against_another_size_is_noticed() -> None:
    """A check that takes the tokenizer for smaller than it is lets sentinels be tokens of the text."""
    small = CharTokenizer(CHARACTERS.characters)
    small.vocab_size = 200
    made = span_of(small, sentinel_start_id=250)
    assert made.vocabulary[sentinel_name(0)] in CHARACTERS.encode(CHARACTERS.characters)
    text = CHARACTERS.encode(CHARACTERS.characters[-100:])
    arrays = corrupted(made, text, np.random.default_rng(0))
    with pytest.raises(AssertionError):
        assert rebuilt(made, arrays["tokens"], arrays["targets"]) == text.tolist()


def test_fault_056_control_gaps_counted_for_a_shorter_text_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that counts the gaps of a shorter text accepts too few sentinels."""
    monkeypatch.setattr(Span, "_longest", lambda _, sequence_length: sequence_length // 2)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_enough(7)


# -------------------------------------------------------------------------------------------------------------- batches


def check_shift(made: Span) -> None:
    arrays = corrupted(made, np.arange(60), np.random.default_rng(0))
    assert arrays["decoder_tokens"][0] == made.start_id
    assert arrays["decoder_tokens"][1:].tolist() == arrays["targets"][:-1].tolist()
    assert arrays["targets"][-1] == made.eos_id


def test_numeric_023_the_decoder_reads_what_it_has_written() -> None:
    """The decoder's input is the target one place later, the start token first; the end of text ends the target."""
    check_shift(objective("span"))
    assert objective("span").start_id == BYTES.eos_id, "a tokenizer without padding begins with its end of text"


def test_numeric_023_control_a_decoder_that_reads_its_target_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder whose input is its target is noticed."""
    plain = span_module.arrays_of
    monkeypatch.setattr(
        span_module, "arrays_of", lambda **arrays: plain(**(arrays | {"decoder_tokens": arrays["targets"]}))
    )
    with pytest.raises(AssertionError):
        check_shift(objective("span"))


@pytest.mark.parametrize("fields", [{}, {"rate": 0.5, "mean_span_length": 2.0}, {"mean_span_length": 1.0}])
def test_batches_of_windows_are_full(fields: dict[str, Any]) -> None:
    """The encoder reads exactly sequence_length tokens, and no row is padded."""
    rng = np.random.default_rng(0)
    for sequence_length in (4, 5, 16, 63, 64, 100, 128, 513):
        made = objective("span", sequence_length, sentinels=300, **fields)
        examples = [made.corrupt(made.prepare(rng.integers(0, 256, made.window)), rng) for _ in range(3)]
        batch = made.collate(examples)
        assert batch.inputs["tokens_BT"].shape == (3, sequence_length)
        assert set(batch.inputs) == {"tokens_BT", "decoder_tokens_BU"}, "nothing is packed"
        assert (batch.targets["targets_BU"] != IGNORE).all()
        assert batch.tokens == batch.positions == 3 * (sequence_length + batch.inputs["decoder_tokens_BU"].shape[1])


def test_batches_control_windows_as_long_as_rows_are_not_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Span, "_longest", lambda _, sequence_length: sequence_length)
    with pytest.raises(AssertionError):
        test_batches_of_windows_are_full({})


@pytest.mark.parametrize("lengths", [(0,), (1,), (2,), (0, 1, 2, 40), (2, 2)])
def test_the_shortest_texts_do_no_harm(lengths: tuple[int, ...]) -> None:
    """An empty text, and one of one token, have no gap: the end is all there is to write."""
    made, rng = objective("span"), np.random.default_rng(0)
    examples = [made.corrupt(made.prepare(np.arange(length)), rng) for length in lengths]
    for length, example in zip(lengths, examples, strict=True):
        if length < 2:
            assert example.arrays["tokens"].tolist() == list(range(length))
            assert example.arrays["targets"].tolist() == [made.eos_id]
        if length == 2:
            assert sorted([*example.arrays["tokens"], *example.arrays["targets"]])[:2] == [0, 1]
    torch.manual_seed(0)
    model = T5(made.vocabulary.size, d_model=16, num_heads=2, num_layers=1, d_ff=32, dropout=0.0)
    ((total, count),) = made.loss(model, made.collate(examples)).terms.values()
    total.backward()
    assert count == sum(len(example.arrays["targets"]) for example in examples)
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_loss_and_accuracy_are_of_written_tokens() -> None:
    made, rng = objective("span"), np.random.default_rng(0)
    torch.manual_seed(0)
    model = T5(made.vocabulary.size, d_model=16, num_heads=2, num_layers=1, d_ff=32, dropout=0.0).double()
    examples = [made.corrupt(made.prepare(rng.integers(0, 256, length)), rng) for length in (60, 9, 25)]
    total, right, asked = 0.0, 0, 0
    for example in examples:
        alone = {name: torch.from_numpy(array)[None] for name, array in example.arrays.items()}
        scores = torch.log_softmax(model(alone["tokens"], alone["decoder_tokens"])[0], -1)
        total -= float(scores.gather(1, alone["targets"].T).sum().detach())
        ordinary = torch.from_numpy(~made.vocabulary.is_special)
        told = scores.masked_fill(~ordinary, -math.inf).argmax(-1)  # a gap may end anywhere: that isn't asked
        right += int(((told == alone["targets"][0]) & ordinary[alone["targets"][0]]).sum())
        asked += int(ordinary[alone["targets"][0]].sum())
    result = made.loss(model, made.collate(examples))
    assert result.terms["span"][1] == sum(len(e.arrays["targets"]) for e in examples)
    assert float(result.terms["span"][0].detach()) == pytest.approx(total, rel=1e-9)
    assert [float(part) for part in result.metrics["accuracy"]] == [right, asked]


def test_a_text_of_examples_is_left_as_it_is() -> None:
    made, rng = objective("span"), np.random.default_rng(0)
    given = Example({"tokens": np.arange(50)})
    first, second = made.corrupt(given, rng), made.corrupt(given, rng)
    assert given.arrays["tokens"].tolist() == list(range(50))
    assert first.arrays["tokens"].tolist() != second.arrays["tokens"].tolist()
