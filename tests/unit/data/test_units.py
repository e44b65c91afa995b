"""Documents split into paragraphs, lines and sentences, wherever their chunks end."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trifecta.data import units
from trifecta.data.units import LONGEST_UNIT, Unit, split_documents

pytestmark = pytest.mark.fast

SPLIT: list[Unit] = ["paragraph", "line", "sentence"]


def split(chunks: str | Iterable[str], unit: Unit = "sentence") -> list[str]:
    documents = [("place", [chunks] if isinstance(chunks, str) else chunks)]
    return ["".join(parts) for _, parts in split_documents(documents, unit)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A longest unit of 8 characters, so that every rule meets its bounds."""
    monkeypatch.setattr(units, "LONGEST_UNIT", 8)
    monkeypatch.setattr(units, "_WINDOW", 14)


PROSE = """\
Mr. and Mrs. Hale had lived at No. 7, St. James St., for eleven years. They paid 3.14 per cent (i.e. too much) on a
loan that Dr. A. B. Crowe, Jr., had found for them. Was it wise? Nobody asked. "We were young!" she would say. "And
poor." He, for his part, said nothing... he had learned, e.g. from Prof. Lund, that silence is cheap, etc. In 1987 the
rent doubled. 12 neighbours left. The house stood empty until J. R. R. Tolkien's cousin (so they said) took it. (He
never paid.) By 9 a.m. on Monday he was gone! Wait... I forget the rest. Smith vs. Jones was heard that year.

A new paragraph begins here. "Stop!" cried the clerk. 'No.' 'Yes.' It was [as ever] over. So was I. The end
"""
PROSE_SENTENCES = [
    "Mr. and Mrs. Hale had lived at No. 7, St. James St., for eleven years.",
    "They paid 3.14 per cent (i.e. too much) on a loan that Dr. A. B. Crowe, Jr., had found for them.",
    "Was it wise?",
    "Nobody asked.",
    '"We were young!" she would say.',
    '"And poor."',
    "He, for his part, said nothing... he had learned, e.g. from Prof. Lund, that silence is cheap, etc. In 1987 the "
    "rent doubled.",
    "12 neighbours left.",
    "The house stood empty until J. R. R. Tolkien's cousin (so they said) took it.",
    "(He never paid.)",
    "By 9 a.m. on Monday he was gone!",
    "Wait... I forget the rest.",
    "Smith vs. Jones was heard that year.",
    "A new paragraph begins here.",
    '"Stop!" cried the clerk.',
    "'No.'",
    "'Yes.'",
    "It was [as ever] over.",
    "So was I.",
    "The end",
]


def test_a_page_of_prose() -> None:
    assert [" ".join(sentence.split()) for sentence in split(PROSE)] == PROSE_SENTENCES
    assert all(sentence in PROSE for sentence in split(PROSE))  # its own white space is kept
    assert split(PROSE.replace("\n", "\r\n"))[2:6] == [*PROSE_SENTENCES[2:5], '"And\r\npoor."']
    assert [len(paragraph) for paragraph in split(PROSE, "paragraph")] == [len(p) for p in PROSE.rstrip().split("\n\n")]
    assert split(PROSE, "line") == [line for line in PROSE.splitlines() if line]


SPEECHES = """\
FIRST CITIZEN:
Before we proceed any further, hear me speak.

ALL:
Speak, speak.

FIRST CITIZEN:
You are all resolved rather to die than
To famish? Resolved;
resolved. First, you know Caius Marcius is
Chief enemy to the people!
"""


def test_speeches() -> None:
    assert split(SPEECHES) == [
        "FIRST CITIZEN:\nBefore we proceed any further, hear me speak.",
        "ALL:\nSpeak, speak.",
        "FIRST CITIZEN:\nYou are all resolved rather to die than\nTo famish?",
        "Resolved;\nresolved.",
        "First, you know Caius Marcius is\nChief enemy to the people!",
    ]
    assert split(SPEECHES, "paragraph")[1] == "ALL:\nSpeak, speak."
    assert split(SPEECHES, "line")[:3] == ["FIRST CITIZEN:", "Before we proceed any further, hear me speak.", "ALL:"]


