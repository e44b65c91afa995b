"""Batches of images: accumulated, and made by any number of workers."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from trifecta.data.images import LabelledImage
from trifecta.models import Vit, roles
from trifecta.objectives import OBJECTIVES, LossModule, Text
from trifecta.optim import OPTIMIZERS, Optimizers, Trainable
from trifecta.recipe.sources import collect
from trifecta.run.feed import Feed
from trifecta.run.tasks import Examples
from trifecta.tokenizers.nothing import NoTokenizer
from trifecta.training.plan import MicroBatch
from trifecta.training.step import Update, update
from trifecta.types import Batch

pytestmark = pytest.mark.fast

ADAMW = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01}
LABELS = ["a", "b", "c"]
AUGMENTED = {
    "crop_padding": 1, "flip": 0.5, "brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1, "erase": 0.5,
    "mixup": 0.4, "cutmix": 1.0,
}  # fmt: skip


def records(count: int = 8) -> list[LabelledImage]:
    rng = np.random.default_rng(0)
    return [
        LabelledImage(LABELS[n * n % 3], str(n), 64, str(n), rng.integers(0, 256, (8, 8, 3)).astype(np.uint8))
        for n in range(count)
    ]


def images(**fields: Any) -> Any:
    weights = {"class_weights": "auto", "label_counts": [4, 3, 1]}
    return OBJECTIVES["images"](Text(NoTokenizer(), 5, image=(8, 3)), labels=LABELS, **(weights | fields))


def parts(dtype: torch.dtype) -> tuple[LossModule, Optimizers]:
    torch.manual_seed(0)
    objective = images()
    body = Vit(image_size=8, patch_size=4, d_model=16, num_heads=2, num_layers=2, d_ff=24, init_std=0.1)
    model = objective.headed(body).to(dtype)
    trainable = Trainable(dict(model.named_parameters()), roles(model))
    return LossModule(model, objective), OPTIMIZERS["adamw"](trainable, 1e-3, **ADAMW)


def batches(dtype: torch.dtype, *sizes: int) -> list[Batch]:
    """Images of two classes each, mixed before they are divided, so that the big batch has the same."""
    objective = images(mixup=1.0)
    every = objective.mix([objective.prepare(record) for record in records()], np.random.default_rng(0))
    made, start = [], 0
    for size in sizes:
        batch = objective.collate(every[start : start + size])
        inputs = {name: tensor.to(dtype) for name, tensor in batch.inputs.items()}
        made.append(Batch(inputs, batch.targets, batch.weights, batch.samples, batch.tokens))
        start += size
    return made


def gradients(dtype: torch.dtype, micro: list[Batch]) -> tuple[Update, torch.Tensor]:
    module, optimizers = parts(dtype)
    seen: list[torch.Tensor] = []
    optimizers.step = lambda: seen.append(  # type: ignore[method-assign]
        torch.cat([p.grad.flatten() for p in optimizers.parameters if p.grad is not None])
    )
    done = update(
        module, optimizers, micro, number=1, learning_rate=1e-3, transforms=(), seed=1, device=torch.device("cpu"),
        autocast=nullcontext,
    )  # fmt: skip
    return done, seen[0]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
@pytest.mark.parametrize("sizes", [(4, 4), (3, 3, 2), (1, 7)])
def test_numeric_010_accumulation_over_images(dtype: torch.dtype, bound: float, sizes: tuple[int, ...]) -> None:
    """Images with two classes each and weights of the classes, split into micro-batches, give the gradient, the loss
    and the accuracy of the whole batch, to a relative 1e-5."""
    whole_update, whole = gradients(dtype, batches(dtype, 8))
    split_update, split = gradients(dtype, batches(dtype, *sizes))
    assert relative(split, whole) <= bound
    assert split_update.loss == pytest.approx(whole_update.loss, rel=bound)
    assert split_update.metrics == pytest.approx(whole_update.metrics, rel=1e-6)


def test_numeric_010_control_mean_of_means_over_images_fails() -> None:
    """The mean of the micro-batches' means, whose class weights differ, is off by more than 1 %."""
    _, whole = gradients(torch.float32, batches(torch.float32, 8))
    module, _ = parts(torch.float32)
    micro = batches(torch.float32, 3, 5)
    for batch in micro:
        (term,) = module(batch).terms.values()
        (term[0] / term[1] / len(micro)).backward()
    wrong = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    assert relative(wrong, whole) > 0.01


def feed(workers: int = 0, *, training: bool = True, **fields: Any) -> Feed:
    flags = {"model.type": "vit", "data.num_workers": workers, "training.seed": 3}
    recipe = collect(flags={key: ("settings", value) for key, value in flags.items()}).resolve().recipe
    every = records(20)
    return Feed.of(recipe, images(**(AUGMENTED | fields)), Examples(every, list(every), 0, 0), training=training)


def pixels_of(made: Feed, sizes: tuple[int, ...] = (4, 4, 4, 4, 4), epoch: int = 0) -> list[torch.Tensor]:
    starts = np.cumsum([0, *sizes])
    plan = iter([[MicroBatch(epoch, int(a), int(b))] for a, b in itertools.pairwise(starts)])
    loaded = made.updates(plan)
    return [next(loaded)[0].inputs["pixels_BCXY"] for _ in sizes]


def test_any_number_of_workers_makes_the_same_images() -> None:
    alone, by_two = pixels_of(feed(0)), pixels_of(feed(2))
    assert all(torch.equal(a, b) for a, b in zip(alone, by_two, strict=True))


def test_a_batch_does_not_depend_on_those_before_it_and_epochs_differ() -> None:
    made = feed()
    later = made.at(0, 8, 12).inputs["pixels_BCXY"]
    assert torch.equal(later, pixels_of(feed())[2])
    assert not torch.equal(later, pixels_of(feed(), epoch=1)[2])


def test_without_mixing_an_image_does_not_depend_on_its_batch() -> None:
    """Also in the last bit: changes of colour are made image by image."""
    plain = {"mixup": 0.0, "cutmix": 0.0}
    by_four, by_ten = (torch.cat(pixels_of(feed(**plain), sizes)) for sizes in ((4,) * 5, (10, 10)))
    assert torch.equal(by_four, by_ten)


def test_validation_images_are_as_they_are() -> None:
    made = feed(training=False)
    (batch,) = made.in_order(20)
    wanted = torch.stack([torch.from_numpy((record.pixels(8, 3) - 0.5) / 0.5) for record in records(20)])
    assert torch.allclose(batch.inputs["pixels_BCXY"], wanted, atol=1e-6)
    assert batch.targets["shares_N2"][:, 1].sum() == 0


def test_control_changed_validation_images_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OBJECTIVES["images"], "only_training", False)
    with pytest.raises(AssertionError):
        test_validation_images_are_as_they_are()


def test_control_a_stream_that_goes_on_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one generator for all images the second test of this group fails."""
    shared = np.random.default_rng(0)
    monkeypatch.setattr("trifecta.run.feed.numpy_generator", lambda *_: shared)
    with pytest.raises(AssertionError):
        test_a_batch_does_not_depend_on_those_before_it_and_epochs_differ()
