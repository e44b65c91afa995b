"""Labelled data of a recipe: read, divided, and made into examples. One row for each kind of task."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trifecta.data.builtin_tasks import BUILTIN_TASKS, builtin_task
from trifecta.data.images import LabelledImage
from trifecta.data.sources import Scan
from trifecta.data.tasks import Dialogue, LabelledSet, read_labelled
from trifecta.errors import DataError, RecipeError
from trifecta.recipe import components
from trifecta.recipe.schema import Recipe
from trifecta.run.augmenting import Stage, fingerprints_of, stage_of, synonyms_of
from trifecta.run.divided import Divided, divide_questions, divide_tagged
from trifecta.run.near_records import note_leaks, split_apart
from trifecta.run.paired import divide_pairs, divide_prompts
from trifecta.run.pictured import BUILTINS, divide_images
from trifecta.tokenizers import Tokenizer
from trifecta.types import Example


@dataclass(frozen=True)
class TaskText:
    """Labelled data as a run's text: what `Sources` is to a text that is to be predicted.

    paths: as the recipe has them. name: for run folders.
    """

    paths: list[str]
    name: str
    divided: Divided

    @property
    def notes(self) -> list[str]:
        """What was noticed while reading."""
        return self.divided.notes

    @property
    def lasting_paths(self) -> list[str]:
        """The paths."""
        return self.paths

    def scan(self) -> Scan:
        """Fingerprint, records and characters (of images: pixels); the records' places don't matter."""
        return self._scan

    @cached_property
    def _scan(self) -> Scan:
        digest = hashlib.sha256(b"records")
        characters = size = 0
        for part in (self.divided.train, self.divided.validation):
            digest.update(b"part")
            for record in part:
                text = _identity(record)
                digest.update(text.encode("utf-8", "surrogatepass"))
                characters += record.area if isinstance(record, LabelledImage) else len(text)
                size += len(text.encode("utf-8", "surrogatepass"))
        records = len(self.divided.train) + len(self.divided.validation)
        return Scan(digest.hexdigest(), records, characters, size)


def _identity(record: Any) -> str:
    """All that a record says, but where it lies."""
    if isinstance(record, LabelledImage):
        return record.identity
    return repr({name: value for name, value in asdict(record).items() if name not in ("place", "id")})


@dataclass(frozen=True)
class Examples:
    """One part of labelled data, ready for batches. Its length is the number of tokens, as that of a token store.

    examples: of a lazy objective the samples themselves, which it prepares when a batch is made of them. augment: what
    changes them in training.
    """

    records: list[Any]
    examples: list[Any]
    characters: int
    bytes: int
    tokens: int = 0
    augment: Stage | None = None

    def __len__(self) -> int:
        return self.tokens


@dataclass(frozen=True)
class TaskData:
    """Labelled data ready for training: what `Prepared` is to a text that is to be predicted.

    fingerprints: of what else a resume has to find as it was, by name.
    """

    train: Examples
    validation: Examples
    tokenizer: Tokenizer
    scan: Scan
    fingerprint: str
    notes: list[str]
    fingerprints: Mapping[str, str] = field(default_factory=dict)


_BUILTINS = {**BUILTIN_TASKS, **BUILTINS}


def is_task(recipe: Recipe) -> bool:
    """Whether the recipe learns from labelled data."""
    return recipe.objective.type in DIVIDERS


def read_task(recipe: Recipe) -> TaskText:
    """Reads and divides a recipe's labelled data.

    Raises:
        DataError: with the file and the line.
    """
    data, divide = recipe.data, DIVIDERS[recipe.objective.type]
    if data.paths:
        name = re.sub(r"[^a-z0-9]+", "-", Path(data.paths[0]).name.partition(".")[0].lower()).strip("-")[:40] or "data"
        divided = divide(recipe, None)
        if data.validation_paths:
            note_leaks(recipe, divided.train, divided.validation, divided.notes)
        return TaskText(list(data.paths), name, divided)
    if data.builtin not in _BUILTINS:
        fitting = ", ".join(name for name, task in _BUILTINS.items() if recipe.objective.type in _serves(task))
        raise DataError(
            f"no labelled data for objective.type {recipe.objective.type}",
            fix=f"give a file, or a built-in task: data.builtin={fitting}" if fitting else "give a file",
        )
    assert data.builtin is not None
    divided = divide(recipe, data.builtin)
    note_leaks(recipe, divided.train, divided.validation, divided.notes)
    return TaskText([], data.builtin, divided)


def _classify(recipe: Recipe, builtin: str | None) -> Divided:
    objective = recipe.objective
    assert isinstance(objective, components.Classify)
    notes: list[str] = []
    if builtin is not None:
        made = builtin_task(builtin)
        labels = tuple(objective.labels) or tuple(sorted({str(record.label) for record in made.train}))
        train, validation = (LabelledSet(part, "single", labels) for part in (made.train, made.validation))
        notes = made.notes
    else:
        read = _labelled_reader(recipe)
        train = read(recipe.data.paths, tuple(objective.labels) or None)
        if recipe.data.validation_paths:
            validation = read(recipe.data.validation_paths, train.labels or None)
        else:
            train, validation = split_apart(recipe, train, notes)
    found: dict[str, Any] = {"kind": train.kind, "labels": list(train.labels)}
    if train.kind == "single":
        counts = dict.fromkeys(train.labels, 0)
        for record in train.records:
            counts[str(record.label)] += 1
        found["label_counts"] = list(counts.values())
    elif train.kind == "regression":
        numbers = np.array([record.label for record in train.records], dtype=np.float64)
        found |= {"label_mean": float(numbers.mean()), "label_scale": float(numbers.std()) or 1.0}
    return Divided(train.records, validation.records, found, notes)


def _labelled_reader(recipe: Recipe) -> Callable[[Sequence[str], Sequence[str] | None], LabelledSet]:
    data, objective = recipe.data, recipe.objective
    assert isinstance(objective, components.Classify)

    def read(paths: Sequence[str], allowed: Sequence[str] | None) -> LabelledSet:
        return read_labelled(
            paths, text_field=data.text_field, pair_field=data.pair_field, label_field=data.label_field,
            kind=objective.kind, allowed=allowed,
        )  # fmt: skip

    return read


DIVIDERS: dict[str, Callable[[Recipe, str | None], Divided]] = {
    "classify": _classify,
    "tag": divide_tagged,
    "answer": divide_questions,
    "seq2seq": divide_pairs,
    "prompted": divide_prompts,
    "images": divide_images,
}
"""objective.type -> (recipe, name of a built-in task or None) -> records."""


def prepare_task(
    recipe: Recipe,
    text: TaskText,
    tokenizer: Tokenizer,
    objective: Any,
    report: Callable[[str, float | None], None] | None = None,
) -> TaskData:
    """Tokenizes every record; images are read once, so that a damaged one is found now.

    Raises:
        DataError: one is too long and data.too_long is refuse, or damaged; or a part is empty.
    """
    notes = list(text.notes)
    parts = []
    for name, records in (("training", text.divided.train), ("validation", text.divided.validation)):
        if not records:
            raise DataError(f"the {name} part has no records", where=", ".join(text.paths), fix="give more data")
        examples, samples, tokens = [], samples_of(objective, records), 0
        lazy = getattr(objective, "lazy", False)
        for number, sample in enumerate(samples):
            example = objective.prepare(sample)
            tokens += len(example.arrays["tokens"]) if "tokens" in example.arrays else objective.positions
            if example.cut and recipe.data.too_long == "refuse":
                raise DataError(
                    f"{example.cut} tokens too long for {_limits(recipe)}",
                    where=getattr(sample, "place", None),
                    fix="shorten it, raise data.sequence_length, or set data.too_long=cut",
                )
            if not lazy:
                examples.append(example)
            if report and number % 1000 == 0:
                report(f"reading the {name} part", number / len(records))
        if cut := sum(example.cut > 0 for example in examples):
            notes.append(f"{cut:,} of {len(examples):,} {name} texts were cut to {_limits(recipe)}")
        if unknown := _unknowns(examples, tokenizer):
            notes.append(
                f"{unknown:,} tokens of the {name} texts are <unk>: the vocabulary doesn't have what stood there"
            )
        sizes = [sum(map(len, _texts(record))) for record in records]
        size = sum(len(text.encode()) for text in texts_of(records))
        parts.append(Examples(list(records), samples if lazy else examples, sum(sizes), size, tokens))
    scan = text.scan()
    synonyms = synonyms_of(recipe, text.divided.train)
    if synonyms is not None:
        notes.append(f"{len(synonyms):,} of the training texts' words have synonyms")
    train = replace(parts[0], augment=stage_of(recipe, objective, text.divided.train, synonyms))
    return TaskData(train, parts[1], tokenizer, scan, scan.fingerprint, notes, fingerprints_of(synonyms))


def _limits(recipe: Recipe) -> str:
    """The keys that say how long a text may be, and their values."""
    keys = f"data.sequence_length {recipe.data.sequence_length}"
    if isinstance(recipe.objective, components.Seq2Seq):
        keys += f" (source) or objective.max_target_length {recipe.objective.max_target_length} (target)"
    return keys


def _unknowns(examples: list[Example], tokenizer: Tokenizer) -> int:
    """Tokens that stand for what the vocabulary lacks, in what is read and in what is to be written."""
    if tokenizer.unk_id is None:
        return 0
    arrays = [e.arrays[name] for e in examples for name in ("tokens", "decoder_tokens") if name in e.arrays]
    return sum(int((array == tokenizer.unk_id).sum()) for array in arrays)


def samples_of(objective: Any, records: Iterable[Any]) -> list[Any]:
    """What the objective makes samples of: the records, or several of each (windows of a long context)."""
    expand = getattr(objective, "expand", None)
    return list(records) if expand is None else expand(records)


def texts_of(records: Iterable[Any]) -> list[str]:
    """Every text of the records, for the training of a tokenizer."""
    return [text for record in records for text in _texts(record)]


def texts_around(recipe: Recipe) -> list[str]:
    """What the recipe puts around texts, for the training of a tokenizer: without it a blank could be unknown."""
    objective = recipe.objective
    if isinstance(objective, components.Seq2Seq):
        return [objective.prefix]
    return re.split(r"\{\w+\}", objective.template) if isinstance(objective, components.Prompted) else []


def _texts(record: Any) -> list[str]:
    """Every text of a record."""
    if isinstance(record, Dialogue):
        return [content for _, content in record.turns]
    if isinstance(record, LabelledImage):
        return []
    return [value for name, value in vars(record).items() if isinstance(value, str) and name not in ("place", "id")]


def _serves(task: str) -> tuple[str, ...]:
    """Types of the objectives that can learn a built-in task of this type."""
    return ("seq2seq", "prompted") if task in ("translate", "summarize") else (task,)


def refuse_unknown_builtin(recipe: Recipe) -> None:
    """A built-in task serves one kind of objective.

    Raises:
        RecipeError: the chosen one serves another.
    """
    name = recipe.data.builtin
    if name in _BUILTINS and not recipe.data.paths and recipe.objective.type not in _serves(_BUILTINS[name]):
        raise RecipeError(
            f"data.builtin {name} is labelled for the task {_BUILTINS[name]}, not for objective.type "
            f"{recipe.objective.type}",
            fix=f"trifecta train --arch vit data.builtin={name}" if name in BUILTINS else
            f"trifecta finetune RUN --task {_BUILTINS[name]} data.builtin={name}",
        )  # fmt: skip
