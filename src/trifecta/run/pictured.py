"""Images of a recipe, divided into training and validation, and read for judging."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from trifecta.data.image_arrays import BUILTIN_IMAGES, digits
from trifecta.data.images import LabelledImage, in_order, read_images, read_unlabelled_images
from trifecta.data.tasks import split_records
from trifecta.errors import DataError
from trifecta.recipe import components
from trifecta.recipe.schema import Recipe
from trifecta.run.divided import Divided

BUILTINS = dict.fromkeys(BUILTIN_IMAGES, "images")
"""Name of built-in images -> the objective that they are for."""


def divide_images(recipe: Recipe, builtin: str | None) -> Divided:
    """Images with a class each; every class is divided. Found are the classes, and how many images each has.

    Raises:
        DataError: with the file: what can't be used; or all images are of one class.
    """
    data, objective = recipe.data, recipe.objective
    assert isinstance(objective, components.Images)
    notes: list[str] = []
    if builtin is not None:
        train, validation = digits()
        labels = tuple(objective.labels or in_order({record.label for record in train}))
        notes.append(f"images: {builtin}, {len(train)} to train on and {len(validation)} held out")
    else:
        found = read_images(data.paths, objective.labels or None)
        labels, train = found.labels, found.records
        notes += found.notes
        if data.validation_paths:
            validation = read_images(data.validation_paths, labels).records
        else:
            _require_two(labels, train, data.paths)
            train, validation = split_records(
                train, recipe.training.validation_split, recipe.training.seed, key=lambda record: record.label
            )
    _require_two(labels, train, data.paths)
    if twice := len({r.digest for r in train} & {r.digest for r in validation}):
        notes.append(f"{twice:,} validation images are among the training images too, so validation flatters")
    counts = Counter(record.label for record in train)
    return Divided(train, validation, {"labels": list(labels), "label_counts": [counts[n] for n in labels]}, notes)


def _require_two(labels: Sequence[str], train: Sequence[LabelledImage], paths: Sequence[str]) -> None:
    if len(labels) < 2 or len({record.label for record in train}) < 2:
        raise DataError(f"all images are of one class, {labels[0]!r}", where=", ".join(paths),
                        fix="give images of two classes or more, each in a folder of its name")  # fmt: skip


def read_judged(recipe: Recipe, paths: Sequence[str]) -> list[LabelledImage]:
    """Images with the classes of a run's training data."""
    assert isinstance(recipe.objective, components.Images)
    return read_images(paths, recipe.objective.labels or None).records


def images_of(argument: str) -> list[LabelledImage]:
    """The images of a file or a folder, without their classes."""
    return read_unlabelled_images([argument])
