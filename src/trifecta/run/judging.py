"""Figures of fine-tuned runs over labelled data: one row for each kind of task."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trifecta.data.builtin_tasks import BUILTIN_TASKS, builtin_task
from trifecta.data.tasks import read_labelled, read_pairs, read_prompts, read_questions, read_tagged
from trifecta.data.tasks.unlabelled import Unlabelled
from trifecta.errors import CheckpointError, DataError, RecipeError
from trifecta.evaluation.answers import squad_scores
from trifecta.evaluation.classification import confusion_matrix, multi_label, per_class, regression, single_label
from trifecta.evaluation.entities import entity_scores
from trifecta.evaluation.sequences import bleu_chrf, exact_match_rate, rouge
from trifecta.inference.judged import Prediction
from trifecta.inference.predict import PREDICTORS
from trifecta.recipe import components
from trifecta.recipe.schema import Recipe
from trifecta.registry import lookup
from trifecta.run import build
from trifecta.run.divided import require_known_tags
from trifecta.run.feed import Feed
from trifecta.run.opened import Run, measure, robust
from trifecta.run.pictured import read_judged
from trifecta.run.predicting import predict_records
from trifecta.run.tasks import Examples, read_task, samples_of
from trifecta.training import checkpoint

_PLAIN_TEXT = re.compile(r"\.txt(\.(gz|zst|zstd))?$", re.IGNORECASE)
_TOLD_EVERY = 200
"""Samples between two reports of progress."""

Figures = dict[str, Any]
"""Numbers by name; tables as name -> {row: {column: number}}."""


@dataclass(frozen=True)
class Judge:
    """How a task is judged.

    read: recipe, files -> records, which may have no labels but those of training. figures: objective, records,
    predictions -> figures; not called where the objective predicts nothing. unlabelled: what of a record is judged.
    """

    read: Callable[[Recipe, Sequence[str]], list[Any]]
    figures: Callable[[Any, list[Any], list[Prediction]], Figures]
    unlabelled: Callable[[Any], Any] = Unlabelled.of


def evaluate_task(
    run: Run,
    path: str,
    data: tuple[str, ...],
    progress: build.Report | None,
    attack: float | None = None,
    **writing: Any,
) -> dict[str, Any]:
    """Loss and figures of a fine-tuned run on files, or on its own validation part. attack: as in `opened.evaluate`.

    Raises:
        CheckpointError: its validation data changed. DataError: the files can't be used, with the line.
    """
    started = time.perf_counter()
    recipe, objective = run.recipe, run.objective
    judge = lookup(JUDGES, recipe.objective.type, "task")
    records, what = _records(run, data, judge)
    examples = _examples(objective, records, progress)
    feed = Feed.of(recipe, objective, Examples(records, examples, 0, 0), training=False)
    result = measure(run, feed, progress)
    figures: Figures = result.metrics
    if recipe.objective.type in PREDICTORS:
        texts = [judge.unlabelled(record) for record in records]
        predictions = predict_records(run, texts, batch_size=build.rows_at_once(recipe), progress=progress, **writing)
        figures = judge.figures(objective, records, predictions)
    return {
        "run": path, "step": run.step, "data": what, "records": len(records),
        "cut": sum(getattr(example, "cut", 0) > 0 for example in examples), "loss": result.loss, **figures,
        **robust(run, feed, progress, attack), **_baselines(recipe, data),
        "seconds": time.perf_counter() - started,
    }  # fmt: skip


def _baselines(recipe: Recipe, data: tuple[str, ...]) -> Figures:
    """What a built-in task's validation part gives without a model."""
    name = recipe.data.builtin
    if data or recipe.data.paths or name not in BUILTIN_TASKS or recipe.objective.type not in PREDICTORS:
        return {}
    assert name is not None
    return {f"baseline_{what}": value for what, value in builtin_task(name).baselines.items()}


def _examples(objective: Any, records: list[Any], progress: build.Report | None) -> list[Any]:
    samples, examples = samples_of(objective, records), []
    if getattr(objective, "lazy", False):
        return list(samples)
    for number, sample in enumerate(samples):
        if progress and number % _TOLD_EVERY == 0:
            progress("tokenizing", number / len(samples))
        examples.append(objective.prepare(sample))
    return examples


def _records(run: Run, data: tuple[str, ...], judge: Judge) -> tuple[list[Any], str]:
    if data:
        return judge.read(run.recipe, data), ", ".join(data)
    text = read_task(run.recipe)
    saved = checkpoint.read_progress(checkpoint.Checkpoint(run.folder, run.step)).fingerprints.get("data")
    if text.scan().fingerprint != saved:
        raise CheckpointError(
            "the data that this run was trained on has changed, so its validation part is gone",
            where=str(run.folder), fix="name a file to evaluate on with --data",
        )  # fmt: skip
    return text.divided.validation, "validation split"


