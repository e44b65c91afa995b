"""Documents that share a row, and padding, don't change what is computed: GPT, BERT and T5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from objectives import objective
from torch import Tensor

from trifecta.models import MODELS
from trifecta.models import stack as stack_module
from trifecta.models import t5 as t5_module
from trifecta.types import IGNORE, Example

pytestmark = pytest.mark.fast
LENGTHS = (9, 3, 14, 1, 6, 11)
SIZES: Mapping[str, Any] = {"d_model": 32, "num_heads": 4, "num_layers": 2, "d_ff": 64, "dropout": 0.0}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("gpt", {"position": "rope", "init_std": 0.1}), ("gpt", {"position": "alibi", "init_std": 0.1}),
    ("gpt", {"position": "learned", "max_sequence_length": 32, "init_std": 0.1}),
    ("gpt", {"position": "sinusoidal", "attention": "explicit", "init_std": 0.1}),
    ("bert", {"position": "rope", "init_std": 0.1}), ("bert", {"position": "sinusoidal", "init_std": 0.1}),
    ("bert", {"position": "learned", "max_sequence_length": 32, "attention": "explicit", "init_std": 0.1}),
    ("t5", {}), ("t5", {"attention": "explicit"}),
]  # fmt: skip
OBJECTIVE = {"gpt": "causal", "bert": "masked", "t5": "span"}


def model_of(kind: str, fields: Mapping[str, Any]) -> Any:
    torch.manual_seed(0)
    return MODELS[kind](objective(OBJECTIVE[kind]).vocabulary.size, **SIZES, **fields)


def examples(kind: str, changed: int | None = None) -> list[Example]:
    """Ragged documents; one of them has another content if asked for."""
    made, rng, out = objective(OBJECTIVE[kind], documents=True), np.random.default_rng(0), []
    for number, length in enumerate(LENGTHS):
        tokens = rng.integers(0, 256, length + 1)
        tokens = (tokens + 7) % 256 if number == changed else tokens
        out.append(made.corrupt(made.prepare(tokens), np.random.default_rng(number)))
    return out


def batch_of(kind: str, given: Sequence[Example]) -> dict[str, Tensor]:
    """Inputs and targets of one batch, in which documents share rows, and padding follows them."""
    made = objective(OBJECTIVE[kind], 24, documents=True)
    batch = made.collate(given)
    return {**batch.inputs, **batch.targets}


def inputs_of(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in batch.items() if not name.startswith("targets")}


def by_document(kind: str, model: Any, batch: Mapping[str, Tensor], given: Sequence[Example]) -> list[Tensor]:
    """Each document's hidden states, in the order of the documents, found by their targets."""
    hidden = model.hidden(**inputs_of(batch)).hidden_BTD
    side = "BU" if kind == "t5" else "BT"
    segments = batch["decoder_segments_BU" if kind == "t5" else "segments_BT"]
    found: dict[tuple[Any, ...], Tensor] = {}
    for row, numbers in enumerate(segments):
        for number in range(1, int(numbers.max()) + 1):
            here = numbers == number
            found[tuple(batch[f"targets_{side}"][row][here].tolist()), int(here.sum())] = hidden[row][here]
    keys = [(tuple(example.arrays["targets"].tolist()), len(example.arrays["targets"])) for example in given]
    assert sorted(keys) == sorted(found), "each document is told from the others by its targets"
    return [found[key] for key in keys]


def alone(kind: str, model: Any, example: Example) -> Tensor:
    arrays = {name: torch.from_numpy(array)[None] for name, array in example.arrays.items()}
    if kind == "t5":
        return model.hidden(arrays["tokens"], arrays["decoder_tokens"]).hidden_BTD[0]
    return model.hidden(arrays["tokens"]).hidden_BTD[0]


@torch.no_grad()
def packing_errors(kind: str, fields: Mapping[str, Any]) -> tuple[float, float]:
    """Largest difference between a document alone and among others, and what another document's content changes."""
    model, given = model_of(kind, fields), examples(kind)
    together = by_document(kind, model, batch_of(kind, given), given)
    presence = max(float((alone(kind, model, e) - h).abs().max()) for e, h in zip(given, together, strict=True))
    content = 0.0
    for changed in range(len(given)):
        others = examples(kind, changed)
        after = by_document(kind, model, batch_of(kind, others), others)
        assert not torch.equal(together[changed], after[changed])
        pairs = [pair for n, pair in enumerate(zip(together, after, strict=True)) if n != changed]
        content = max(content, *(float((a - b).abs().max()) for a, b in pairs))
    return presence, content


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_numeric_008_a_document_alone_and_among_others(kind: str, fields: dict[str, Any]) -> None:
    """The hidden states of a document alone and in a row with others differ by at most 1e-5, and another content of one
    document changes the others by exactly 0: GPT, BERT and T5, each kind of position."""
    assert int(batch_of(kind, examples(kind))["segments_BT"].max()) >= 2, "documents do share rows"
    presence, content = packing_errors(kind, fields)
    assert presence <= 1e-5
    assert content == 0


