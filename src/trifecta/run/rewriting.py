"""Labelled files with changed copies of their records: what `trifecta augment` writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from trifecta.data.edits import edited, words_of
from trifecta.data.files import InputFile
from trifecta.data.synonyms import load_synonyms
from trifecta.data.tasks import Labelled, Pair, Question, Tagged, read_questions, read_tagged
from trifecta.data.tasks.labelled import class_of_file, find_columns
from trifecta.data.tasks.objects import kind_of, read_objects, require_text, text_of_file
from trifecta.data.tasks.pairs import find_sides, read_pair_table
from trifecta.data.tasks.tables import input_files, read_table, value_of
from trifecta.data.words import WordEdits
from trifecta.errors import RecipeError
from trifecta.randomness import numpy_generator
from trifecta.run.augmenting import embedding_neighbours
from trifecta.run.proposals import BackTranslation, Substitution

Report = Callable[[str, float | None], None]
Rewrite = Callable[[Sequence[Any], int], list[Any]]
"""Records, number of the copy -> a changed record for each."""

METHODS = ("eda", "synonyms", "insert", "swap", "delete", "substitute", "back-translate")
_WITH_SYNONYMS = ("eda", "synonyms", "insert")
_BY_TRANSLATION = ("back-translate",)
_ACT_IN: dict[str, Sequence[str]] = {
    "share": METHODS[:-1], "synonyms": _WITH_SYNONYMS, "synonyms_path": _WITH_SYNONYMS, "model": ("substitute",),
    "forward": _BY_TRANSLATION, "backward": _BY_TRANSLATION, "temperature": _BY_TRANSLATION,
}  # fmt: skip
"""Options that some methods have no use for -> the methods that have."""
SYNONYMS = ("file", "mythes", "wordnet", "embeddings")
TASKS = ("classify", "tag", "answer", "translate")


@dataclass(frozen=True)
class Source:
    """A record, and what makes an object of it, or of a copy, for a .jsonl file; it gets the copy's number, 0 first."""

    record: Any
    write: Callable[[Any, int], dict[str, Any]]


@dataclass(frozen=True)
class Wanted:
    """How copies are made. share: of the words that are changed, 0.1 if None. model, forward, backward: runs."""

    method: str
    share: float | None = None
    seed: int = 0
    synonyms: str | None = None
    synonyms_path: str | None = None
    model: str | None = None
    forward: str | None = None
    backward: str | None = None
    temperature: float | None = None
    batch_size: int = 32


@dataclass(frozen=True)
class Written:
    """What was made. lines: objects in JSON. unchanged: copies that were left out, being what was there already."""

    lines: list[str]
    records: int
    copies: int
    unchanged: int


def augment_files(
    paths: Sequence[str], task: str, wanted: Wanted, *, copies: int = 1, only_copies: bool = False,
    report: Report | None = None,
) -> Written:  # fmt: skip
    """The records of labelled files, and changed copies of them after each.

    Raises:
        DataError: files that can't be read, or no synonyms. RecipeError: no such method or task, an option that it has
            no use for, a run of the wrong kind, or a task whose labels it can't keep. CheckpointError: no such run.
    """
    _require_sense(task, wanted, copies)
    sources = list(_READERS[task](paths))
    records = [source.record for source in sources]
    rewrite = _rewriter(records, task, wanted, report)
    made = [rewrite(records, copy) for copy in range(1, copies + 1)]
    lines, unchanged = [], 0
    for number, source in enumerate(sources):
        seen = [replace(source.record, place="")]
        if not only_copies:
            lines.append(_json(source.write(source.record, 0)))
        for several in made:
            if (plain := replace(several[number], place="")) in seen:
                unchanged += 1
                continue
            seen.append(plain)
            lines.append(_json(source.write(several[number], len(seen) - 1)))
    written = copies * len(records) - unchanged
    return Written(lines, len(records), written, unchanged)


def _require_sense(task: str, wanted: Wanted, copies: int) -> None:
    named = [("--task", task, TASKS), ("--method", wanted.method, METHODS)]
    for option, value, known in [*named, *([("--synonyms", wanted.synonyms, SYNONYMS)] if wanted.synonyms else [])]:
        if value not in known:
            raise RecipeError(f"unknown {value!r}", where=option, fix=f"use one of: {', '.join(known)}")
    for name, methods in _ACT_IN.items():
        if getattr(wanted, name) is not None and wanted.method not in methods:
            raise RecipeError(
                f"it can't take effect with the method {wanted.method}", where=f"--{name.replace('_', '-')}",
                fix=f"leave it out, or choose another method: {', '.join(methods)}",
            )  # fmt: skip
    if wanted.method in _BY_TRANSLATION and copies > 1 and not wanted.temperature:
        raise RecipeError("without a --temperature all copies would be the same", where="--copies",
                          fix="give --temperature 0.8, say, or one copy")  # fmt: skip


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _rewriter(records: Sequence[Any], task: str, wanted: Wanted, report: Report | None) -> Rewrite:
    share = 0.1 if wanted.share is None else wanted.share
    if wanted.method == "substitute":
        return Substitution.by(wanted.model, share, wanted.seed, wanted.batch_size, report)
    if wanted.method == "back-translate":
        if task in ("tag", "answer"):
            raise RecipeError(
                f"back-translation writes a text anew, so the labels of {task} would lose their places", where="--task",
                fix=f"use one of the other methods: {', '.join(METHODS[:-1])}",
            )  # fmt: skip
        return BackTranslation.by(
            wanted.forward, wanted.backward, wanted.temperature or 0.0, wanted.seed, wanted.batch_size, report
        )
    synonyms = {}
    if wanted.method in _WITH_SYNONYMS:
        if wanted.synonyms is None:
            raise RecipeError(f"the method {wanted.method} needs synonyms", where="--synonyms",
                              fix="give --synonyms file, mythes, wordnet or embeddings")  # fmt: skip
        if wanted.synonyms in ("file", "embeddings") and wanted.synonyms_path is None:
            raise RecipeError(f"--synonyms {wanted.synonyms} needs a path", where="--synonyms-path", fix="name it")
        synonyms = load_synonyms(wanted.synonyms, wanted.synonyms_path, words_of(records), embedding_neighbours)
    chosen = {"synonyms": "replace"}.get(wanted.method, wanted.method)
    names = ("delete", "swap", "insert", "replace") if chosen == "eda" else (chosen,)
    edits = WordEdits(**dict.fromkeys(names, share), synonyms=synonyms)

    def rewrite(records: Sequence[Any], copy: int) -> list[Any]:
        made = []
        for number, record in enumerate(records):
            if report and number % 500 == 0:
                report(f"copy {copy}", number / len(records))
            generator = numpy_generator(wanted.seed, "offline augment", copy, number)
            made.append(edited(record, partial(edits, generator=generator)))
        return made

    return rewrite