def _read_labelled(recipe: Recipe, paths: Sequence[str]) -> list[Any]:
    data, objective = recipe.data, recipe.objective
    assert isinstance(objective, components.Classify)
    _refuse_plain_texts(paths)
    return read_labelled(
        paths, text_field=data.text_field, pair_field=data.pair_field, label_field=data.label_field,
        kind=objective.kind, allowed=objective.labels or None,
    ).records  # fmt: skip


def _refuse_plain_texts(paths: Sequence[str]) -> None:
    """A .txt file by itself has no label: only in a folder of classes that was given is its folder's name one.

    Raises:
        DataError: naming it, and what data is needed.
    """
    for path in paths:
        if Path(path).is_file() and _PLAIN_TEXT.search(path):
            raise DataError(
                "a .txt file holds texts without labels, and a class can only be judged against one", where=path,
                fix="give a .csv, .tsv or .jsonl file with a text and its label in each row, or a folder that holds a "
                "folder of .txt files for each class; for texts without labels use trifecta predict",
            )  # fmt: skip


def _read_tagged(recipe: Recipe, paths: Sequence[str]) -> list[Any]:
    assert isinstance(recipe.objective, components.Tag)
    records = read_tagged(paths)
    require_known_tags(records, recipe.objective.labels)
    return records


def _classes(objective: Any, records: list[Any], predictions: list[Prediction]) -> Figures:
    if objective.kind == "regression":
        return regression([r.label for r in records], [p["value"] for p in predictions])
    if objective.kind == "multi":
        return _several_classes(objective.labels, records, predictions)
    number = {label: i for i, label in enumerate(objective.labels)}
    count = len(number)
    truth = np.array([number[record.label] for record in records], dtype=np.int64)
    predicted = np.array([number[prediction["label"]] for prediction in predictions], dtype=np.int64)
    cells = confusion_matrix(truth, predicted, count).tolist()
    return {
        **single_label(truth, predicted, count),
        "per_class": dict(zip(objective.labels, per_class(truth, predicted, count), strict=True)),
        "confusion": {
            true: dict(zip(objective.labels, row, strict=True))
            for true, row in zip(objective.labels, cells, strict=True)
        },
    }


def _several_classes(labels: Sequence[str], records: list[Any], predictions: list[Prediction]) -> Figures:
    truth_NC, predicted_NC = (
        np.array([[label in there for label in labels] for there in parts], dtype=np.bool_)
        for parts in ([record.label for record in records], [prediction["labels"] for prediction in predictions])
    )
    columns = zip(labels, truth_NC.T.astype(np.int64), predicted_NC.T.astype(np.int64), strict=True)
    return {
        **multi_label(truth_NC, predicted_NC),
        "per_class": {label: per_class(truth, predicted, 2)[1] for label, truth, predicted in columns},
    }


def _tags(objective: Any, records: list[Any], predictions: list[Prediction]) -> Figures:
    del objective
    truth, predicted = [record.tags for record in records], [prediction["tags"] for prediction in predictions]
    right = [a == b for true, guess in zip(truth, predicted, strict=True) for a, b in zip(true, guess, strict=True)]
    return {"word_accuracy": float(np.mean(right)), **entity_scores(truth, predicted)}


def _answers(objective: Any, records: list[Any], predictions: list[Prediction]) -> Figures:
    del objective
    given = {record.id: prediction["answer"] for record, prediction in zip(records, predictions, strict=True)}
    if len(given) < len(records):
        raise DataError("two questions have the same id", fix="give every question an id of its own")
    return squad_scores(given, {record.id: [text for text, _ in record.answers] for record in records})


def _read_pairs(recipe: Recipe, paths: Sequence[str]) -> list[Any]:
    return read_pairs(paths, source_field=recipe.data.source_field, target_field=recipe.data.target_field)


def _read_prompts(recipe: Recipe, paths: Sequence[str]) -> list[Any]:
    return read_prompts(paths, source_field=recipe.data.source_field, target_field=recipe.data.target_field)


def _texts(objective: Any, records: list[Any], predictions: list[Prediction]) -> Figures:
    """exact_match (0 to 1), and where their packages are installed bleu and chrf (0 to 100) and rouge (0 to 1)."""
    del objective
    written, truth = [prediction["target"] for prediction in predictions], [record.target.strip() for record in records]
    figures: Figures = {"exact_match": exact_match_rate(written, truth)}
    for scores in (bleu_chrf, rouge):
        try:
            figures |= scores(written, truth)
        except RecipeError as error:
            warnings.warn(f"{error.what}: {error.fix}", stacklevel=2)
    return figures


JUDGES: dict[str, Judge] = {
    "classify": Judge(_read_labelled, _classes),
    "tag": Judge(_read_tagged, _tags),
    "answer": Judge(lambda _, paths: read_questions(paths), _answers),
    "seq2seq": Judge(_read_pairs, _texts),
    "prompted": Judge(_read_prompts, lambda _, __, ___: {}),
    "images": Judge(read_judged, _classes, lambda record: record),
}
"""objective.type -> how it is judged."""
