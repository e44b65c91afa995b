"""Edited words: what they keep, whatever is drawn."""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trifecta.data import words as module
from trifecta.data.edits import edited, words_of
from trifecta.data.synonyms import load_synonyms, neighbours, read_mythes, read_wordnet
from trifecta.data.tasks import Labelled, Pair, Question, Tagged
from trifecta.data.words import Unit, WordEdits, text_of, units_of, word_spans
from trifecta.errors import DataError
from trifecta.randomness import numpy_generator

pytestmark = pytest.mark.fast

LETTERS = "abcdefghij"
SYNONYMS = {letter * 3: (letter.upper() + "syn", "two words") for letter in LETTERS}
ALL = WordEdits(delete=0.3, swap=0.3, insert=0.4, replace=0.4, synonyms=SYNONYMS)


def edit_of(edits: WordEdits, number: int) -> Any:
    generator = numpy_generator(1, "augment", 0, number)
    return lambda units: edits(units, generator)


def text(seed: int, count: int = 12) -> str:
    rng = random.Random(seed)
    return "".join(rng.choice(LETTERS) * 3 + rng.choice([" ", ", ", ". ", " "]) for _ in range(count)).strip()


def question(seed: int) -> Question:
    """Answers in the middle of the context, one of them beside a sign and one in the middle of a word."""
    context = f"{text(seed)} $55-b, {text(seed + 1)} NAMED one"
    found = [("$55", context.index("$55")), ("AMED o", context.index("AMED o")), ("$55-b", context.index("$55"))]
    return Question("q", "what is aaa?", context, tuple(found), "x:1")


def tagged(seed: int) -> Tagged:
    sentence = f"{text(seed, 5)} Ann of Rome, {text(seed + 1, 4)} Bo {text(seed + 2, 2)}"
    words = tuple(match.span() for match in module.re.finditer(r"\w+|[^\w\s]", sentence))
    names = {"Ann": "B-PER", "of": "I-PER", "Rome": "I-PER", "Bo": "B-LOC"}
    return Tagged(sentence, words, tuple(names.get(sentence[a:b], "O") for a, b in words), "x:1")


@pytest.mark.parametrize("number", range(40))
def test_an_answer_is_where_it_is_said_to_be(number: int) -> None:
    before = question(number)
    after = edited(before, edit_of(ALL, number))
    assert after.question == before.question
    assert [answer for answer, _ in after.answers] == [answer for answer, _ in before.answers]
    for answer, start in after.answers:
        assert after.context[start : start + len(answer)] == answer


def test_control_an_answer_whose_place_stays_is_noticed() -> None:
    moved = 0
    for number in range(40):
        before = question(number)
        after = edited(before, edit_of(ALL, number))
        moved += any(not after.context.startswith(answer, start) for answer, start in before.answers)
    assert moved > 20


@pytest.mark.parametrize("number", range(40))
def test_entities_stay_whole_and_tags_stay_bio(number: int) -> None:
    before = tagged(number)
    after = edited(before, edit_of(ALL, number))
    assert entities(after) == entities(before)
    assert len(after.words) == len(after.tags)
    assert all(0 <= a < b <= len(after.text) for a, b in after.words)
    assert all(one[1] <= other[0] for one, other in zip(after.words, after.words[1:], strict=False))
    assert all(tag[0] != "I" or after.tags[n - 1][1:] == tag[1:] for n, tag in enumerate(after.tags)), (
        "an inside goes on with an entity"
    )


def entities(record: Tagged) -> list[tuple[str, str]]:
    found: list[tuple[int, int, str]] = []
    for (start, stop), tag in zip(record.words, record.tags, strict=True):
        if tag.startswith("B-"):
            found.append((start, stop, tag[2:]))
        elif tag.startswith("I-"):
            found[-1] = (found[-1][0], stop, tag[2:])
    return [(record.text[start:stop], label) for start, stop, label in found]


