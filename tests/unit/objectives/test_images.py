"""Classes of images: losses of one class and of two, and what is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trifecta.data.images import LabelledImage
from trifecta.models import Vit
from trifecta.objectives import OBJECTIVES, LossModule, Text
from trifecta.objectives.loss import Penalties
from trifecta.tokenizers.nothing import NoTokenizer
from trifecta.types import Batch, Example

pytestmark = pytest.mark.fast

LABELS = ["a", "b", "c", "d"]


def images(**fields: Any) -> Any:
    return OBJECTIVES["images"](Text(NoTokenizer(), 5, image=(8, 3)), **({"labels": LABELS} | fields))


def record(number: int) -> LabelledImage:
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return LabelledImage(LABELS[number % 3], str(number), 64, f"x[{number}]", pixels)


def model_of(objective: Any) -> Any:
    torch.manual_seed(0)
    body = Vit(image_size=8, patch_size=4, d_model=16, num_heads=2, num_layers=1, d_ff=16, init_std=0.3)
    return objective.headed(body).double().eval()


def batch_of(objective: Any, count: int = 5, *, mixes: bool = False) -> Batch:
    made = [objective.prepare(record(number)) for number in range(count)]
    if mixes:
        made = objective.mix(made, np.random.default_rng(0))
    batch: Batch = objective.collate(made)
    inputs = {name: tensor.double() for name, tensor in batch.inputs.items()}
    return Batch(inputs, batch.targets, batch.weights, batch.samples, batch.tokens)


def soft(batch: Batch) -> Tensor:
    """Targets as shares of each class, (N, C)."""
    shares_N2 = batch.targets["shares_N2"].double()
    hot_N2C = F.one_hot(batch.targets["labels_N2"], len(LABELS)).double()
    return (hot_N2C * shares_N2[:, :, None]).sum(1)


@pytest.mark.parametrize("mixes", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_is_the_cross_entropy_with_shares(mixes: bool, smoothing: float) -> None:
    """-sum(q log p) with q the shares, smoothed over all classes."""
    objective = images(mixup=1.0)
    model, batch = model_of(objective), batch_of(objective, mixes=mixes)
    scores_NC = objective.scores(model, batch)
    wanted = F.cross_entropy(scores_NC, soft(batch), reduction="sum", label_smoothing=smoothing)
    found = objective.loss(model, batch, Penalties(label_smoothing=smoothing))
    assert float(found.terms["label"][0].detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    assert found.terms["label"][1] == 5.0
    right, count = found.metrics["accuracy"]
    expected = soft(batch)[torch.arange(5), scores_NC.argmax(1)].sum()
    assert (float(right), float(count)) == (pytest.approx(float(expected), rel=1e-6), 5.0)


def test_class_weights_weigh_shares() -> None:
    objective = images(class_weights="auto", label_counts=[6, 3, 2, 1], cutmix=1.0)
    model, batch = model_of(objective), batch_of(objective, mixes=True)
    weights_C = objective.class_weights.double()
    logs_NC = objective.scores(model, batch).log_softmax(1)
    wanted = -(soft(batch) * weights_C * logs_NC).sum()
    total, weight = objective.loss(model, batch).terms["label"]
    assert float(total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    assert weight == pytest.approx(float((soft(batch) * weights_C).sum()), rel=1e-6)


def test_pixels_are_normalised_and_patches_are_tokens() -> None:
    objective = images(mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 0.125])
    batch = objective.collate([objective.prepare(record(0))])
    wanted = (record(0).source.transpose(2, 0, 1) / 255 - [[[0.1]], [[0.2]], [[0.3]]]) / [[[0.5]], [[0.25]], [[0.125]]]
    assert np.abs(batch.inputs["pixels_BCXY"][0].numpy() - wanted).max() < 1e-5
    assert (batch.samples, batch.tokens, batch.positions) == (1, 5, 5)


def test_penalties_belong_to_training() -> None:
    objective = images()
    module = LossModule(model_of(objective), objective, Penalties(label_smoothing=0.3))
    batch = batch_of(objective)
    plain = objective.loss(module.model, batch).terms["label"][0]
    assert torch.equal(module.eval()(batch).terms["label"][0], plain)
    assert not torch.equal(module.train()(batch).terms["label"][0], plain)


def test_what_is_random_changes_pixels_only() -> None:
    objective = images(flip=1.0)
    before = objective.prepare(record(1))
    after = objective.corrupt(before, np.random.default_rng(0))
    assert isinstance(after, Example)
    assert np.array_equal(after.arrays["pixels"], before.arrays["pixels"][:, :, ::-1])
    assert np.array_equal(after.arrays["labels"], before.arrays["labels"])
    assert (objective.corrupts, images().corrupts, images(mixup=0.1).mixes) == (True, False, True)
