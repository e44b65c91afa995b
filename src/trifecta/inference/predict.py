"""What a model says about texts: one row for each kind of objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trifecta.data.tasks import Labelled, Tagged
from trifecta.data.tasks.tagged import to_bio
from trifecta.data.tasks.unlabelled import Unlabelled, words_of
from trifecta.inference.gaps import fill_gaps
from trifecta.inference.generate import eval_mode
from trifecta.inference.judged import Options, Prediction, batches, device_of
from trifecta.inference.spans import find_answers
from trifecta.inference.write import fill_spans, write_targets
from trifecta.registry import lookup

Predictor = Callable[[Any, Any, Sequence[Unlabelled], Options], list[Prediction]]
"""Model, objective, texts, options -> a prediction for each text, in their order."""


@torch.inference_mode()
def predict(model: Any, kind: str, objective: Any, texts: Sequence[Unlabelled], options: Options) -> list[Prediction]:
    """One prediction for each text, in their order. kind: the objective's row in PREDICTORS.

    Raises:
        DataError: a text that can't be judged, with its place. RecipeError: no such row.
    """
    with eval_mode(model):
        return lookup(PREDICTORS, kind, "kind of prediction")(model, objective, texts, options)


def classify(model: Any, objective: Any, texts: Sequence[Unlabelled], options: Options) -> list[Prediction]:
    """single: label, probability and probabilities; multi: labels above one half and probabilities; regression: value.

    A text that is longer than the model reads has also `cut`, the tokens that were left out.
    """
    fillers: dict[str, Any] = {"multi": (), "regression": 0.0}
    filler = fillers[objective.kind] if objective.kind in fillers else objective.labels[0]
    examples = [objective.prepare(Labelled(text.text, text.pair, filler, text.place)) for text in texts]
    results: list[Prediction] = [{}] * len(texts)
    for numbers, batch in batches(objective, examples, options, device_of(model)):
        for number, scores_C in zip(numbers, objective.scores(model, batch).cpu(), strict=True):
            cut = {"cut": examples[number].cut} if examples[number].cut else {}
            results[number] = _class(objective, scores_C) | cut
    return results


def classify_images(model: Any, objective: Any, images: Sequence[Any], options: Options) -> list[Prediction]:
    """label, probability and probabilities of each image, which is read when its turn comes.

    Raises:
        DataError: one is damaged.
    """
    found: list[Prediction] = []
    for start in range(0, len(images), options.batch_size):
        examples = [objective.prepare(image) for image in images[start : start + options.batch_size]]
        scores_NC = objective.scores(model, objective.collate(examples).to(device_of(model))).cpu()
        found += [_class(objective, scores_C) for scores_C in scores_NC]
        options.progress(len(found) / len(images))
    return found


def _class(objective: Any, scores_C: Tensor) -> Prediction:
    if objective.kind == "regression":
        return {"value": objective.value(float(scores_C[0]))}
    shares = (scores_C.sigmoid() if objective.kind == "multi" else scores_C.softmax(0)).tolist()
    probabilities = dict(zip(objective.labels, shares, strict=True))
    if objective.kind == "multi":
        return {"labels": [name for name, p in probabilities.items() if p > 0.5], "probabilities": probabilities}
    label = max(probabilities, key=lambda name: probabilities[name])
    return {"label": label, "probability": probabilities[label], "probabilities": probabilities}


def tag(model: Any, objective: Any, texts: Sequence[Unlabelled], options: Options) -> list[Prediction]:
    """entities: start and end in characters, label, text, and score, the mean probability of its words' tags.

    tags: those of the words, as BIO.
    """
    records = [_untagged(text) for text in texts]
    expanded = [(number, window) for number, record in enumerate(records) for window in objective.expand([record])]
    examples = [objective.prepare(window) for _, window in expanded]
    found: list[dict[int, tuple[str, float]]] = [{} for _ in records]
    for places, batch in batches(objective, examples, options, device_of(model)):
        shares_N, labels_N = objective.scores(model, batch).softmax(1).max(1)
        judged = list(zip((objective.labels[i] for i in labels_N.tolist()), shares_N.tolist(), strict=True))
        for number, window in (expanded[place] for place in places):
            found[number] |= zip(window.words.tolist(), judged, strict=False)
            del judged[: len(window.words)]
    return [_tagged(record, words) for record, words in zip(records, found, strict=True)]


def _untagged(text: Unlabelled) -> Tagged:
    words = words_of(text.text) if text.words is None else text.words
    return Tagged(text.text, words, ("O",) * len(words), text.place)


def _tagged(record: Tagged, judged: Mapping[int, tuple[str, float]]) -> Prediction:
    """A word without a token of its own goes on with the word before it, in whose token it is."""
    raw: list[tuple[str, float]] = []
    for word in range(len(record.words)):
        before, share = raw[-1] if raw else ("O", 1.0)
        raw.append(judged.get(word, (before if before == "O" else f"I-{before[2:]}", share)))
    tags = to_bio([name for name, _ in raw], [record.place] * len(raw))
    entities: list[Prediction] = []
    shares: list[float] = []
    for (start, end), name, (_, share) in zip(record.words, tags, raw, strict=True):
        if name == "O":
            continue
        if name.startswith("B-"):
            entities.append({"start": start, "end": end, "label": name[2:], "text": "", "score": share})
            shares = []
        shares.append(share)
        entity = entities[-1]
        entity |= {"end": end, "text": record.text[entity["start"] : end], "score": sum(shares) / len(shares)}
    return {"entities": entities, "tags": list(tags)}


PREDICTORS: dict[str, Predictor] = {
    "classify": classify,
    "tag": tag,
    "answer": find_answers,
    "masked": fill_gaps,
    "seq2seq": write_targets,
    "span": fill_spans,
    "images": classify_images,
}
"""objective.type -> what makes its predictions."""