@pytest.mark.parametrize(
    "sentences",
    [
        ["“Who's there?”", "“Nay, answer me!” he said.", "‘Long live the king!’", "He?", "(Enter Ghost.)", "[Exit.]"],
        ["Go!", "— Never.", "-- Then stay.", "– Fine."],
        ["He went.", "_Well._", "*So what?*", "$5 is enough.", "’Twas so.", "¿Qué?", "¡Sí!"],
        ["What?!", "No!!!", "He left...", "She stayed…", "Who...?", "I!", "\"no\"."],
        ["In 1999.", "He was 45.", "3 came.", "It is 3.14 or 2,5.", "Ok."],
        ["No.", "He said no.", "See No. 5, nos. 6, p. 7, pp. 8, Vol. 2, Fig. 3 and Sept. 4.", "In Sept.", "He left."],
        ["Sgt. Pepper met DR. WHO, Lt. Uhura, Gen. Lee and Mt. Fuji.", "They sat.", "The cat sat."],
        ["Acme Inc. Profits rose, cf. Table, viz. Gold et al. And so on.", "Ok."],
        ["The U.S. Army, a Ph.D. Student, J.-P. Sartre and I. M. Pei met at 5 p.m. Eastern.", "So do I.", "No."],
        ["1. The first.", "2. The second.", "B. The third.", "IV. The fourth.", "10. The tenth."],
        ["Er aß z. B. Brot, d. h. Korn, usw. Und?", "Am 3. Oktober kam Hr. Dr. Kuhn.", "»Ja!«", "„Nein.“", "Ärger."],
        ["Es war im 19. Jahrhundert, bzw. Mittelalter, Nr. 5.", "Es waren 19.", "Männer gingen 1999.", "Mai kam."],
        ["Привет.", "Как дела, т.е. Жизнь?", "А. С. Пушкин. да."],
        ["שלום.", "מה שלומך?", "مرحبا؟", "نعم۔", "यह है।", "वह है।"],
        ["Hm. – oh. no"],
    ],
)  # fmt: skip
def test_sentences_between_spaces(sentences: list[str]) -> None:
    assert split(" ".join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["你好。", "我们去哪儿？", "“他走了！”", "他说：不知道……好。", "（终。）", "第3.14节。", "下一句"],
        ["「はい。」", "と言った。", "「何！？」", "東京へ行く。", "『そう。』"],
        ["他走了。", "“你好。”", "好?！", "啊！!", "完"],
    ],
)  # fmt: skip
def test_sentences_without_white_space(sentences: list[str]) -> None:
    assert split("".join(sentences)) == sentences
    assert split(" \n".join(sentences)) == sentences


@pytest.mark.usefixtures("small")
def test_what_stands_before_a_unit_does_not_count() -> None:
    assert split("好。Mr. Bo") == ["好。", "Mr. Bo"]
    assert split("xxxxxxxxB. C") == ["xxxxxxxx", "B. C"]


def test_lists_and_wrapped_words() -> None:
    assert split("Steps:\n1. Mix it.\n2. Bake it.") == ["Steps:\n1. Mix it.", "2. Bake it."]
    assert split("He was\nill. The end came in\n1999. So.") == ["He was\nill.", "The end came in\n1999.", "So."]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(end: str) -> None:
    text = f" a{end}b. {end} \t{end}{end}{end}c{end}Mr.{end}{end}D"
    assert split(text, "line") == ["a", "b.", "c", "Mr.", "D"]
    assert split(text, "paragraph") == [f"a{end}b.", f"c{end}Mr.", "D"]
    assert split(text) == [f"a{end}b.", f"c{end}Mr.", "D"]
    assert split(f"it ended.{end} {end}then", "sentence") == ["it ended.", "then"]


def test_documents_keep_their_places_and_order() -> None:
    documents = [("a:1", ["One. Tw", "o."]), ("a:2", []), ("a:3", [" \n", "", "\n"]), ("b", ["Three"])]
    found = [(place, "".join(chunks)) for place, chunks in split_documents(documents, "sentence")]
    assert found == [("a:1", "One."), ("a:1", "Two."), ("b", "Three")]
    assert list(split_documents(documents, "document")) == documents


