"""A task's head as transformers' class for that task has it, so that it gives the same scores.

Ours is one linear layer. Theirs puts layers before it, which are made to change nothing that counts:

- BERT's classes go through a pooler, tanh(dense(x)). Without a pooler of ours, dense is x / 2^13, where tanh changes
  less than a float's last digit, and the classifier is 2^13 times ours.
- ModernBERT has norm(act(dense(x))) everywhere. act is `linear`, and the body's last norm leaves its gain g and shift b
  to the head's: with z its bare result, dense is c z, and the norm gives k g c z / sqrt(c^2 var(z) + e) + b. For
  k = sqrt(c^2 + e) / c this is g z + b, to a relative (1 - var(z)) / 2 * c^2 / (c^2 + e). Of a vector of variance v the
  body's norm makes var(z) = v / (v + e), as good as 1. The mean of many z has any variance up to 1; for it, c is so
  small that c^2 is nothing beside e. An adapter can't choose act: so near 0 that gelu(x) is x / 2, any gelu will do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trifecta.errors import RecipeError

CLASSES = {"classify": "SequenceClassification", "tag": "TokenClassification", "answer": "QuestionAnswering"}
"""objective.type -> how the name of transformers' class for that task ends, after `For`."""
NAMES = {"classify": "classifier", "tag": "classifier", "answer": "qa_outputs"}
"""objective.type -> BERT's name of the linear layer. ModernBERT's is always `classifier`."""
_PROBLEMS = {"single": "single_label_classification", "multi": "multi_label_classification", "regression": "regression"}

_SMALL = 2.0**-13
"""What a layer before tanh or a norm multiplies by: a power of two rounds nothing, and float16 still holds it."""
_MEAN_ERROR = 1e-7
"""How wrong means may be; this takes a much smaller factor."""
_NEAR_0 = 2.0**-24
"""Such a factor before gelu, which is x / 2 + 0.4 x^2 there."""
SMALL_NOTE = "float16 can't hold its head: load it in float32 or bfloat16"
_NO_TRAINING = (
    "its head is written so that transformers' layers before it change nothing: it judges like the run, but isn't made "
    "to be trained on there"
)
_NOTES = {
    "tag": ("the first token of a word has its tag: pipeline(..., aggregation_strategy='first')",),
    "answer": ("an answer that begins and ends at [CLS] is none, as for SQuAD 2.0",),
}
_OTHERS = ("classifier.", "qa_outputs.", "pre_classifier.", "score.")
_HEADS = dict.fromkeys(("bert", "roberta", "distilbert"), _OTHERS) | {"modernbert": (*_OTHERS, "head.")}
"""model_type -> how names begin in the heads of their classes for tasks."""


@dataclass(frozen=True)
class Head:
    """What a run judges with.

    task: objective.type. weight, bias: (C, D) and (C,), C being the labels, or a start and an end, or one number.
    kind, pooling: of a classify objective. scale, mean: a number is score * scale + mean.
    """

    task: str
    weight: Tensor
    bias: Tensor
    labels: tuple[str, ...] = ()
    kind: str = "single"
    pooling: str = "first"
    scale: float = 1.0
    mean: float = 0.0
    dropout: float = 0.0

    @classmethod
    def of(cls, task: str, objective: Any, weight: Tensor, bias: Tensor) -> Head:
        """The head of a recipe's objective (`components.Classify`, `Tag` or `Answer`)."""
        own = {"labels": tuple(objective.labels)} if task != "answer" else {"labels": ("start", "end")}
        if task == "classify":
            own |= {"kind": objective.kind, "pooling": objective.pooling, "scale": objective.label_scale,
                    "mean": objective.label_mean}  # fmt: skip
            own["labels"] = own["labels"] or ("value",)
        return cls(task, weight.detach(), bias.detach(), dropout=objective.head_dropout, **own)

    def linear(self) -> tuple[Tensor, Tensor]:
        """Weight and bias that give the number itself where it is one."""
        if self.kind != "regression":
            return self.weight, self.bias
        return self.weight * self.scale, self.bias * self.scale + self.mean


