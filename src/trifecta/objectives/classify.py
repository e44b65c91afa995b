"""Classes, several of them, or a number for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trifecta.data.tasks import Labelled
from trifecta.models.heads import Headed
from trifecta.objectives.base import Needs, Text
from trifecta.objectives.collate import arrays_of, packed
from trifecta.objectives.loss import NO_PENALTIES, Penalties
from trifecta.objectives.masked import SPECIAL
from trifecta.objectives.texts import framed, shorten
from trifecta.tokenizers.vocabulary import Vocabulary
from trifecta.types import IGNORE, Batch, Example, LossSum

TERM = "label"


class Classify:
    """A linear head over a text's first position, or over the mean of its positions (Devlin et al., 2018).

    single: cross-entropy; multi: binary cross-entropy of each class, averaged over classes; regression: squared error
    of the label less `label_mean`, in units of `label_scale`. With mixup, what is judged are mixtures of two texts of a
    batch, share * x + (1 - share) * other, of the states before the head, and their losses count in the same shares
    (senMixup, Guo et al., 2019; a number is mixed too). Arguments: `recipe.components.Classify`.
    """

    needs: Needs = "encoder"
    covers_text = corrupts = False
    window, overlap = 0, 0

    def __init__(
        self,
        text: Text,
        *,
        labels: Sequence[str] = (),
        kind: str = "auto",
        pooling: str = "first",
        class_weights: str = "equal",
        label_counts: Sequence[int] = (),
        label_mean: float = 0.0,
        label_scale: float = 1.0,
        head_dropout: float = 0.1,
        mixup_alpha: float = 0.0,
    ):
        self.vocabulary = Vocabulary(text.tokenizer, SPECIAL)
        self.labels, self.kind, self.pooling = tuple(labels), kind, pooling
        self._number = {label: number for number, label in enumerate(labels)}
        self.uses_pooler = pooling == "first"
        self._limit, self._head_dropout = text.sequence_length, head_dropout
        self._mean, self._scale = label_mean, label_scale
        self.class_weights = balanced(label_counts) if class_weights == "auto" else None
        self._mixup_alpha, self.mixes = mixup_alpha, mixup_alpha > 0

    def headed(self, body: Any) -> Headed:
        """The body with a score for each class."""
        return Headed(body, max(1, len(self.labels)), dropout=self._head_dropout)

    def prepare(self, sample: Labelled) -> Example:
        """`[CLS] text [SEP]`, or with a second text `[CLS] text [SEP] pair [SEP]`; label (C,) for multi, else (1,)."""
        encode = self.vocabulary.tokenizer.encode
        parts = [encode(sample.text)] + ([encode(sample.pair)] if sample.pair is not None else [])
        cut = shorten(parts, self._limit - 1 - len(parts))
        tokens, types = framed(self.vocabulary, parts)
        return Example({"tokens": tokens, "types": types, "label": self._label(sample)}, cut)

    def _label(self, sample: Labelled) -> Any:
        if self.kind == "regression":
            return np.array([(float(sample.label) - self._mean) / self._scale])  # type: ignore[arg-type]
        if self.kind == "multi":
            known = np.zeros(len(self.labels))
            known[[self._number[label] for label in sample.label]] = 1.0  # type: ignore[union-attr]
            return known
        return np.array([self._number[str(sample.label)]])

    def value(self, score: float) -> float:
        """The number that a score of a regression stands for."""
        return score * self._scale + self._mean

    def corrupt(self, example: Example, generator: np.random.Generator) -> Example:
        """Changes nothing."""
        del generator
        return example

    def mix(self, examples: Sequence[Example], generator: np.random.Generator) -> list[Example]:
        """Each example with its partner in a permutation of the batch, and its own share, one for all, in its mixture.

        share ~ Beta(alpha, alpha).
        """
        share = float(generator.beta(self._mixup_alpha, self._mixup_alpha))
        partners = generator.permutation(len(examples)).tolist()
        return [
            Example({**example.arrays, "partner": np.array(partner), "share": np.array(share)}, example.cut)
            for example, partner in zip(examples, partners, strict=True)
        ]

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Texts packed into rows; members_BT says which text each position belongs to."""
        numbered = [
            arrays_of(tokens=e.arrays["tokens"], types=e.arrays["types"], members=np.full(len(e.arrays["tokens"]), i))
            for i, e in enumerate(examples)
        ]
        sides = {"BT": {"tokens": self.vocabulary["[PAD]"], "types": 0, "members": IGNORE}}
        inputs = packed(numbered, sides, {"BT": self._limit})
        members_BT = inputs.pop("members_BT")
        labels = torch.from_numpy(np.stack([e.arrays["label"] for e in examples]))
        targets = {"members_BT": members_BT, "labels_NC": labels, **_mixture(examples)}
        weight = float(len(examples))
        if self.class_weights is not None:
            weights_N = self.class_weights[labels[:, 0]]
            weight = float(sum((share * weights_N[of]).sum() for share, of in _parts(targets)))
        return Batch(
            inputs=inputs, targets=targets, weights={TERM: weight}, samples=len(examples),
            tokens=sum(len(e.arrays["tokens"]) for e in examples),
        )  # fmt: skip

    def loss(self, model: Headed, batch: Batch, penalties: Penalties = NO_PENALTIES) -> LossSum:
        """Sum over texts, and how many were right (single: the class; multi: every class), mixtures in shares."""
        scores_NC = self.scores(model, batch)
        labels, weight = batch.targets["labels_NC"], batch.weights[TERM]
        parts = _parts(batch.targets)
        if self.kind == "regression":
            numbers = sum(share[:, None] * labels[of].to(scores_NC.dtype) for share, of in parts)
            return LossSum({TERM: (F.mse_loss(scores_NC, torch.as_tensor(numbers), reduction="sum"), weight)})
        total = right = scores_NC.new_zeros(())
        for share, of in parts:
            each, hit = self._each(scores_NC, labels[of], penalties.label_smoothing)
            total, right = total + (share * each).sum(), right + (share * hit).sum()
        return LossSum({TERM: (total, weight)}, {"accuracy": (right, float(batch.samples))})

    def _each(self, scores_NC: Tensor, labels: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
        """Loss of each text, and whether it is right, (N,)."""
        if self.kind == "multi":
            targets = labels.to(scores_NC.dtype).lerp(scores_NC.new_tensor(0.5), label_smoothing)
            losses = F.binary_cross_entropy_with_logits(scores_NC, targets, reduction="none").mean(1)
            return losses, ((scores_NC > 0) == labels.bool()).all(1)
        weights = None if self.class_weights is None else self.class_weights.to(scores_NC.device, scores_NC.dtype)
        losses = F.cross_entropy(scores_NC, labels[:, 0], weights, reduction="none", label_smoothing=label_smoothing)
        return losses, scores_NC.detach().argmax(1) == labels[:, 0]

    def scores(self, model: Headed, batch: Batch) -> Tensor:
        """The head's scores of each text or mixture of two, (N, C), in the order of the examples."""
        judged_ND = self._judged(model, batch)
        if "shares_N" in batch.targets:
            shares_N1, others_ND = batch.targets["shares_N"][:, None], judged_ND[batch.targets["partners_N"]]
            judged_ND = (shares_N1 * judged_ND + (1 - shares_N1) * others_ND).to(judged_ND.dtype)
        return model.scores(judged_ND)

    def _judged(self, model: Headed, batch: Batch) -> Tensor:
        """What the head judges of each text, (N, D)."""
        types = model.body.segment_types if hasattr(model.body, "segment_types") else 0
        inputs = {name: tensor for name, tensor in batch.inputs.items() if name != "types_BT" or types}
        hidden_BTD = model.hidden(**inputs).hidden_BTD
        members = batch.targets["members_BT"].flatten()
        hidden = hidden_BTD.flatten(0, 1)
        if self.pooling == "mean":
            there = members != IGNORE
            sums = hidden.new_zeros(batch.samples, hidden.shape[1]).index_add(0, members[there], hidden[there])
            counts = torch.bincount(members[there], minlength=batch.samples)
            return sums / counts[:, None]
        places = _first_places(members, batch.samples)
        return model.pooled(hidden[places])


def _mixture(examples: Sequence[Example]) -> dict[str, Tensor]:
    """partners_N and shares_N of mixed examples."""
    if not examples or "share" not in examples[0].arrays:
        return {}
    partners, shares = (np.stack([e.arrays[name] for e in examples]) for name in ("partner", "share"))
    return {"partners_N": torch.from_numpy(partners), "shares_N": torch.from_numpy(shares).float()}


def _parts(targets: Mapping[str, Tensor]) -> list[tuple[Tensor, Any]]:
    """Shares (N,) and numbers (N,) of the texts that each judged one is made of: itself, or itself and its partner."""
    if "shares_N" not in targets:
        return [(torch.ones((), device=targets["labels_NC"].device).expand(len(targets["labels_NC"])), slice(None))]
    return [(targets["shares_N"], slice(None)), (1 - targets["shares_N"], targets["partners_N"])]


def _first_places(members: Tensor, count: int) -> Tensor:
    """Where each text begins, (N,), in flattened rows."""
    before = torch.cat((members.new_full((1,), IGNORE), members[:-1]))
    begins = ((members != before) & (members != IGNORE)).nonzero().squeeze(1)
    places = members.new_empty(count)
    places[members[begins]] = begins
    return places


def balanced(counts: Sequence[int]) -> Tensor:
    """n / (C * n_c): every class weighs the same in all (King and Zeng, 2001; scikit-learn's `balanced`)."""
    numbers = torch.tensor(list(counts), dtype=torch.float64).clamp(min=1)
    return (numbers.sum() / (len(numbers) * numbers)).float()
