"""Evaluation counts every target once, and leaves no trace."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from objectives import causal, objective

from trifecta.evaluation.evaluate import Evaluation, evaluate
from trifecta.evaluation.metrics import bits_per_byte, perplexity
from trifecta.models import MODELS
from trifecta.objectives import LossModule
from trifecta.types import Batch

LENGTHS = [9, 2, 7, 3, 8]


def make_module(dropout: float = 0.0) -> LossModule:
    torch.manual_seed(0)
    model = MODELS["gpt"](13, d_model=16, num_heads=2, num_layers=1, d_ff=32, dropout=dropout)
    return LossModule(model, causal())


def batches(*sizes: int) -> list[Batch]:
    rng, objective, out = np.random.default_rng(0), causal(), []
    examples = [objective.prepare(rng.integers(0, 13, n + 1)) for n in LENGTHS]
    for size in sizes:
        out.append(objective.collate(examples[:size]))
        examples = examples[size:]
    return out


def run(module: LossModule, given: list[Batch], **options: Any) -> Evaluation | None:
    return evaluate(module, given, device=torch.device("cpu"), autocast=nullcontext, text_bytes=100, **options)


def position_losses(module: LossModule) -> list[float]:
    """Every position's loss by itself, in fp64."""
    found = []
    for batch in batches(1, 1, 1, 1, 1):
        logits = module.model(batch.inputs["tokens_BT"]).double()
        losses = torch.nn.functional.cross_entropy(logits[0], batch.targets["targets_BT"][0], reduction="none")
        found += losses.tolist()
    return found


@pytest.mark.fast
@pytest.mark.parametrize("sizes", [(5,), (2, 3), (1, 1, 1, 1, 1), (4, 1)])
def test_numeric_034_035_loss_and_perplexity_are_of_totals(sizes: tuple[int, ...]) -> None:
    """Over batches of unequal lengths the loss is the total over all tokens divided by their number, to 1e-6, and
    perplexity its exponential, to 1e-9."""
    module = make_module()
    result = run(module, batches(*sizes))
    exact = position_losses(module)
    assert result is not None
    assert result.tokens == sum(LENGTHS) == len(exact)
    assert result.loss == pytest.approx(sum(exact) / len(exact), rel=1e-6)
    assert result.perplexity == pytest.approx(math.exp(result.loss), rel=1e-9)
    assert result.bits_per_byte == pytest.approx(sum(exact) / math.log(2) / 100, rel=1e-6)


RAGGED = [40, 3, 25, 9, 1, 17]


def masked_and_batches(*sizes: int) -> tuple[LossModule, list[Batch]]:
    """A small BERT, and ragged documents with gaps that are the same however they are cut into batches."""
    made, out, start = objective("masked", 64, documents=True, rate=0.4), [], 0
    rng = np.random.default_rng(0)
    examples = [made.corrupt(made.prepare(rng.integers(0, 256, length + 1)), rng) for length in RAGGED]
    for size in sizes:
        out.append(made.collate(examples[start : start + size]))
        start += size
    torch.manual_seed(0)
    sizes_of_model = {"d_model": 16, "num_heads": 2, "num_layers": 1, "d_ff": 32, "dropout": 0.0, "init_std": 0.5}
    return LossModule(MODELS["bert"](made.vocabulary.size, **sizes_of_model), made), out


@pytest.mark.fast
@pytest.mark.parametrize("sizes", [(6,), (3, 3), (1, 1, 1, 1, 1, 1), (5, 1)])
def test_numeric_034_masked_loss_and_accuracy_are_of_totals(sizes: tuple[int, ...]) -> None:
    """Over ragged batches of masked texts loss and accuracy are the totals over all masked tokens divided by their
    number, each sample once, to 1e-6; bits per byte are not told."""
    module, whole = masked_and_batches(6)
    (total, count), (right, of) = module(whole[0]).terms["masked"], module(whole[0]).metrics["accuracy"]
    seen: list[int] = []
    result = evaluate(
        module, masked_and_batches(*sizes)[1], device=torch.device("cpu"), autocast=nullcontext, text_bytes=None,
        progress=seen.append,
    )  # fmt: skip
    assert result is not None
    assert result.tokens == count == of
    assert result.loss == pytest.approx(float(total.detach()) / count, rel=1e-6)
    assert result.metrics == {"accuracy": pytest.approx(float(right) / float(of), rel=1e-6)}
    assert result.bits_per_byte is None
    assert seen == np.cumsum(sizes).tolist()


@pytest.mark.fast
def test_numeric_034_control_mean_of_masked_means_is_noticed() -> None:
    """The mean of batches' losses of masked tokens is off by more than 1e-3."""
    module, whole = masked_and_batches(6)
    _, each = masked_and_batches(5, 1)
    (total, count) = module(whole[0]).terms["masked"]
    means = [float(t.detach()) / n for t, n in (module(batch).terms["masked"] for batch in each)]
    assert abs(sum(means) / 2 / (float(total.detach()) / count) - 1) > 1e-3


@pytest.mark.fast
def test_numeric_035_control_mean_of_perplexities_and_mean_of_means_are_noticed() -> None:
    """The mean of batch losses, and that of batch perplexities, are off."""
    module = make_module()
    result = run(module, batches(2, 3))
    each = [run(module, [batch]) for batch in batches(2, 3)]
    assert result is not None
    mean_of_means = sum(e.loss for e in each if e) / 2
    assert abs(mean_of_means / result.loss - 1) > 1e-4
    assert abs(sum(e.perplexity for e in each if e) / 2 / result.perplexity - 1) > 1e-4


@pytest.mark.fast
@pytest.mark.parametrize("training", [True, False])
def test_numeric_040_mode_and_random_state_are_left_as_they_were(training: bool) -> None:
    """Evaluation leaves the training mode and torch's random state exactly as they were, and has dropout off."""
    module = make_module(dropout=0.5).train(training)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second = run(module, batches(5)), run(module, batches(5))
    assert first is not None
    assert second is not None
    assert first.loss == second.loss, "dropout is off"
    assert module.training is training
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.fast
def test_numeric_040_control_dropout_left_on_is_noticed() -> None:
    """With dropout left on, two evaluations differ."""
    module = make_module(dropout=0.5).train()
    with torch.inference_mode():
        losses = [float(next(iter(module(batches(5)[0]).terms.values()))[0]) for _ in range(2)]
    assert losses[0] != losses[1]


@pytest.mark.fast
def test_asked_to_stop_it_stops_and_restores_the_mode() -> None:
    module = make_module().train()
    answers = iter([False, True])
    assert run(module, batches(1, 1, 1, 1, 1), should_stop=lambda: next(answers)) is None
    assert module.training


@pytest.mark.fast
def test_metrics() -> None:
    assert perplexity(3.987) == pytest.approx(53.89, abs=0.01), "SEED-CHECKLIST group 17 (the seed prints 53.45)"
    for loss, wanted in [(1.45, 4.26), (1.23, 3.42), (0.95, 2.59), (0.87, 2.39), (0.65, 1.92)]:
        assert perplexity(loss) == pytest.approx(wanted, abs=0.006)
    assert perplexity(1e9) == math.inf
    assert bits_per_byte(math.log(2) * 80, 10) == pytest.approx(8.0)
    assert math.isnan(bits_per_byte(1.0, 0))