def _read_classes(paths: Sequence[str]) -> Iterator[Source]:
    for file in input_files(paths):
        if kind_of(file) == "text":
            yield _of_a_folder(file)
            continue
        table = read_table(file)
        text, pair, _ = find_columns(table)
        for row in table.rows:
            first = require_text(value_of(row, text), f"the text in {text!r}", row.place)
            second = require_text(value_of(row, pair), f"the text in {pair!r}", row.place) if pair else None

            def write(
                record: Labelled, copy: int, fields: Any = row.fields, text: str = text, pair: str | None = pair
            ) -> dict[str, Any]:
                del copy
                return {**fields, text: record.text, **({pair: record.pair} if pair else {})}

            yield Source(Labelled(first, second, "", row.place), write)


def _of_a_folder(file: InputFile) -> Source:
    label = class_of_file(file)
    text = require_text(text_of_file(file), "the text", file.place)
    return Source(Labelled(text, None, "", file.place), lambda record, _: {"text": record.text, "label": label})


def _read_tags(paths: Sequence[str]) -> Iterator[Source]:
    for file in input_files(paths):
        is_json = kind_of(file) in ("json", "jsonl")
        objects = [fields for _, fields in read_objects(file)] if is_json else None
        for number, record in enumerate(read_tagged([file.path])):
            fields = objects[number] if objects is not None else {"tokens": [], "tags": []}

            def write(record: Tagged, copy: int, fields: Any = fields) -> dict[str, Any]:
                del copy
                return _tagged_object(record, fields)

            yield Source(record, write)


def _tagged_object(record: Tagged, fields: dict[str, Any]) -> dict[str, Any]:
    """Tokens and tags where there were tokens, else text and entities; other fields stay."""
    rest = {name: value for name, value in fields.items() if name not in ("tags", "ner_tags", "spans", "entities")}
    if "tokens" in fields:
        return {**rest, "tokens": [record.text[a:b] for a, b in record.words], "tags": list(record.tags)}
    entities: list[dict[str, Any]] = []
    for (start, stop), tag in zip(record.words, record.tags, strict=True):
        if tag.startswith("B-"):
            entities.append({"start": start, "end": stop, "label": tag[2:]})
        elif tag.startswith("I-"):
            entities[-1]["end"] = stop
    return {**rest, "text": record.text, "entities": entities}


def _read_answers(paths: Sequence[str]) -> Iterator[Source]:
    for file in input_files(paths):
        squad = kind_of(file) == "json" and text_of_file(file).lstrip().startswith("{")
        objects = [] if squad else [fields for _, fields in read_objects(file)]
        for number, record in enumerate(read_questions([file.path])):
            fields = {} if squad else objects[number]

            def write(record: Question, copy: int, fields: Any = fields) -> dict[str, Any]:
                named = {} if record.id == record.place else {"id": f"{record.id}-{copy}" if copy else record.id}
                answers = {"text": [text for text, _ in record.answers], "answer_start": [n for _, n in record.answers]}
                return {**fields, **named, "question": record.question, "context": record.context, "answers": answers}

            yield Source(record, write)


def _read_sources(paths: Sequence[str]) -> Iterator[Source]:
    for file in input_files(paths):
        table = read_pair_table(file)
        source, target = find_sides(table)
        for row in table.rows:
            texts = [require_text(value_of(row, name), f"the side {name!r}", row.place) for name in (source, target)]

            def write(record: Pair, copy: int, fields: Any = row.fields, source: str = source) -> dict[str, Any]:
                del copy
                return {**fields, source: record.source}

            yield Source(Pair(texts[0], texts[1], row.place), write)


_READERS: dict[str, Callable[[Sequence[str]], Iterator[Source]]] = {
    "classify": _read_classes,
    "tag": _read_tags,
    "answer": _read_answers,
    "translate": _read_sources,
}


def require_new_jsonl(out: str, paths: Sequence[str], force: bool) -> Path:
    """The path of the file that is to be written.

    Raises:
        RecipeError: its name doesn't end in .jsonl, it is one of the inputs, or it is there and isn't to be replaced.
    """
    path = Path(out)
    if path.suffix != ".jsonl":
        raise RecipeError("the copies are written as .jsonl", where=out, fix="let the name end in .jsonl")
    if path.exists() and any(Path(given).exists() and path.samefile(given) for given in paths):
        raise RecipeError("this file is read from", where=out, fix="choose another name")
    if path.exists() and not force:
        raise RecipeError("this file exists already", where=out, fix="choose another name, or give --force")
    return path
