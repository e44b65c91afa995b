"""Cuts text into pieces of bounded size, always at the same places, however it was read.

Tokenizers see piece after piece. A cut falls before white space that follows something else, preferably a line end:
there byte-level BPE, WordPiece and Unigram start a new word anyway, so cutting changes no token. Only a run of 131,072
characters without such a place is cut hard, everywhere alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PIECE_CHARACTERS = 65_536
LONGEST_PIECE = 131_072
TRAINING_PIECE = 2_048
"""Characters of a text that a tokenizer is trained on: the library counts words over many small texts best."""

# The look behind stands last, so that it is tried only at white space.
_LINE_END = re.compile(r"[\r\n](?<=\S[\r\n])")
_WHITE_SPACE = re.compile(r"\s(?<=\S\s)")
_SPACES = re.compile(r"\s+")
_CONTROL = dict.fromkeys(code for code in [*range(0x20), *range(0x7F, 0xA0)] if chr(code) not in "\t\n\r")


@dataclass(frozen=True)
class Piece:
    """Part of a document.

    ends_document: whether it is the document's last piece. place: `file` or `file:line` where the document begins.
    """

    text: str
    ends_document: bool
    place: str


@dataclass(frozen=True)
class Cleaning:
    """What is changed in the text before anything else sees it.

    remove_control_characters: all of Unicode's category Cc but tab, line feed and carriage return.
    collapse_whitespace: every run of white space becomes one space.
    """

    remove_control_characters: bool = False
    collapse_whitespace: bool = False

    def apply(self, chunks: Iterable[str]) -> Iterator[str]:
        """One document's text, cleaned; the result doesn't depend on how it is divided into chunks."""
        after_space = False
        for chunk in chunks:
            if self.remove_control_characters:
                chunk = chunk.translate(_CONTROL)
            if self.collapse_whitespace and chunk:
                ends_in_space = chunk[-1].isspace()
                chunk = _SPACES.sub(" ", chunk.lstrip() if after_space else chunk)
                # A chunk of white space alone, after a space, leaves nothing, and the space still stands before.
                after_space = ends_in_space
            if chunk:
                yield chunk


def cut(chunks: Iterable[str], target: int = PIECE_CHARACTERS, longest: int = LONGEST_PIECE) -> Iterator[str]:
    """Joins chunks and cuts them anew into pieces of target to longest characters; the last may be shorter."""
    buffer = ""
    for chunk in chunks:
        buffer += chunk
        start = 0
        # Only when everything that the rule looks at is there may it decide.
        while len(buffer) - start > longest:
            end = _cut_position(buffer, start + target, start + longest)
            yield buffer[start:end]
            start = end
        buffer = buffer[start:]
    if buffer:
        yield buffer


def _cut_position(text: str, earliest: int, latest: int) -> int:
    """Where a piece ends: before the first line end, else white space, that follows a non-space; else at latest."""
    for pattern in (_LINE_END, _WHITE_SPACE):
        if found := pattern.search(text, earliest, latest + 1):
            return found.start()
    return latest


def documents_to_pieces(documents: Iterable[tuple[str, Iterable[str]]], cleaning: Cleaning) -> Iterator[Piece]:
    """Pieces of documents given as (place, chunks of text). A document without text gives none."""
    for place, chunks in documents:
        last: str | None = None
        for text in cut(cleaning.apply(chunks)):
            if last is not None:
                yield Piece(last, ends_document=False, place=place)
            last = text
        if last is not None:
            yield Piece(last, ends_document=True, place=place)


def training_texts(texts: Iterable[str]) -> Iterator[str]:
    """The same text in small pieces, for the training of a tokenizer."""
    for text in texts:
        yield from cut([text], TRAINING_PIECE, 2 * TRAINING_PIECE)