def without_token_head(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A model's keyword arguments, without a setting of the head for tokens that could stand in the way."""
    post = fields.get("norm_position") == "post"
    return {**fields, "head_activation": fields["activation"]} if post else dict(fields)


def settings(head: Head, model_type: str) -> dict[str, Any]:
    """What config.json says of the head."""
    found: dict[str, Any] = {
        "architectures": [f"{'Bert' if model_type == 'bert' else 'ModernBert'}For{CLASSES[head.task]}"],
        "id2label": {str(number): label for number, label in enumerate(head.labels)},
        "label2id": {label: number for number, label in enumerate(head.labels)},
        "classifier_dropout": head.dropout,
    }
    if head.task == "classify":
        found["problem_type"] = _PROBLEMS[head.kind]
    if model_type == "modernbert":
        found |= {"classifier_activation": "linear", "classifier_pooling": "mean" if head.pooling == "mean" else "cls"}
    return found


def with_head(
    body: Mapping[str, Tensor], head: Head, config: Mapping[str, Any]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Their weights of the whole model, from those of the body; and what the user should know.

    Args:
        config: config.json as a dict; of it model_type, norm_eps and classifier_bias are read.

    Raises:
        RecipeError: their class computes something else.
    """
    notes = _NOTES.get(head.task, ())
    if config["model_type"] == "bert":
        pooler = {name: tensor for name, tensor in body.items() if ".pooler." in name}
        state = {name: tensor for name, tensor in body.items() if name not in pooler}
        plain = head.task != "classify" or bool(pooler)
        return state | bert_head(head, pooler), notes if plain else (*notes, _NO_TRAINING)
    factor, epsilon = _SMALL, config["norm_eps"]
    if head.pooling == "mean":
        factor = 2.0 ** math.floor(math.log2(math.sqrt(epsilon * _MEAN_ERROR)))
        notes = (*notes, SMALL_NOTE)
    norm = body["model.final_norm.weight"], body["model.final_norm.bias"]
    gain = _gain(factor, epsilon)
    state = {**body, **_modernbert(norm, head, factor, gain, bias=config["classifier_bias"])}
    return state, (*notes, _NO_TRAINING)


def bert_head(head: Head, pooler: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BERT's head, and its pooler where there is one in their class.

    Args:
        pooler: the run's, by their names; empty for none.

    Raises:
        RecipeError: theirs has no mean over positions.
    """
    weight, bias = head.linear()
    name = NAMES[head.task]
    if head.task != "classify":
        return {f"{name}.weight": weight, f"{name}.bias": bias}
    if head.pooling != "first":
        raise RecipeError(
            f"transformers' BERT judges by the first position, and this run has objective.pooling: {head.pooling}",
            fix="train it with objective.pooling=first, or use the run itself (trifecta predict)",
        )
    if not pooler:
        width = weight.shape[1]
        pooler = {"bert.pooler.dense.weight": _SMALL * torch.eye(width), "bert.pooler.dense.bias": torch.zeros(width)}
        weight = weight / _SMALL
    return {**pooler, f"{name}.weight": weight, f"{name}.bias": bias}


def modernbert_head(
    norm: tuple[Tensor, Tensor], head: Head, *, activation: str, epsilon: float, bias: bool
) -> dict[str, Tensor]:
    """ModernBERT's head, and the body's last norm before it, for a config.json that doesn't know of it.

    Args:
        norm: gain and shift of the body's last norm. activation: of the head for tokens. epsilon: of all norms.
        bias: whether layers have one.

    Raises:
        RecipeError: it would take another config.json.
    """
    wrong = [f"objective.pooling: {head.pooling}"] if head.pooling == "mean" else []
    wrong += [f"model.head_activation: {activation}"] if not activation.startswith("gelu") else []
    if wrong:
        raise RecipeError(
            f"transformers' ModernBERT judges otherwise, which an adapter can't change ({', '.join(wrong)})",
            fix="export the whole model with --to hf",
        )
    return _modernbert(norm, head, _NEAR_0, _gain(_NEAR_0 / 2, epsilon), bias=bias)


def _modernbert(
    norm: tuple[Tensor, Tensor], head: Head, factor: float, gain: float, *, bias: bool
) -> dict[str, Tensor]:
    """The module's second formula: the body's last norm leaves its gain and shift to the head's."""
    weight, shift = head.linear()
    width = len(norm[0])
    found = {
        "model.final_norm.weight": torch.ones(width),
        "model.final_norm.bias": torch.zeros(width),
        "head.dense.weight": factor * torch.eye(width),
        "head.norm.weight": norm[0] * gain,
        "head.norm.bias": norm[1],
        "classifier.weight": weight,
        "classifier.bias": shift,
    }
    return found | ({"head.dense.bias": torch.zeros(width)} if bias else {})


def _gain(factor: float, epsilon: float) -> float:
    """What a norm makes of factor * z, for var(z) = 1, this makes z again."""
    return math.sqrt(factor**2 + epsilon) / factor


def without_head(
    config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor], tuple[str, ...]]:
    """A folder of one of their classes for tasks -> config.json and weights of its body, and the names left out.

    What `with_head` has made is undone. Other folders are given back as they are.
    """
    begins, classes = _HEADS.get(str(config.get("model_type"))), config.get("architectures") or ("",)
    if begins is None or not str(classes[0]).endswith(tuple(CLASSES.values())):
        return dict(config), dict(state), ()
    left_out = tuple(sorted(name for name in state if name.startswith(begins)))
    rest = {name: tensor for name, tensor in state.items() if name not in left_out}
    changed = {key: value for key, value in config.items() if key != "classifier_activation"}
    changed["tie_word_embeddings"] = True  # a head for tokens isn't there: ours begins with the embedding
    dense = rest.get("bert.pooler.dense.weight")
    if dense is not None and _factor(dense) == _SMALL:
        rest = {name: tensor for name, tensor in rest.items() if ".pooler." not in name}
    factor = _factor(state["head.dense.weight"]) if "head.dense.weight" in left_out else None
    if factor is not None and config.get("classifier_activation") == "linear":
        rest["model.final_norm.weight"] = state["head.norm.weight"] / _gain(factor, config.get("norm_eps", 1e-5))
        rest["model.final_norm.bias"] = state["head.norm.bias"]
    return changed, rest, left_out


def _factor(dense: Tensor) -> float | None:
    """f where the matrix is f times the identity."""
    factor = float(dense[0, 0])
    return factor if factor and torch.equal(dense, factor * torch.eye(len(dense), dtype=dense.dtype)) else None
