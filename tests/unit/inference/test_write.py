"""Texts for sources and for gaps: in the order given, whatever the batch, and only where the user marked a gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from objectives import BYTES, objective
from torch import Tensor

from trifecta.data.tasks.unlabelled import Unlabelled
from trifecta.errors import DataError, RecipeError
from trifecta.inference import write as module
from trifecta.inference.judged import Options
from trifecta.inference.write import Writing, fill_spans, write, write_targets
from trifecta.models import T5

pytestmark = pytest.mark.fast

TEXTS = ["b", "a longer text", "mid size", "", "a longer text", "quick brown fox"]


def model_of(made: Any) -> T5:
    torch.manual_seed(3)
    model = T5(made.vocabulary.size, d_model=16, num_heads=2, num_layers=1, d_ff=24, tie_embeddings=False).eval()
    assert model.head is not None
    torch.nn.init.normal_(model.head.weight)
    return model


def texts(*given: str) -> list[Unlabelled]:
    return [Unlabelled(text, place=f"in.txt:{number}") for number, text in enumerate(given, 1)]


# ------------------------------------------------------------------------------------------------------------- sources


def check_order(made: Any, model: T5) -> None:
    alone = [write(model, made, [text], Writing(max_tokens=6))[0] for text in TEXTS]
    assert len(set(alone)) > 2, "texts that differ"
    for size in (1, 2, 6):
        assert write(model, made, TEXTS, Writing(max_tokens=6), batch_size=size) == alone


def test_numeric_008_each_text_is_written_as_if_alone_and_in_its_place() -> None:
    """Texts of unlike length get in batches of 1, 2 and 6 what each gets alone, in the order given."""
    made = objective("seq2seq", prefix="p: ")
    check_order(made, model_of(made))


@pytest.mark.parametrize("bug", ["padding is read", "order of lengths"])
def test_numeric_008_control_padding_and_order(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that reads padding, or results in the order of lengths, are noticed."""
    made = objective("seq2seq", prefix="p: ")
    padded, written = module._padded, module._write

    def read(*arguments: Any) -> dict[str, Tensor]:
        return {"tokens_BT": padded(*arguments)["tokens_BT"]}

    def by_length(model: Any, made: Any, rows: Any, *arguments: Any) -> list[list[int]]:
        return written(model, made, sorted(rows, key=len), *arguments)

    name, planted = {"padding is read": ("_padded", read), "order of lengths": ("_write", by_length)}[bug]
    monkeypatch.setattr(module, name, planted)
    with pytest.raises(AssertionError):
        check_order(made, model_of(made))


class Recorded:
    """Stands for write_sequences: writes the same ids for each row and remembers what it was given."""

    def __init__(self, ids: Sequence[int]):
        self.ids, self.options, self.inputs = list(ids), {}, {}  # type: ignore[var-annotated]

    def __call__(self, _: Any, inputs: Mapping[str, Tensor], **options: Any) -> list[list[int]]:
        self.options, self.inputs = options, dict(inputs)
        return [self.ids for _ in inputs["tokens_BT"]]


def recorded(monkeypatch: pytest.MonkeyPatch, ids: Sequence[int]) -> Recorded:
    found = Recorded(ids)
    monkeypatch.setattr(module, "write_sequences", found)
    return found


def test_reads_prefix_and_end_and_starts_as_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    made = objective("seq2seq", 8, prefix="p:", max_target_length=9)
    found = recorded(monkeypatch, list(b" hm "))
    results = write_targets(model_of(made), made, texts("ab", "much too long"), Options(batch_size=1))
    assert results == [{"target": "hm"}, {"target": "hm", "cut": 8}]
    assert found.inputs["tokens_BT"].tolist() == [[*b"p:ab", BYTES.eos_id]]
    assert "segments_BT" not in found.inputs
    assert (found.options["start_id"], found.options["eos_id"]) == (made.start_id, made.eos_id)
    assert found.options["max_tokens"] == 9, "as long as the targets of training"


def test_options_reach_the_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    made = objective("seq2seq")
    found = recorded(monkeypatch, [])
    given = {"num_beams": 3, "max_tokens": 7, "length_penalty": 0.5, "no_repeat_ngram": 2, "seed": 5}
    write_targets(model_of(made), made, texts("a"), Options(writing=given))
    assert {name: found.options[name] for name in given} == given


def test_options_out_of_bounds() -> None:
    made = objective("seq2seq")
    with pytest.raises(RecipeError, match="num_beams is 0"):
        write(model_of(made), made, ["a"], Writing(num_beams=0))


# ---------------------------------------------------------------------------------------------------------------- gaps


def filled(monkeypatch: pytest.MonkeyPatch, text: str, written: str) -> tuple[list[Any], Recorded]:
    """`written`: 0 to 9 are sentinels, everything else bytes."""
    made = objective("span", 64)
    ids = [made.vocabulary[f"<extra_id_{c}>"] if c.isdigit() else ord(c) for c in written]
    found = recorded(monkeypatch, ids)
    return fill_spans(model_of(made), made, texts(text), Options()), found


@pytest.mark.parametrize(
    ("written", "spans"),
    [
        ("0 cat1 mat", [" cat", " mat"]), ("1 mat0 cat", [" cat", " mat"]), ("0 cat", [" cat", ""]), ("", ["", ""]),
        ("lost0x7lost1y", ["x", "y"]),
    ],
)  # fmt: skip
def test_what_stands_after_a_sentinel_is_for_its_gap(
    written: str, spans: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = filled(monkeypatch, "The<extra_id_0> on a<extra_id_1>.", written)
    assert found == [{"spans": spans, "filled": f"The{spans[0]} on a{spans[1]}."}]


def test_fault_055_only_gaps_become_sentinels(monkeypatch: pytest.MonkeyPatch) -> None:
    """`<extra_id_0>` is one token, while `<extra_id_x>`, `<pad>` and `<|endoftext|>` stay letters."""
    _, found = filled(monkeypatch, "<pad><extra_id_0><extra_id_x><|endoftext|>", "")
    ids = found.inputs["tokens_BT"][0].tolist()
    assert ids == [*b"<pad>", 257, *b"<extra_id_x><|endoftext|>"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no gap", "gaps wanted, found none"),
        ("<extra_id_1> first", "found <extra_id_1>"),
        ("<extra_id_0><extra_id_0>", "found <extra_id_0>, <extra_id_0>"),
        ("".join(f"<extra_id_{n}>" for n in range(101)), "101 gaps, but the model was trained on at most 100"),
    ],
)
def test_gaps_that_are_none(text: str, message: str) -> None:
    made = objective("span", 64)
    with pytest.raises(DataError, match=message) as caught:
        fill_spans(model_of(made), made, texts("<extra_id_0>", text), Options())
    assert caught.value.where == "in.txt:2"
