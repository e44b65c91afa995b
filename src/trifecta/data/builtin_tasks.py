"""Fine-tuning tasks that need no download, each split so that validation asks for more than memory.

Of one name, the same records on every call and on every machine with the same packages and the same Python.
"""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from trifecta.data import stage
from trifecta.data.builtin import _INSTALL
from trifecta.data.grammar import generate_sentences
from trifecta.data.tasks import Labelled, Pair, Question
from trifecta.errors import DataError
from trifecta.randomness import key, permute
from trifecta.registry import lookup

Parts = tuple[list[Any], list[Any]]

_SEED = 0
_DATES = (4_000, 400)
"""Days to train on, and held-out days; each is written in every language."""
_FIRST_DAY, _LAST_DAY = date(1900, 1, 1), date(2100, 12, 31)
_LANGUAGES = {"French": "fr", "German": "de"}
_SENTENCES = 12_000
_HELD_OUT_SENTENCES = 0.1
_HELD_OUT_MODULES = 0.12
_FEWEST_QUOTES = 8
"""Files with fewer triple quotes aren't parsed, which would take most of the time."""
_LINES = (3, 40)
_SUMMARY_WORDS = (3, 30)
_MOST_DOCSTRINGS = 4_000
_NOT_READ = frozenset(
    {"__pycache__", "distutils", "encodings", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test",
     "tests", "tkinter", "turtledemo"}
)  # fmt: skip
"""Folders of the standard library that some installations lack, or that hold hardly a docstring."""


@dataclass(frozen=True)
class BuiltinTask:
    """Records of one kind, and what a model has to beat: name of a figure -> its value on the validation part."""

    name: str
    train: list[Any]
    validation: list[Any]
    notes: list[str]
    baselines: dict[str, float]


@dataclass(frozen=True)
class _Task:
    type: str
    parts: Callable[[], Parts]
    text: Callable[[], Iterator[str]]
    baselines: Callable[[list[Any], list[Any]], dict[str, float]]
    note: str


@cache
def builtin_task(name: str) -> BuiltinTask:
    """Records of a built-in task; made once in a process.

    Raises:
        DataError: a package of the samples is missing. RecipeError: no such task.
    """
    task = lookup(_TASKS, name, "built-in task")
    train, validation = task.parts()
    baselines = task.baselines(train, validation)
    to_beat = ", ".join(f"{what.replace('_', ' ')} {value:.1%}" for what, value in baselines.items())
    notes = [
        f"task: {name}, {len(train)} records to train on and {len(validation)} held out", task.note,
        f"to beat on what is held out: {to_beat}",
    ]  # fmt: skip
    return BuiltinTask(name, train, validation, notes, baselines)


def task_text(name: str) -> Iterator[str]:
    """Text of the training part, in documents that end in a line end, to train a tokenizer or a first model on.

    Raises:
        DataError: a package of the samples is missing. RecipeError: no such task.
    """
    return lookup(_TASKS, name, "built-in task").text()


def _play_parts(records: Callable[[list[stage.Play]], list[Any]], text: Callable[[Any], str]) -> Parts:
    train, validation = map(records, stage.read_parts())
    return train, _unseen(train, validation, text)


def _unseen(train: list[Any], validation: list[Any], text: Callable[[Any], str]) -> list[Any]:
    """Records whose text isn't in the training part."""
    seen = {text(record).casefold() for record in train}
    return [record for record in validation if text(record).casefold() not in seen]


def _play_text() -> Iterator[str]:
    yield from map(stage.play_script, stage.read_parts()[0])


def _date_parts() -> Parts:
    days = (_LAST_DAY - _FIRST_DAY).days + 1
    order = permute(np.arange(sum(_DATES)), days, key(_SEED, "dates")).tolist()
    train, validation = order[: _DATES[0]], order[_DATES[0] :]
    return _date_pairs(train), _date_pairs(validation)


def _date_pairs(days: list[int]) -> list[Pair]:
    return [_date_pair(day, language) for day in days for language in _LANGUAGES]


def _date_pair(day: int, language: str) -> Pair:
    try:
        from babel.dates import format_date
    except ImportError as error:
        raise DataError("dates are written by the package babel, which isn't installed", fix=_INSTALL) from error
    written, form = _FIRST_DAY + timedelta(days=day), ("full", "long")[key(_SEED, "form", day) % 2]
    english, other = (format_date(written, form, locale=code) for code in ("en_US", _LANGUAGES[language]))
    return Pair(source=f"translate English to {language}: {english}", target=other, place=f"dates:{written}")