def chunked(text: str, seed: int, longest: int) -> Iterator[str]:
    generator = random.Random(seed)
    start = 0
    while start < len(text):
        end = start + generator.randint(0, longest)
        yield text[start:end]
        start = end


PARTS = [".", "...", "!", "?", "…", "。", "！", "”", "“", '"', ")", "(", " ", " ", "\n", "\r", "\r\n", "\n\n", "\t"]
PARTS += ["a", "B", "I", "1", "12", "Mr", "e.g", "No", "z. B", "Oktober", "the", "日", "-", "—", "_", "x" * 9, " " * 9]
TRICKY = st.lists(st.sampled_from(PARTS), max_size=60).map("".join)


@pytest.mark.usefixtures("small")
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TRICKY, seed=st.integers(0, 99), unit=st.sampled_from(SPLIT))
def test_units_do_not_depend_on_the_chunks(text: str, seed: int, unit: Unit) -> None:
    found = split(text, unit)
    for longest in (1, 3, 40):
        assert split(chunked(text, seed, longest), unit) == found
    assert all(part and part == part.strip() and len(part) <= 8 for part in found)
    assert "".join("".join(found).split()) == "".join(text.split())  # nothing but white space is lost


@pytest.mark.usefixtures("small")
def test_units_of_random_texts_do_not_depend_on_the_chunks() -> None:
    """Many places where a buffer ends: what lies beyond what a rule may see, or before its unit, must not count."""
    for seed in range(60):
        text = "".join(random.Random(seed).choices([*PARTS[:13], "B", "B", "I", "12", "Mr", "xxxx", " " * 6], k=200))
        for unit in SPLIT:
            found = split(text, unit)
            assert all(split(chunked(text, 0, longest), unit) == found for longest in (1, 2, 5, 20))


@pytest.mark.usefixtures("small")
def test_units_do_not_depend_on_the_chunks_control(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deciding before what follows is there gives other units: the check above does notice."""
    text = "Mr. Bo ate. No. Two. Then? " * 3
    take = units._take
    monkeypatch.setattr(units, "_take", lambda buffer, beyond, end_of: take(buffer, max(beyond, len(buffer)), end_of))
    assert split(text) != split(list(text))


def test_units_of_the_plays_do_not_depend_on_the_chunks(tinyshakespeare: Path) -> None:
    text = tinyshakespeare.read_bytes().decode()[:600_000]
    for unit in SPLIT:
        assert split(chunked(text, 0, 100_000), unit) == split(text, unit)
    assert max(map(len, split(text))) < 2_000


def test_a_long_unit_is_cut_at_white_space() -> None:
    words = "word " * 60_000
    for unit in SPLIT:
        parts = split(words, unit)
        assert [len(part) for part in parts[:2]] == [LONGEST_UNIT // 5 * 5 + 4 - 5 * (LONGEST_UNIT % 5 < 4)] * 2
        assert " ".join(parts) == words.strip()
    assert [len(part) for part in split("x" * (2 * LONGEST_UNIT + 5))] == [LONGEST_UNIT, LONGEST_UNIT, 5]
    assert [len(part) for part in split("x" * LONGEST_UNIT + ".  Y")] == [LONGEST_UNIT, 1, 1]
    assert split("a" + " " * 1_000_000 + "b.") == ["a", "b."]


@pytest.mark.parametrize("text", [".", '."', ". ", "\r", "\n" + " " * 99, "。", ". -", "A. ", "_*", "x\u0301"])
def test_one_thing_over_and_over_takes_linear_time(text: str) -> None:
    """A row of a hundred thousand stops or spaces; trying each of them to the end would take minutes."""
    whole = text * (300_000 // len(text))
    for unit in SPLIT:
        assert "".join("".join(split(whole, unit)).split()) == "".join(whole.split())


@pytest.mark.parametrize("text", ["x" * 999, "There is " + "no end, " * 50 + "Mr. Hale. ", " ", "\n \r\n"])
def test_a_long_document_is_read_in_bounded_memory(text: str) -> None:
    chunk = text * (200_000 // len(text))
    for unit in SPLIT:
        tracemalloc.start()
        for _ in split_documents([("a", (chunk for _ in range(15)))], unit):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2_500_000
