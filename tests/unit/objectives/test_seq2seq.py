"""Sources and targets: what is read, what is written, and that packing changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from objectives import BYTES, objective

from trifecta.data.tasks import Pair
from trifecta.models import T5
from trifecta.objectives import LossModule, Text, collate, seq2seq
from trifecta.objectives.seq2seq import Seq2Seq
from trifecta.objectives.span import Span
from trifecta.types import IGNORE, Example

pytestmark = pytest.mark.fast

PAIRS = [("good day", "bonjour"), ("a", "un"), ("the cat sat", "le chat etait assis"), ("yes", "oui")]
SIZES: dict[str, Any] = {"d_model": 16, "num_heads": 2, "num_layers": 2, "d_ff": 24, "dropout": 0.0}


def pairs() -> list[Pair]:
    return [Pair(source, target, f"pairs.tsv:{number}") for number, (source, target) in enumerate(PAIRS, 1)]


def shown(ids: Any) -> str:
    """Bytes as text, the end of text as |."""
    return "".join("|" if i == BYTES.eos_id else chr(i) for i in ids)


# -------------------------------------------------------------------------------------------------------- one example


def check_example(made: Any) -> None:
    example = made.prepare(Pair("good day", "bonjour", "x:1"))
    assert shown(example.arrays["tokens"]) == "translate: good day|"
    assert shown(example.arrays["targets"]) == "bonjour|"
    assert shown(example.arrays["decoder_tokens"]) == "|bonjour", "what was written before each target"
    assert example.cut == 0


def test_numeric_023_the_decoder_has_read_what_stands_before_its_target() -> None:
    """The encoder reads prefix, source, end; the decoder reads start, t_1 .. t_n and writes t_1 .. t_n, end."""
    check_example(objective("seq2seq", prefix="translate: "))


def test_numeric_023_control_targets_that_are_not_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that reads the very token that it is to write is noticed."""
    plain = Seq2Seq.prepare

    def unshifted(self: Seq2Seq, sample: Pair) -> Example:
        arrays = dict(plain(self, sample).arrays)
        return Example(arrays | {"decoder_tokens": arrays["targets"]})

    monkeypatch.setattr(Seq2Seq, "prepare", unshifted)
    with pytest.raises(AssertionError, match="written before"):
        check_example(objective("seq2seq", prefix="translate: "))


class Padded:
    """Bytes with a padding token of their own."""

    def __init__(self, pad_id: int):
        self._pad_id = pad_id

    def special_id(self, *names: str) -> int | None:
        return self._pad_id if "<pad>" in names else None

    def __getattr__(self, name: str) -> Any:
        return getattr(BYTES, name)


@pytest.mark.parametrize("tokenizer", [BYTES, Padded(0)])
def test_the_decoder_begins_as_in_pretraining(tokenizer: Any) -> None:
    text = Text(tokenizer, 64)
    made, pretrained = Seq2Seq(text), Span(text)
    assert made.prepare(pairs()[0]).arrays["decoder_tokens"][0] == pretrained.start_id
    assert (made.start_id, made.pad_id, made.eos_id) == (pretrained.start_id, pretrained.pad_id, pretrained.eos_id)


def test_start_is_the_padding_token_where_there_is_one() -> None:
    assert (Seq2Seq(Text(BYTES, 64)).start_id, Seq2Seq(Text(Padded(7), 64)).start_id) == (BYTES.eos_id, 7)


def test_the_vocabulary_is_that_of_the_pretrained_model() -> None:
    pretrained = Span(Text(BYTES, 64))
    assert Seq2Seq(Text(pretrained.vocabulary.extended(), 64)).vocabulary.size == pretrained.vocabulary.size == 357


def test_fault_055_names_of_sentinels_in_a_pair_are_ordinary_text() -> None:
    """`<extra_id_0>` and `<|endoftext|>` in source or target become bytes, never special tokens."""
    made = Seq2Seq(Text(Span(Text(BYTES, 64)).vocabulary.extended(), 64))
    arrays = made.prepare(Pair("<extra_id_0>", "<|endoftext|>", "x:1")).arrays
    assert arrays["tokens"][:-1].tolist() == list(b"<extra_id_0>")
    assert arrays["targets"][:-1].tolist() == list(b"<|endoftext|>")


# ---------------------------------------------------------------------------------------------------------- too long


@pytest.mark.parametrize(
    ("source", "target", "read", "written", "cut"),
    [
        ("abcdefg", "xyz", "abcdefg|", "xyz|", 0),
        ("abcdefgh", "xyz", "abcdefg|", "xyz|", 1),
        ("abc", "uvwxyz", "abc|", "uvw|", 3),
        ("abcdefghi", "uvwxyz", "abcdefg|", "uvw|", 5),
    ],
)
def test_what_is_too_long_is_cut_before_its_end_and_counted(
    source: str, target: str, read: str, written: str, cut: int
) -> None:
    example = objective("seq2seq", 8, max_target_length=4).prepare(Pair(source, target, "x:1"))
    assert shown(example.arrays["tokens"]) == read
    assert shown(example.arrays["targets"]) == written
    assert example.cut == cut


# ------------------------------------------------------------------------------------------------------------ batches


@torch.no_grad()
def losses(made: Any, model: T5) -> tuple[float, float]:
    """Sum of the losses of all pairs packed together, and of each by itself."""
    module = LossModule(model, made).eval()
    examples = [made.prepare(pair) for pair in pairs()]
    together = module(made.collate(examples))
    alone = [module(made.collate([example])) for example in examples]
    assert together.terms[seq2seq.TERM][1] == sum(result.terms[seq2seq.TERM][1] for result in alone)
    return float(together.terms[seq2seq.TERM][0]), sum(float(result.terms[seq2seq.TERM][0]) for result in alone)


def packed_and_alone(made: Any) -> tuple[float, float]:
    torch.manual_seed(0)
    return losses(made, T5(made.vocabulary.size, **SIZES))


def test_numeric_008_pairs_in_a_row_know_nothing_of_each_other() -> None:
    """Losses of pairs that share rows are those of each pair alone, within 1e-5."""
    made = objective("seq2seq", 64)
    assert made.collate([made.prepare(pair) for pair in pairs()]).inputs["tokens_BT"].shape[0] < len(PAIRS)
    together, alone = packed_and_alone(made)
    assert together == pytest.approx(alone, rel=1e-5)


def test_numeric_008_control_pairs_that_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows whose pairs aren't told apart are noticed."""
    plain = collate.packed

    def joined(*arguments: Any) -> dict[str, torch.Tensor]:
        return {name: t.clamp(max=1) if "segments" in name else t for name, t in plain(*arguments).items()}

    monkeypatch.setattr(collate, "packed", joined)
    together, alone = packed_and_alone(objective("seq2seq", 64))
    assert together != pytest.approx(alone, rel=1e-5)


def test_every_target_counts_once_and_no_padding() -> None:
    made = objective("seq2seq", 64)
    batch = made.collate([made.prepare(pair) for pair in pairs()])
    targets = batch.targets["targets_BU"]
    kept = "".join(shown(row[row != IGNORE].numpy()) for row in targets)
    assert sorted(kept.split("|")) == sorted(["", *(target for _, target in PAIRS)])
    assert batch.weights == {seq2seq.TERM: float(sum(len(target) + 1 for _, target in PAIRS))}
    assert (batch.samples, batch.tokens) == (4, sum(len(s) + len(t) + 2 for s, t in PAIRS))