def test_control_entities_that_are_not_fixed_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = WordEdits.__call__

    def loose(self: WordEdits, units: Any, generator: Any) -> Any:
        made = plain(self, [Unit(u.before, u.text, False, u.origin) for u in units], generator)
        return [Unit(u.before, u.text, u.origin is not None and units[u.origin].fixed, u.origin) for u in made]

    monkeypatch.setattr(WordEdits, "__call__", loose)
    wrong = sum(entities(edited(tagged(n), edit_of(ALL, n))) != entities(tagged(n)) for n in range(40))
    assert wrong > 20


def test_units_make_the_text_that_they_came_from() -> None:
    for seed in range(10):
        whole = f"  {text(seed)}!? "
        units, tail = units_of(whole, word_spans(whole))
        assert text_of(units, tail)[0] == whole
        made, starts = text_of(units, tail)
        assert all(made.startswith(unit.text, start) for unit, start in zip(units, starts, strict=True))


def test_each_edit_does_what_it_is_called() -> None:
    whole = " ".join(letter * 3 for letter in LETTERS)

    def by(**edits: float) -> str:
        made = edited(Labelled(whole, None, "x", "p"), edit_of(WordEdits(**edits, synonyms=SYNONYMS), 3))  # type: ignore[arg-type]
        return str(made.text)

    words = Counter(whole.split())
    assert by() == whole
    swapped = by(swap=0.5)
    assert swapped != whole
    assert Counter(swapped.split()) == words
    deleted = by(delete=0.5)
    assert set(deleted.split()) < set(words)
    assert "  " not in deleted
    inserted = by(insert=0.5).replace("two words", "two_words")
    assert len(inserted.split()) == 15
    assert words <= Counter(inserted.split())
    replaced = by(replace=0.5).replace("two words", "two_words")
    assert len(replaced.split()) == 10
    assert sum((words - Counter(replaced.split())).values()) == 5


def test_a_text_keeps_a_word_and_capitals_stay() -> None:
    for number in range(20):
        assert edited(Pair("one", "t", "p"), edit_of(WordEdits(delete=0.99), number)).source == "one"
    made = edited(Pair("Big BIG big", "t", "p"), edit_of(WordEdits(replace=0.99, synonyms={"big": ("large",)}), 2))
    assert set(made.source.split()) <= {"Large", "LARGE", "large", "Big", "BIG", "big"}
    assert made.source.lower().count("large") >= 2
    assert made.target == "t"
    assert edited(Pair("!? ...", "t", "p"), edit_of(ALL, 0)).source == "!? ...", "no word, nothing to edit"


def test_left_out_words_leave_punctuation_and_one_space() -> None:
    units, tail = units_of("one, two (three) four.", word_spans("one, two (three) four."))
    for number in range(40):
        made = text_of(WordEdits(delete=0.5)(units, numpy_generator(0, "x", number)), tail)[0]
        assert "  " not in made
        assert not made.startswith((" ", ","))
        assert made.endswith(".")


def test_words_of_records() -> None:
    assert "$55" not in words_of([question(0)])
    assert "ann" not in words_of([tagged(0)])
    assert words_of([Labelled("One two", "Three", "x", "p")]) == {"one", "two", "three"}


def test_tables_of_synonyms(tmp_path: Path) -> None:
    path = tmp_path / "own.tsv"
    path.write_text("Big\tlarge\thuge\n\nsmall\ttiny\nbig\tgreat\tbig\n")
    assert load_synonyms("file", str(path), {"big", "red"}) == {"big": ("large", "huge", "great")}
    for content, said in (("", "no synonyms"), ("big\n", "without a synonym"), ("big\t\tx\n", "empty cell"),
                          ("red\tblue\n", "none of the 1 words")):  # fmt: skip
        path.write_text(content)
        with pytest.raises(DataError, match=said):
            load_synonyms("file", str(path), {"big"})


