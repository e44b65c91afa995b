"""Accumulation over ragged micro-batches gives the gradient of the one big batch, for every objective there is."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from objectives import objective

from trifecta.data.images import LabelledImage
from trifecta.data.tasks.dialogues import Dialogue
from trifecta.data.tasks.labelled import Labelled
from trifecta.data.tasks.pairs import Pair
from trifecta.data.tasks.questions import Question
from trifecta.data.tasks.tagged import Tagged
from trifecta.models import MODELS, Vit, roles
from trifecta.objectives import OBJECTIVES, LossModule, Text
from trifecta.optim import OPTIMIZERS, Trainable
from trifecta.recipe.conflicts import NEEDS
from trifecta.tokenizers.nothing import NoTokenizer
from trifecta.training.step import Update, update
from trifecta.types import Example

pytestmark = pytest.mark.fast

LENGTHS = [9, 3, 12, 2, 7, 5, 1, 8]
SIZES: dict[str, Any] = {"d_model": 32, "num_heads": 4, "num_layers": 2, "d_ff": 64, "dropout": 0.0}
CLASSES = ["a", "b", "c"]


ADAMW = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01}


def gradients(module: LossModule, optimizers: Any, micro: list[Any]) -> tuple[Update, torch.Tensor]:
    """An update, and the gradients that the optimizer gets to see."""
    seen: list[torch.Tensor] = []
    optimizers.step = lambda: seen.append(
        torch.cat([p.grad.flatten() for p in optimizers.parameters if p.grad is not None])
    )
    done = update(
        module, optimizers, micro, number=1, learning_rate=1e-3, transforms=(), seed=1, device=torch.device("cpu"),
        autocast=nullcontext,
    )  # fmt: skip
    return done, seen[0]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def words(count: int) -> list[str]:
    return [f"W{i}" if i % 3 else f"w{i}" for i in range(count)]


def tagged(count: int) -> Tagged:
    text = words(count)
    starts = np.cumsum([0] + [len(word) + 1 for word in text])[:-1]
    places = tuple((int(start), int(start) + len(word)) for start, word in zip(starts, text, strict=True))
    return Tagged(" ".join(text), places, tuple("B-X" if word[0] == "W" else "O" for word in text), "a:1")


def question(count: int) -> Question:
    context = " ".join(words(count))
    return Question("1", "who?", context, (("w0", 0),) if count % 2 else (), "a:1")


def picture(count: int) -> LabelledImage:
    pixels = np.random.default_rng(count).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return LabelledImage(CLASSES[count % 3], str(count), 64, f"x[{count}]", pixels)


def labelled(label: Any, count: int) -> Labelled:
    return Labelled(" ".join(words(count)), None, label, "a:1")


RECORDS: dict[str, Any] = {
    "classify": lambda n: labelled(CLASSES[n % 3], n),
    "classify: multi": lambda n: labelled(tuple(CLASSES[: n % 4]), n),
    "classify: regression": lambda n: labelled(float(n % 5), n),
    "tag": tagged,
    "answer": question,
    "seq2seq": lambda n: Pair(" ".join(words(n)), "x" * (2 * n), "a:1"),
    "prompted": lambda n: Dialogue((("user", "so?"), ("assistant", "x" * (2 * n))), "a:1"),
    "images": picture,
}
NO_DROPOUT = {"head_dropout": 0.0}
FIELDS: dict[str, dict[str, Any]] = {
    "classify": NO_DROPOUT | {"labels": CLASSES, "class_weights": "auto", "label_counts": [1, 2, 5]},
    "classify: multi": NO_DROPOUT | {"labels": CLASSES, "kind": "multi"},
    "classify: regression": NO_DROPOUT | {"kind": "regression", "label_mean": 2.0, "label_scale": 1.5},
    "masked: next": {"pairs": "next"},
    "masked: order": {"pairs": "order"},
    "tag": NO_DROPOUT | {"labels": ["O", "B-X", "I-X"]},
    "answer": NO_DROPOUT,
    "images": {"labels": CLASSES},
}
CASES = [*OBJECTIVES, *(name for name in FIELDS if name not in OBJECTIVES)]
"""Every objective, and those with another kind of loss, or with a second term: `objective: what differs`."""


def examples_of(name: str, made: Any) -> list[Any]:
    rng = np.random.default_rng(0)
    if name not in RECORDS:
        prepared = [made.prepare(rng.integers(0, 256, 4 * n + 1)) for n in LENGTHS]
        if getattr(made, "partners", False):
            others = [*prepared[1:], prepared[0]]
            prepared = [Example({**one.arrays, "other": other.arrays["tokens"]})
                        for one, other in zip(prepared, others, strict=True)]  # fmt: skip
        return [made.corrupt(example, rng) for example in prepared]
    records = [RECORDS[name](n) for n in LENGTHS]
    samples = list(made.expand(records)) if hasattr(made, "expand") else records
    assert len(samples) == len(LENGTHS)
    return [made.prepare(sample) for sample in samples]


def parts(name: str, *sizes: int) -> tuple[Any, Any, list[Any]]:
    """Module, optimizers and micro-batches of so many samples."""
    fields, case = FIELDS.get(name, {}), name
    name = name.partition(":")[0]
    if name == "images":
        made: Any = OBJECTIVES[name](Text(NoTokenizer(), 5, image=(8, 3)), **fields)
    else:
        made = objective(name, 64, documents=True, **fields)
    every, start, out = examples_of(case, made), 0, []
    for size in sizes:
        out.append(made.collate(every[start : start + size]))
        start += size
    torch.manual_seed(0)
    kind = NEEDS[name][0]
    if kind == "vit":
        body: Any = Vit(image_size=8, patch_size=4, **SIZES)
    else:
        position: dict[str, Any] = {"position": "learned", "max_sequence_length": 64} if kind != "t5" else {}
        body = MODELS[kind](made.vocabulary.size, **SIZES, **position)
    headed = getattr(made, "headed", None)
    model = body if headed is None else headed(body)
    trainable = Trainable(dict(model.named_parameters()), roles(model))
    return LossModule(model, made), OPTIMIZERS["adamw"](trainable, 1e-3, **ADAMW), out


@pytest.mark.parametrize("sizes", [(4, 4), (3, 4, 1)])
@pytest.mark.parametrize("name", CASES)
def test_numeric_010_every_objective_accumulates(name: str, sizes: tuple[int, ...]) -> None:
    """Whatever is learned, ragged samples split into micro-batches give the gradient and the loss of the whole batch,
    to a relative 1e-5."""
    whole_update, whole = gradients(*parts(name, 8))
    split_update, split = gradients(*parts(name, *sizes))
    assert relative(split, whole) <= 1e-5
    assert split_update.loss == pytest.approx(whole_update.loss, rel=1e-5)
    assert split_update.weight == pytest.approx(whole_update.weight, rel=1e-6)
    assert float(whole.norm()) > 0


@pytest.mark.parametrize("name", CASES)
def test_numeric_010_control_mean_of_means_fails_for_every_objective(name: str) -> None:
    """The mean of the micro-batches' means is off by more than 1 % for each objective."""
    _, whole = gradients(*parts(name, 8))
    module, optimizers, micro = parts(name, 7, 1)
    for batch in micro:
        terms = module(batch).terms.values()
        sum(total / max(weight, 1.0) / len(micro) for total, weight in terms).backward()
    wrong = torch.cat([p.grad.flatten() for p in optimizers.parameters if p.grad is not None])
    assert relative(wrong, whole) > 0.01


@pytest.mark.parametrize("name", ["masked: next", "masked: order"])
def test_numeric_010_both_terms_of_the_loss_are_means_over_their_own_weights(name: str) -> None:
    """The masked tokens' term and the pairs' term each count, and each is its total over its weight in all
    micro-batches."""
    module, optimizers, micro = parts(name, 3, 4, 1)
    found, _ = gradients(module, optimizers, micro)
    assert set(found.terms) == {"masked", "pair"}
    for term, mean in found.terms.items():
        results = [module(batch).terms[term] for batch in micro]
        total, weight = sum(float(total.detach()) for total, _ in results), sum(weight for _, weight in results)
        assert weight == (8 if term == "pair" else sum(batch.weights["masked"] for batch in micro))
        assert mean == pytest.approx(total / weight, rel=1e-5)
    assert found.loss == pytest.approx(sum(found.terms.values()))
