"""Which text is for training and which for validation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from trifecta.data.pieces import Piece
from trifecta.randomness import key, permute

Part = Literal["train", "validation"]

FEWEST_DOCUMENTS = 10
"""With fewer documents the end of the text is held out instead of whole documents."""


@dataclass(frozen=True)
class TailSplit:
    """The first `train_characters` are for training, the rest for validation."""

    train_characters: int

    def divide(self, pieces: Iterable[Piece]) -> Iterator[tuple[Part, Piece]]:
        """Each piece with its part; the one that lies across the boundary is cut there."""
        left = self.train_characters
        for piece in pieces:
            length = len(piece.text)
            if left <= 0:
                yield "validation", piece
            elif length <= left:
                yield "train", piece
            else:
                yield "train", replace(piece, text=piece.text[:left], ends_document=False)
                yield "validation", replace(piece, text=piece.text[left:])
            left -= length


@dataclass(frozen=True)
class DocumentSplit:
    """`validation_documents` of all `documents`, chosen by the seed, are for validation."""

    documents: int
    validation_documents: int
    seed: int

    def divide(self, pieces: Iterable[Piece]) -> Iterator[tuple[Part, Piece]]:
        """Each piece with its document's part."""
        split_key = key(self.seed, "split")
        document, part = 0, self._part(0, split_key)
        for piece in pieces:
            yield part, piece
            if piece.ends_document and document + 1 < self.documents:
                document += 1
                part = self._part(document, split_key)

    def validation(self) -> npt.NDArray[np.bool_]:
        """Whether each document is for validation, (documents,)."""
        places = permute(np.arange(self.documents), self.documents, key(self.seed, "split"))
        return np.asarray(places < self.validation_documents)

    def _part(self, document: int, split_key: int) -> Part:
        place = permute(np.array([document]), self.documents, split_key)[0]
        return "validation" if place < self.validation_documents else "train"


@dataclass(frozen=True)
class ApartSplit:
    """A split by documents of which some, `moved`, are on the other side, beside others that are nearly the same."""

    plain: DocumentSplit
    moved: frozenset[int]

    def divide(self, pieces: Iterable[Piece]) -> Iterator[tuple[Part, Piece]]:
        """Each piece with its document's part."""
        document = 0
        for part, piece in self.plain.divide(pieces):
            other: Part = "train" if part == "validation" else "validation"
            yield other if document in self.moved else part, piece
            document += piece.ends_document and document + 1 < self.plain.documents

    def __repr__(self) -> str:
        return f"ApartSplit({self.plain!r}, {sorted(self.moved)})"


Split = TailSplit | DocumentSplit | ApartSplit


def choose_split(documents: int, characters: int, *, validation_split: float, seed: int) -> Split:
    """By document when there are at least ten, else the contiguous tail by characters.

    The share is taken as the decimal that the user wrote: of 1,115,394 characters 0.1 leaves 1,003,854 for training.
    """
    share = Fraction(str(validation_split))
    if documents >= FEWEST_DOCUMENTS:
        held_out = min(max(1, round(documents * share)), documents - 1)
        return DocumentSplit(documents, held_out, seed)
    return TailSplit(int(characters * (1 - share)))
