"""Splits documents into paragraphs, lines or sentences, always at the same places, however they were read.

A unit ends at the first end that its kind has within 131,072 characters; where there is none, it is cut there. To find
it, the next 132,096 characters are looked at and nothing else, so neither the chunks nor what comes later matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Literal

Unit = Literal["document", "paragraph", "line", "sentence"]

LONGEST_UNIT = 131_072
_AHEAD = 1_024
"""Characters beyond the longest unit at which it may still be seen whether a sentence ends there."""
_WINDOW = LONGEST_UNIT + _AHEAD
_LONGEST_WORD = 24
"""Characters before a full stop that are compared with abbreviations, and after it with words that continue."""

_SPACES = re.compile(r"\s*")
_LAST_SPACE = re.compile(r".*\s", re.DOTALL)
_LINE_END = re.compile(r"[\r\n]")
# The same charset stands first everywhere: the regex engine then skips to it fast. `\r\n` is one line end, not two.
_BLANK_LINE = re.compile(r"[\r\n](?:(?<=\r)\n)?+[^\S\r\n]*+[\r\n]")
_SENTENCE_END = re.compile(
    r"""[.!?…‽؟۔।॥。！？｡\r\n]
    (?: (?<=[.!?…‽؟۔।॥]) [.!?…‽؟۔।॥]*+ ["'”’»«“‘)\]}）】』」〉》_*]*+ (?P<space>\s++(?=[^\sa-z]))?+
      | (?<=[。！？｡]) (?P<wide>[.!?…。！？｡]*+) ["'”’»)\]}）】』」〉》_*]*+
      | (?<=[\r\n]) (?:(?<=\r)\n)?+ (?P<blank>[^\S\r\n]*+[\r\n])?+
    )""",
    re.VERBOSE,
)
"""Every run of stops with its closing quotes, and every line end. A run always matches as a whole, or a row of a
hundred thousand full stops would be tried from each of them."""

_BEFORE_BEGINNING = re.compile(r"[\s\-–—―_*#•·>~]*")
_OPENING = frozenset("\"'“”„‟‘’‚‛«»‹›([{（［【『「〈《〔¿¡$€£¥§@")
_BRACKETS = "\"'“”„‘’‚«»‹›([{（-–—_*"


def _set_of(words: str) -> frozenset[str]:
    return frozenset(words.split())


_TITLES = _set_of(
    "Mr Mrs Ms Mx Dr St Prof Rev Fr Hon Gen Col Maj Capt Cpt Cmdr Lt Sgt Cpl Gov Sen Rep Pres Supt Messrs Mme Mmes "
    "Mlle Mt Ft Jr Sr Bros Sra Hr Hrn Dipl Ing"
)
"""Before a name, or a part of it; written with a capital, or in capitals."""
_ABBREVIATIONS = _set_of(
    "etc vs viz cf al approx resp incl ca inc ltd co corp dept assn bzw usw vgl ggf evtl inkl exkl sog bspw zzgl abzgl"
)
_BEFORE_NUMBER = _set_of(
    "no nos nr p pp s vol vols fig figs art ch chap sec sect eq eqs abb bd jan feb mar apr jun jul aug sep sept oct "
    "okt nov dec dez"
)
"""Abbreviations where a number follows, and elsewhere words: "No. 5", but "No. He stayed."."""
_AFTER_ORDINAL = re.compile(
    r"(?:Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember|Jahrhunderts?|Jahrtausends?"
    r"|Weltkriegs?|Weltkrieges|Kapitels?|Klasse|Stock|Platz|Auflage|Geburtstag|Lebensjahr|Mal|Tag|Band|Etage)\b"
)
"""German writes "am 3. Oktober" with a full stop."""
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.-?)+[^\W\d_]{1,3}")
"""e.g, a.m, U.S, Ph.D, z.B, J.-P."""
_ENUMERATOR = re.compile(r"[0-9]{1,2}|[a-zA-Z]|x{0,3}(?:ix|iv|v?i{0,3})|X{0,3}(?:IX|IV|V?I{0,3})")
"""1, b, iii: with a full stop, at the beginning of a line, it numbers what follows."""
_LETTER_STOP = re.compile(r"[^\W\d_]\.")
_PRONOUN = re.compile(r"I\b(?!\.)")
_AFTER_LOWERCASE = re.compile(r".*[^\W\d_A-Z]\s+\S*", re.DOTALL)

_End = Callable[[str, int, int], int]
"""Where the unit that begins at `start` ends, of text[start:stop] alone; stop when there is no end."""


def split_documents(documents: Iterable[tuple[str, Iterable[str]]], unit: Unit) -> Iterator[tuple[str, Iterable[str]]]:
    r"""Each unit of each document as a document of its own, at its document's place.

    Units are stripped of white space around them, and empty ones are dropped; `document` changes nothing at all.

    A paragraph ends at a blank line, a line at a line end (`\n`, `\r\n`, `\r`), a sentence at a blank line, after
    `。！？`, and after `. ! ? …` with their closing quotes where white space and something that can begin a sentence
    follow: a capital, a digit, a quote, an opening bracket, a letter without case, or one of these after a dash. It
    doesn't end after abbreviations, initials, and the numbers of a list.

    Args:
        documents: (place, chunks of text); each is read once, in bounded memory, before the next is asked for.
    """
    if unit == "document":
        yield from documents
        return
    end_of = _END_OF[unit]
    for place, chunks in documents:
        for text in _units(chunks, end_of):
            yield place, [text]


def _units(chunks: Iterable[str], end_of: _End) -> Iterator[str]:
    parts: list[str] = []
    length = 0
    for chunk in chunks:
        parts.append(chunk)
        length += len(chunk)
        # Joining only now and then keeps many small chunks linear.
        if length >= 2 * _WINDOW:
            buffer = "".join(parts)
            rest = yield from _take(buffer, len(buffer) - _WINDOW + 1, end_of)
            parts, length = [buffer[rest:]], len(buffer) - rest
    buffer = "".join(parts)
    yield from _take(buffer, len(buffer), end_of)


def _take(buffer: str, beyond: int, end_of: _End) -> Generator[str, None, int]:
    """Units that begin before `beyond`; returns where the next one begins."""
    start = _after_spaces(buffer, 0)
    while start < beyond:
        stop = min(start + _WINDOW, len(buffer))
        end = end_of(buffer, start, stop)
        if end - start > LONGEST_UNIT:
            last_space = _LAST_SPACE.match(buffer, start, start + LONGEST_UNIT + 1)
            end = last_space.end() if last_space else start + LONGEST_UNIT
        yield buffer[start:end].rstrip()
        start = _after_spaces(buffer, end)
    return start


def _after_spaces(text: str, start: int) -> int:
    found = _SPACES.match(text, start)
    return found.end() if found else start


def _line_end(text: str, start: int, stop: int) -> int:
    found = _LINE_END.search(text, start, stop)
    return found.start() if found else stop


def _paragraph_end(text: str, start: int, stop: int) -> int:
    found = _BLANK_LINE.search(text, start, stop)
    return found.start() if found else stop


def _sentence_end(text: str, start: int, stop: int) -> int:
    for found in _SENTENCE_END.finditer(text, start, stop):
        if found["blank"] is not None:
            return found.start()
        if found["wide"] is not None:
            return found.end()
        if found["space"] and _ends_sentence(text, start, found, stop):
            return found.start("space")
    return stop


def _ends_sentence(text: str, start: int, found: re.Match[str], stop: int) -> bool:
    """Whether a sentence that begins at `start` ends with this run of stops, before white space."""
    space = found["space"]
    if len(space) > 1 and _BLANK_LINE.search(space):
        return True
    first = found.end()
    if not (text[first].isupper() or _begins(text, first, stop)):
        return False
    dot = found.start()
    if "?" in found[0] or "!" in found[0]:
        return True
    if text[dot] == "…" or text.startswith("..", dot):
        return not _PRONOUN.match(text, first, stop)
    return text[dot] != "." or not _abbreviates(text, start, dot, first, stop)


def _begins(text: str, first: int, stop: int) -> bool:
    """Whether what stands here can begin a sentence, after dashes, bullets and marks of emphasis."""
    found = _BEFORE_BEGINNING.match(text, first, stop)
    at = found.end() if found else first
    if at >= stop:
        return False
    letter = text[at]
    caseless = letter.isalpha() and letter.lower() == letter.upper()
    return letter in _OPENING or letter.isupper() or letter.isdigit() or caseless


def _abbreviates(text: str, start: int, dot: int, first: int, stop: int) -> bool:
    """Whether the word before this full stop is an abbreviation, an initial or a number with a full stop of its own."""
    before = text[max(start, dot - _LONGEST_WORD) : dot]
    word = before.split()[-1].lstrip(_BRACKETS) if before and not before[-1].isspace() else ""
    begin = dot - len(word)
    if word and (begin <= start or text[begin - 1] in "\r\n") and _ENUMERATOR.fullmatch(word):
        return True
    if word.isdigit():
        return len(word) <= 2 and _AFTER_ORDINAL.match(text, first, min(stop, first + _LONGEST_WORD)) is not None
    if len(word) == 1:
        return _is_initial(word, before, text, first, stop)
    if word in _TITLES or (word.isupper() and word.title() in _TITLES) or ("." in word and _DOTTED.fullmatch(word)):
        return True
    lower = word.lower()
    return lower in _ABBREVIATIONS or (lower in _BEFORE_NUMBER and text[first].isdigit())


def _is_initial(letter: str, before: str, text: str, first: int, stop: int) -> bool:
    """Whether a single letter with a full stop stands for a word: J. R. R. Tolkien, z. B. Brot, p. 7."""
    another = _LETTER_STOP.match(text, first, stop) is not None
    if letter == "I":  # "So do I. He too.", but "I. M. Pei"
        return another or not _AFTER_LOWERCASE.fullmatch(before)
    if letter.isupper():
        return True
    after_another = len(before) > 3 and before[-3] == "." and before[-4].isalpha() and before[-2].isspace()
    return another or after_another or (letter in _BEFORE_NUMBER and text[first].isdigit())


_END_OF: dict[str, _End] = {"paragraph": _paragraph_end, "line": _line_end, "sentence": _sentence_end}
