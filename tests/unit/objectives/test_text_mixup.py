"""Mixtures of two texts: the loss is that of both in their shares, and plain where the share is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from objectives import objective

from trifecta.data.tasks import Labelled
from trifecta.models import MODELS
from trifecta.objectives.loss import Penalties
from trifecta.randomness import numpy_generator
from trifecta.types import Batch, Example

pytestmark = pytest.mark.fast

LABELS: dict[str, list[Any]] = {
    "single": ["a", "b", "c", "a", "b", "a"],
    "multi": [("a",), (), ("a", "c"), ("b",), ("c",), ("a", "b")],
    "regression": [0.5, -1.0, 3.0, 2.0, 0.0, 1.0],
}


def classifier(kind: str, **fields: Any) -> Any:
    counts = {"label_counts": [3, 2, 1], "class_weights": "auto"} if kind == "single" else {}
    labels = {} if kind == "regression" else {"labels": ["a", "b", "c"]}
    return objective("classify", kind=kind, head_dropout=0.0, mixup_alpha=0.5, **labels, **counts, **fields)


def examples_of(made: Any, kind: str) -> list[Example]:
    return [made.prepare(Labelled(f"text {n} " * (n + 1), None, label, "p")) for n, label in enumerate(LABELS[kind])]


def model_of(made: Any) -> Any:
    torch.manual_seed(0)
    body = MODELS["bert"](made.vocabulary.size, d_model=16, num_heads=2, num_layers=1, d_ff=32, dropout=0.0,
                          max_sequence_length=64)  # fmt: skip
    model = made.headed(body).double()
    torch.nn.init.normal_(model.head.weight)
    return model.eval()


def with_share(examples: list[Example], share: float, partners: list[int]) -> list[Example]:
    return [
        Example({**e.arrays, "partner": np.array(p), "share": np.array(share)})
        for e, p in zip(examples, partners, strict=True)
    ]


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("kind", LABELS)
def test_a_share_of_one_is_the_plain_loss(kind: str, pooling: str) -> None:
    made = classifier(kind, pooling=pooling)
    examples, model = examples_of(made, kind), model_of(made)
    plain = made.loss(model, made.collate(examples), Penalties(0.1, 0.0))
    mixed = made.loss(model, made.collate(with_share(examples, 1.0, [3, 4, 5, 0, 1, 2])), Penalties(0.1, 0.0))
    torch.testing.assert_close(mixed.terms["label"][0], plain.terms["label"][0])
    assert mixed.terms["label"][1] == pytest.approx(plain.terms["label"][1])
    assert {n: (float(a), b) for n, (a, b) in mixed.metrics.items()} == {
        n: (float(a), b) for n, (a, b) in plain.metrics.items()
    }


@pytest.mark.parametrize("kind", LABELS)
def test_the_loss_is_that_of_both_labels_on_the_mixed_state(kind: str) -> None:
    made = classifier(kind)
    examples, model = examples_of(made, kind), model_of(made)
    share, partners = 0.25, [2, 0, 1, 5, 3, 4]
    states_ND = made._judged(model, made.collate(examples))
    scores_NC = model.head(share * states_ND + (1 - share) * states_ND[partners])
    labels = made.collate(examples).targets["labels_NC"]
    if kind == "single":
        weights = made.class_weights.double()
        one, other = (
            F.cross_entropy(scores_NC, truth, weights, reduction="sum") for truth in (labels[:, 0], labels[partners, 0])
        )
        expected = share * one + (1 - share) * other
    elif kind == "multi":
        expected = (
            F.binary_cross_entropy_with_logits(
                scores_NC, share * labels + (1 - share) * labels[partners], reduction="sum"
            )
            / 3
        )
    else:
        expected = ((scores_NC - share * labels - (1 - share) * labels[partners]) ** 2).sum()
    mixed = made.loss(model, made.collate(with_share(examples, share, partners)))
    torch.testing.assert_close(mixed.terms["label"][0], expected.double(), rtol=1e-6, atol=1e-6)


def test_control_labels_that_are_not_mixed_are_noticed() -> None:
    made = classifier("single")
    examples, model = examples_of(made, "single"), model_of(made)
    batch = made.collate(with_share(examples, 0.25, [2, 0, 1, 5, 3, 4]))
    right = made.loss(model, batch).terms["label"][0]
    batch.targets["labels_NC"][:] = batch.targets["labels_NC"][[0] * 6]
    assert abs((made.loss(model, batch).terms["label"][0] - right).item()) > 1e-3


def test_pairs_within_micro_batches_add_up_to_the_big_batch() -> None:
    made = classifier("single")
    examples, model = examples_of(made, "single"), model_of(made)
    whole = made.loss(model, made.collate(with_share(examples, 0.3, [1, 2, 0, 4, 5, 3]))).terms["label"]
    parts = [
        made.loss(model, made.collate(with_share(examples[a : a + 3], 0.3, [1, 2, 0]))).terms["label"] for a in (0, 3)
    ]
    torch.testing.assert_close(sum(total for total, _ in parts), whole[0])
    assert sum(weight for _, weight in parts) == pytest.approx(whole[1])


def test_shares_are_of_beta_and_partners_of_a_permutation() -> None:
    made = classifier("single")
    examples = examples_of(made, "single")
    drawn = [made.mix(examples, numpy_generator(1, "mix", 0, number)) for number in range(400)]
    shares = [float(mixed[0].arrays["share"]) for mixed in drawn]
    assert abs(np.mean(shares) - 0.5) < 0.06
    assert abs(np.var(shares) - 0.125) < 0.02  # of Beta(a, a): 1 / (4 (2a + 1))
    for mixed in drawn:
        assert sorted(int(e.arrays["partner"]) for e in mixed) == list(range(6))
    again = made.mix(examples, numpy_generator(1, "mix", 0, 7))
    assert [e.arrays["partner"] for e in again] == [e.arrays["partner"] for e in drawn[7]]


def test_without_mixup_a_batch_is_as_it_was() -> None:
    made = objective("classify", kind="single", labels=["a", "b", "c"])
    batch: Batch = made.collate(examples_of(made, "single"))
    assert not made.mixes
    assert set(batch.targets) == {"members_BT", "labels_NC"}