def _date_text() -> Iterator[str]:
    return (f"{pair.source}\n{pair.target}\n" for pair in _date_parts()[0])


def _docstring_parts() -> Parts:
    files, pairs = _modules(), dict[str, Pair]()
    for module in sorted(files):
        for file in files[module]:
            for pair in _documented(file):
                pairs.setdefault(pair.source, pair)
    order = permute(np.arange(len(pairs)), len(pairs), key(_SEED, "docstrings"))[:_MOST_DOCSTRINGS]
    found, held_out = list(pairs.values()), _held_out_modules(files)
    chosen = [found[i] for i in sorted(order.tolist())]
    train, validation = list[Pair](), list[Pair]()
    for pair in chosen:
        (validation if _module_of(pair.place) in held_out else train).append(pair)
    return train, validation


def _modules() -> dict[str, list[Path]]:
    """Top-level modules of the standard library -> their files.

    Raises:
        DataError: its source isn't there, as where it is packed in an archive.
    """
    root = _library()
    found: dict[str, list[Path]] = {}
    for name in sorted(sys.stdlib_module_names - _NOT_READ):
        files = [root / f"{name}.py", *sorted((root / name).rglob("*.py"))]
        if files := [f for f in files if f.is_file() and not _NOT_READ.intersection(f.relative_to(root).parts)]:
            found[name] = files
    if len(found) < 50:
        raise DataError(
            "the source of Python's standard library isn't there", where=str(root),
            fix="install Python from python.org, or choose another task",
        )  # fmt: skip
    return found


@cache
def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _held_out_modules(modules: dict[str, list[Path]]) -> frozenset[str]:
    """By a hash of its name, a module is in the same part whichever others there are."""
    return frozenset(name for name in modules if key(_SEED, f"module {name}") % 1000 < 1000 * _HELD_OUT_MODULES)


def _module_of(place: str) -> str:
    return re.split(r"[/.]", place, maxsplit=1)[0]


@cache
def _documented(file: Path) -> tuple[Pair, ...]:
    """Functions and methods of a file, each without its docstring -> the docstring's first sentence."""
    source = file.read_text(encoding="utf-8", errors="replace")
    if source.count('"""') < _FEWEST_QUOTES:
        return ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    # Form feeds, which str.splitlines counts as line ends, are not lines to ast.
    lines, place = source.split("\n"), file.relative_to(_library()).as_posix()
    return tuple(pair for function in _functions(tree.body) if (pair := _summarized(function, lines, place)))


def _functions(body: Sequence[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node.body)


def _summarized(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str], place: str) -> Pair | None:
    docstring, first = ast.get_docstring(function), function.body[0]
    own_lines = (
        function.body[1:] and function.body[1].lineno > (first.end_lineno or 0) and first.lineno > function.lineno
    )
    if not docstring or not own_lines:
        return None
    kept = lines[function.lineno - 1 : first.lineno - 1] + lines[first.end_lineno or 0 : function.end_lineno or 0]
    # A line of a text in quotes may stand further left than the function.
    kept = [line.removeprefix(" " * function.col_offset) for line in kept if line.strip()]
    summary = first_sentence(docstring)
    if not (_LINES[0] <= len(kept) <= _LINES[1] and _SUMMARY_WORDS[0] <= len(summary.split()) <= _SUMMARY_WORDS[1]):
        return None
    return Pair(source="\n".join(kept), target=summary, place=f"{place}:{function.lineno}")


def first_sentence(docstring: str) -> str:
    """The first paragraph up to a full stop that a blank or the paragraph's end follows, in one line."""
    paragraph = " ".join(re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0].split())
    return re.split(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.) ", paragraph, maxsplit=1)[0]


def _docstring_text() -> Iterator[str]:
    modules = _modules()
    for module in sorted(modules.keys() - _held_out_modules(modules)):
        for file in modules[module]:
            yield file.read_text(encoding="utf-8", errors="replace").rstrip("\n") + "\n"


