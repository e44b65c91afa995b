"""A class for an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trifecta.data.augment import Changes, mixed
from trifecta.data.images import LabelledImage
from trifecta.models.heads import Headed
from trifecta.objectives.base import Needs, Text
from trifecta.objectives.classify import balanced
from trifecta.objectives.loss import NO_PENALTIES, Penalties
from trifecta.tokenizers.vocabulary import Vocabulary
from trifecta.types import Batch, Example, LossSum

TERM = "label"


class Images:
    """A linear head over a ViT's [CLS], or over the mean of its patches (Dosovitskiy et al., 2020).

    An image's label is a share of one class and the rest of another, which differ only after MixUp and CutMix. A patch
    counts as a token, and so does [CLS]. Arguments: `recipe.components.Images`.
    """

    needs: Needs = "encoder"
    covers_text = False
    window, overlap = 0, 0
    only_training = lazy = True

    def __init__(
        self,
        text: Text,
        *,
        labels: Sequence[str] = (),
        class_weights: str = "equal",
        label_counts: Sequence[int] = (),
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.5,),
        crop_padding: int = 0,
        flip: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        erase: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        head_dropout: float = 0.0,
    ):
        assert text.image is not None, "images need a model that sees"
        self.vocabulary = Vocabulary(text.tokenizer)
        self.labels = tuple(labels)
        self.kind = "single"
        self._number = {label: number for number, label in enumerate(labels)}
        (self.size, self.channels), self.positions = text.image, text.sequence_length
        self._mean, self._std = (torch.tensor(list(values)).view(-1, 1, 1) for values in (mean, std))
        self._changes = Changes(
            crop_padding, flip, brightness, contrast, saturation, hue, erase, fill=tuple(float(m) for m in mean)
        )
        self._mixup, self._cutmix = mixup, cutmix
        self.corrupts = self._changes.any
        self.mixes = bool(mixup or cutmix)
        self._head_dropout = head_dropout
        self.class_weights = balanced(label_counts) if class_weights == "auto" else None

    def headed(self, body: Any) -> Headed:
        """The body with a score for each class."""
        return Headed(body, max(1, len(self.labels)), dropout=self._head_dropout)

    def prepare(self, sample: LabelledImage) -> Example:
        """pixels (C, X, Y) from 0 to 1; labels (2,), the class twice; shares (2,), all of the first.

        Raises:
            DataError: the image is damaged.
        """
        number = self._number.get(sample.label, 0)  # of an image to be judged there is none
        return Example({
            "pixels": sample.pixels(self.size, self.channels), "labels": np.array([number, number]),
            "shares": np.array([1.0, 0.0]),
        })  # fmt: skip

    def corrupt(self, example: Example, generator: np.random.Generator) -> Example:
        """The image cropped, mirrored, coloured otherwise, erased in part."""
        return Example({**example.arrays, "pixels": self._changes(example.arrays["pixels"], generator)})

    def mix(self, examples: Sequence[Example], generator: np.random.Generator) -> list[Example]:
        """The images of a batch blended in pairs, or with rectangles of each other."""
        return mixed(examples, self._mixup, self._cutmix, generator)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Normalised images, pixels_BCXY."""
        pixels = torch.from_numpy(np.stack([example.arrays["pixels"] for example in examples]))
        labels_N2, shares_N2 = (
            torch.from_numpy(np.stack([e.arrays[name] for e in examples])) for name in ("labels", "shares")
        )
        weight = float(len(examples))
        if self.class_weights is not None:
            weight = float((self.class_weights[labels_N2] * shares_N2).sum())
        return Batch(
            inputs={"pixels_BCXY": (pixels - self._mean) / self._std},
            targets={"labels_N2": labels_N2, "shares_N2": shares_N2.float()}, weights={TERM: weight},
            samples=len(examples), tokens=len(examples) * self.positions,
        )  # fmt: skip

    def loss(self, model: Headed, batch: Batch, penalties: Penalties = NO_PENALTIES) -> LossSum:
        """Sum of the cross-entropies in nats; how many were right, where an image of two classes counts in shares."""
        scores_NC = self.scores(model, batch)
        labels_N2, shares_N2 = batch.targets["labels_N2"], batch.targets["shares_N2"].to(scores_NC.dtype)
        weights = None if self.class_weights is None else self.class_weights.to(scores_NC.device, scores_NC.dtype)
        each = [
            F.cross_entropy(
                scores_NC, labels_N2[:, i], weights, reduction="none", label_smoothing=penalties.label_smoothing
            )
            for i in range(2)
        ]
        total = (torch.stack(each, 1) * shares_N2).sum()
        guessed_N1 = scores_NC.detach().argmax(1, keepdim=True)
        right = ((guessed_N1 == labels_N2) * shares_N2).sum()
        return LossSum({TERM: (total, batch.weights[TERM])}, {"accuracy": (right, float(batch.samples))})

    def scores(self, model: Headed, batch: Batch) -> Tensor:
        """The head's scores of each image, (N, C)."""
        return model.scores(model.pooled(model.hidden(batch.inputs["pixels_BCXY"]).hidden_BTD))