def test_mythes(tmp_path: Path) -> None:
    path = tmp_path / "th_en_US_v2.dat"
    path.write_bytes(
        "ISO8859-1\nbig|2\n(adj)|large|small (antonym)|great (similar term)\n(adv)|grandly\ncaf\xe9|1\n(noun)|bar\n"
        "the|1\n(x)|that\n".encode("latin-1")
    )  # fmt: skip
    found = dict(read_mythes(str(path.with_suffix(".idx")), {"big", "caf\xe9"}))
    assert found == {"big": ("large", "great", "grandly"), "caf\xe9": ("bar",)}
    with pytest.raises(DataError, match="none of the 1 words"):
        load_synonyms("mythes", str(path), {"the"})  # a common word
    path.write_text("UTF-8\nno bar here\n")
    with pytest.raises(DataError, match=r"`word\|number` was wanted"):
        list(read_mythes(str(path), {"big"}))
    path.write_bytes(b"UTF-8\n\xff|0\n")
    with pytest.raises(DataError, match="no thesaurus can be read"):
        list(read_mythes(str(path), {"big"}))


def test_nothing_installed_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trifecta.data.synonyms.MYTHES_FOLDERS", ("/nowhere",))
    with pytest.raises(DataError, match="mythes-en-us"):
        load_synonyms("mythes", None, {"big"})


class Synset:
    """As NLTK has them."""

    def __init__(self, *names: str):
        self._names = list(names)

    def lemma_names(self) -> list[str]:
        return self._names


def install_wordnet(monkeypatch: pytest.MonkeyPatch, synsets: dict[str, list[Synset]]) -> list[str]:
    """Stands in for `nltk.corpus.wordnet`; the words that it is asked for."""
    asked: list[str] = []

    class Wordnet:
        def synsets(self, word: str) -> list[Synset]:
            asked.append(word)
            return synsets.get(word, [])

    package, corpus = ModuleType("nltk"), ModuleType("nltk.corpus")
    vars(corpus)["wordnet"] = Wordnet()
    monkeypatch.setitem(sys.modules, "nltk", package)
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)
    return asked


def test_wordnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Underscores become spaces, the word itself is none of its synonyms, each is there once, and no common word is
    looked up."""
    synsets = {
        "dog": [Synset("dog", "domestic_dog", "Canis_familiaris"), Synset("Dog", "frump", "domestic_dog")],
        "sole": [Synset("sole")],
    }
    asked = install_wordnet(monkeypatch, synsets)
    assert dict(read_wordnet(["dog"])) == {"dog": ("domestic dog", "Canis familiaris", "frump")}
    asked.clear()
    found = load_synonyms("wordnet", None, ["the", "dog", "and", "sole", "unheard", "dog"])
    assert found == {"dog": ("domestic dog", "Canis familiaris", "frump")}
    assert asked == ["dog", "sole", "unheard"]
    with pytest.raises(DataError, match=r"none of the 2 words of the data has a synonym there"):
        load_synonyms("wordnet", None, ["the", "sole"])


@pytest.mark.parametrize("error", [ImportError, LookupError])
def test_a_wordnet_that_is_not_there_says_what_to_do(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the package, nor its data, which NLTK reports as a LookupError at the first word."""
    if error is ImportError:
        monkeypatch.setitem(sys.modules, "nltk", None)
        monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    else:
        install_wordnet(monkeypatch, {})

        def missing(_: str) -> list[Synset]:
            raise LookupError("Resource wordnet not found")

        monkeypatch.setattr(sys.modules["nltk.corpus"].wordnet, "synsets", missing)
    with pytest.raises(DataError, match="NLTK's WordNet isn't there") as caught:
        load_synonyms("wordnet", None, ["dog"])
    assert "nltk.downloader wordnet" in (caught.value.fix or "")


def test_neighbours_are_the_nearest_by_cosine() -> None:
    import numpy as np

    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(30, 16))
    vectors[1] = vectors[0] * 3 + 0.01
    vectors[2] = vectors[0] + 0.3 * generator.normal(size=16)
    names = [f"w{n}" for n in range(30)]
    found = neighbours(vectors, names)
    assert found["w0"][:2] == ("w1", "w2")
    assert all(name not in others and len(others) <= 5 for name, others in found.items())