@pytest.mark.parametrize("kind", ["gpt", "bert", "t5"])
def test_numeric_008_control_documents_that_see_each_other_are_noticed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the mask between documents both are off."""
    right = stack_module.packed_bias

    def one_document(queries: Tensor, keys: Tensor, like: Tensor, *, causal: bool) -> Tensor:
        return right((queries > 0).long(), (keys > 0).long(), like, causal=causal)

    monkeypatch.setattr(stack_module, "packed_bias", one_document)
    presence, content = packing_errors(kind, {})
    assert presence > 1e-5
    assert content > 0


def test_numeric_008_control_a_decoder_that_reads_all_inputs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A T5 whose documents read each other's inputs is off."""
    right = t5_module.packed_bias
    monkeypatch.setattr(
        t5_module, "packed_bias", lambda q, k, like, causal: right((q > 0).long(), (k > 0).long(), like, causal=causal)
    )
    presence, content = packing_errors("t5", {})
    assert presence > 1e-5
    assert content > 0


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
def test_numeric_008_control_positions_of_the_row_are_noticed(position: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places counted in the row instead of the document are off."""
    from trifecta.nn.embedding import Embedding

    right = Embedding.forward
    monkeypatch.setattr(Embedding, "forward", lambda self, x, start=0, *_: right(self, x, start))
    presence, _ = packing_errors("bert", {"position": position, "max_sequence_length": 32})
    assert presence > 1e-5


# ------------------------------------------------------------------------------------------------------------- padding


def longer(batch: Mapping[str, Tensor], by: int, fillers: Mapping[str, int]) -> dict[str, Tensor]:
    """The batch with more padding at the right of each side."""
    return {
        name: torch.nn.functional.pad(tensor, (0, by), value=fillers.get(name, 0)) for name, tensor in batch.items()
    }


def with_content(batch: Mapping[str, Tensor], content: int) -> dict[str, Tensor]:
    """The batch with other tokens where there is padding."""
    out = dict(batch)
    for tokens, segments in (("tokens_BT", "segments_BT"), ("decoder_tokens_BU", "decoder_segments_BU")):
        if tokens in out:
            out[tokens] = torch.where(out[segments] == 0, content, out[tokens])
    return out


def outcome(kind: str, model: Any, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Hidden states where there are targets, and every gradient of a loss of them."""
    model.zero_grad()
    hidden = model.hidden(**inputs_of(batch)).hidden_BTD
    targets = batch["targets_BU" if kind == "t5" else "targets_BT"]
    kept = targets != IGNORE
    loss = torch.nn.functional.cross_entropy(model.logits(hidden[kept]), targets[kept], reduction="sum")
    loss.backward()
    return hidden[kept].detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def padding_errors(kind: str, fields: Mapping[str, Any]) -> tuple[float, float, float]:
    """Largest change when pads have another content; of hidden states and, relatively, of gradients with more pads."""
    model, base = model_of(kind, fields), batch_of(kind, examples(kind))
    fillers = {"targets_BT": IGNORE, "targets_BU": IGNORE}
    padded = longer(base, 3, fillers)
    first, other, more = (
        outcome(kind, model, batch)
        for batch in (with_content(padded, 0), with_content(padded, 9), longer(base, 8, fillers))
    )
    content = max(float((a - b).abs().max()) for a, b in zip(first, other, strict=True))
    return content, float((first[0] - more[0]).abs().max()), float((first[1] - more[1]).norm() / first[1].norm())


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_numeric_007_padding_of_ragged_rows_changes_nothing(kind: str, fields: dict[str, Any]) -> None:
    """In ragged batches of GPT, BERT and T5 the content of padding changes hidden states and gradients by exactly 0;
    more padding changes hidden states by at most 1e-5, and gradients by a relative 1e-5."""
    content, presence, gradient = padding_errors(kind, fields)
    assert content == 0
    assert presence <= 1e-5
    assert gradient <= 1e-5


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_numeric_007_control_padding_that_is_seen_is_noticed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask that lets every document see the padding is noticed, in the encoder and in what reads it."""
    right = stack_module.packed_bias

    def seen(queries: Tensor, keys: Tensor, like: Tensor, *, causal: bool) -> Tensor:
        return right(queries, keys, like, causal=causal).masked_fill((keys == 0)[:, None, None], 0.0)

    for module in [stack_module] if kind == "bert" else [t5_module]:
        monkeypatch.setattr(module, "packed_bias", seen)
    content, presence, _ = padding_errors(kind, {})
    assert content > 0
    assert presence > 1e-5