def _grammar_parts() -> Parts:
    sentences = list(dict.fromkeys(generate_sentences(_SENTENCES, _SEED)))
    records = [
        Labelled(text=text.strip(), pair=None, label=number_of(text), place=f"grammar:{line}")
        for line, text in enumerate(sentences, 1)
    ]
    # Frequent sentences come first, so the held-out ones are drawn from everywhere.
    order = permute(np.arange(len(records)), len(records), key(_SEED, "grammar")).tolist()
    held_out = round(_HELD_OUT_SENTENCES * len(records))
    return [records[i] for i in order[held_out:]], [records[i] for i in order[:held_out]]


def number_of(sentence: str) -> str:
    """Which rule of SENTENCE made it: ONE begins with `the`, MANY with `all`, and only ASKED ends with `?`."""
    if sentence.rstrip().endswith("?"):
        return "question"
    return "singular" if sentence.startswith("the ") else "plural"


def _grammar_text() -> Iterator[str]:
    return (f"{record.text}\n" for record in _grammar_parts()[0])


def unigram_f1(predicted: str, truth: str) -> float:
    """2 * shared / (words of both), where case and signs don't count and a word counts as often as it is there."""
    left, right = (Counter(re.findall(r"\w+", text.casefold())) for text in (predicted, truth))
    total = left.total() + right.total()
    return 2 * (left & right).total() / total if total else 1.0


def _mean(values: Iterator[float]) -> float:
    return float(np.mean(list(values)))


def _majority(train: list[Labelled], validation: list[Labelled]) -> dict[str, float]:
    most = Counter(record.label for record in train).most_common(1)[0][0]
    return {"majority_accuracy": _mean(record.label == most for record in validation)}


def _first_speaker(_: list[Question], validation: list[Question]) -> dict[str, float]:
    """Figures of answering every question, also one without an answer, with the first speaker."""
    said = [(q.context.partition(":")[0], [text for text, _ in q.answers]) for q in validation]
    return {
        "first_speaker_exact_match": _mean(speaker in answers for speaker, answers in said),
        "first_speaker_f1": _mean(
            max((unigram_f1(speaker, a) for a in answers), default=0.0) for speaker, answers in said
        ),
    }


def _copied(_: list[Pair], validation: list[Pair]) -> dict[str, float]:
    """Figures of giving the English date back."""
    copies = [(pair.source.partition(": ")[2], pair.target) for pair in validation]
    return {
        "copy_exact_match": _mean(copy == target for copy, target in copies),
        "copy_unigram_f1": _mean(unigram_f1(copy, target) for copy, target in copies),
    }


def _function_names(_: list[Pair], validation: list[Pair]) -> dict[str, float]:
    return {"function_name_unigram_f1": _mean(unigram_f1(name_words(p.source), p.target) for p in validation)}


def name_words(source: str) -> str:
    """The function's name in words: `def get_maxInt(` gives `get max int`."""
    name = re.split(r"\bdef\s+", source, maxsplit=1)[1].partition("(")[0]
    return " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)).lower()


_TASKS: dict[str, _Task] = {
    "genre": _Task(
        "classify", lambda: _play_parts(stage.genre_records, lambda record: record.text), _play_text, _majority,
        "a speech's genre, as the First Folio sorts the plays; no play is in both parts",
    ),
    "characters": _Task(
        "tag", lambda: _play_parts(stage.character_records, lambda record: record.text), _play_text,
        stage.entity_baselines,
        "characters' names in directions; the source's capitals became normal case, and a fourth of the directions "
        "have no capital at all; no play is in both parts",
    ),
    "who-says": _Task(
        "answer", lambda: _play_parts(stage.question_records, lambda question: question.context), _play_text,
        _first_speaker,
        "who says a line of the context; about a tenth of the lines are from elsewhere and have no answer; no play is "
        "in both parts",
    ),
    "dates": _Task(
        "translate", _date_parts, _date_text, _copied,
        "English dates of 1900 to 2100 in French and German; no day is in both parts",
    ),
    "docstrings": _Task(
        "summarize", _docstring_parts, _docstring_text, _function_names,
        f"functions of the standard library of Python {sys.version_info.major}.{sys.version_info.minor} and their "
        "docstrings' first sentence; no module is in both parts",
    ),
    "grammar-agreement": _Task(
        "classify", _grammar_parts, _grammar_text, _majority,
        "sentences of the grammar world, singular, plural or question; 100 % can be reached",
    ),
}  # fmt: skip
BUILTIN_TASKS: dict[str, str] = {name: task.type for name, task in _TASKS.items()}
"""Name of a built-in task -> its type: classify, tag, answer, translate or summarize."""
