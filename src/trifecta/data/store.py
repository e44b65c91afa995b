"""Tokens on disk, written once, mapped into memory when read."""

from __future__ import annotations

import hashlib
import zlib
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trifecta.data.split import Part
from trifecta.errors import DataError

Int64 = npt.NDArray[np.int64]

_CHUNK_BYTES = 1 << 16
"""Of the tokens that one checksum covers: little enough to check on the way to a few windows."""


class TokenStore:
    """One part of a text as tokens.

    tokens: uint16 or uint32, read-only, mapped. documents: where each document begins. characters, bytes: length of
    the text, and of its UTF-8. unknowns: tokens that stand for what the vocabulary lacks; 0 where there is no unknown
    token. fingerprint: names its content.

    Use `read` for tokens that must be right: it notices a damaged disk.

    Raises:
        ValueError, KeyError, OSError: the folder isn't a whole store.
    """

    def __init__(self, folder: Path, part: Part, facts: dict[str, Any], fingerprint: str):
        self._arguments = (folder, part, facts, fingerprint)
        self.part: Part = part
        self.characters, self.bytes = int(facts["characters"]), int(facts["bytes"])
        self.unknowns = int(facts["unknowns"])
        self.fingerprint = fingerprint
        dtype = np.dtype({"uint16": "<u2", "uint32": "<u4"}[facts["dtype"]])
        self.tokens = _map(folder / f"{part}.tokens", dtype, int(facts["tokens"]))
        self.documents = _map(folder / f"{part}.documents", np.dtype("<i8"), int(facts["documents"]))
        self._chunk = _CHUNK_BYTES // dtype.itemsize
        self._sums = _map(folder / f"{part}.sums", np.dtype("<u4"), -(-len(self.tokens) // self._chunk))
        self._checked = np.zeros(len(self._sums), np.bool_)

    def read(self, start: int, stop: int) -> Int64:
        """Tokens start..stop-1. A chunk that is touched for the first time in this process is checked against its sum.

        Raises:
            DataError: the chunk is damaged; the next start builds the store anew.
        """
        stop = min(stop, len(self.tokens))
        for chunk in range(start // self._chunk, -(-stop // self._chunk)):
            if not self._checked[chunk]:
                self._check(chunk)
        return self.tokens[start:stop].astype(np.int64)

    def _check(self, chunk: int) -> None:
        tokens = self.tokens[chunk * self._chunk : (chunk + 1) * self._chunk]
        if zlib.crc32(tokens.data) != self._sums[chunk]:
            folder, part = self._arguments[:2]
            fix = "run the same command again: the tokens are made anew from the text; check the disk too"
            try:
                (folder / "meta.json").unlink(missing_ok=True)  # without it the folder is no store
            except OSError:
                fix = "this cache can't be written, so choose another: data.cache_dir=FOLDER (or TRIFECTA_CACHE)"
            raise DataError(
                f"the cached tokens are damaged between byte {chunk * _CHUNK_BYTES} and {(chunk + 1) * _CHUNK_BYTES}",
                where=str(folder / f"{part}.tokens"),
                fix=fix,
            )
        self._checked[chunk] = True

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def stores(self) -> tuple[TokenStore, ...]:
        """This one alone: what Corpora has several of."""
        return (self,)

    def __reduce__(self) -> tuple[Any, ...]:
        # A process that gets it maps the file itself; pickling the map would copy every token.
        return TokenStore, self._arguments


@dataclass(frozen=True)
class Corpora:
    """Several stores of one tokenizer, as one text's."""

    stores: tuple[TokenStore, ...]

    def __len__(self) -> int:
        return sum(map(len, self.stores))

    @property
    def characters(self) -> int:
        """Of all stores."""
        return sum(store.characters for store in self.stores)

    @property
    def bytes(self) -> int:
        """Of all stores."""
        return sum(store.bytes for store in self.stores)

    @property
    def unknowns(self) -> int:
        """Of all stores."""
        return sum(store.unknowns for store in self.stores)


def _map(file: Path, dtype: np.dtype[Any], length: int) -> npt.NDArray[Any]:
    if file.stat().st_size != length * dtype.itemsize:
        raise ValueError(f"{file} should have {length * dtype.itemsize} bytes, but has {file.stat().st_size}")
    if not length:
        return np.zeros(0, dtype)
    return np.memmap(file, dtype, mode="r", shape=(length,))


class PartWriter:
    """Writes the tokens of one part, and counts.

    Args:
        end_of_text: id that follows each whole document; None for none.
        unknown: id to count.
    """

    def __init__(self, folder: Path, part: Part, *, vocab_size: int, end_of_text: int | None, unknown: int | None):
        self._folder, self._part = folder, part
        self._dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
        self._end_of_text, self._unknown = end_of_text, unknown
        self._file = open(folder / f"{part}.tokens", "wb")  # noqa: SIM115 - closed by finish
        self._starts, self._between = array("q"), True
        self._hash = hashlib.blake2b(digest_size=8)
        self.document_hashes = array("Q")
        self._sums, self._sum, self._room = array("L"), 0, _CHUNK_BYTES
        self.tokens = self.characters = self.bytes = self.unknowns = 0

    def add(self, ids: Int64, text: str, *, ends_document: bool) -> None:
        """The next piece of text."""
        if self._between:
            self._starts.append(self.tokens)
        if self._unknown is not None:
            self.unknowns += int(np.count_nonzero(ids == self._unknown))
        if ends_document and self._end_of_text is not None:
            ids = np.append(ids, self._end_of_text)
        data = ids.astype(self._dtype).tobytes()
        self._file.write(data)
        self._add_to_sums(memoryview(data))
        encoded = text.encode()
        self.tokens += len(ids)
        self.characters += len(text)
        self.bytes += len(encoded)
        self._hash.update(encoded)
        self._between = ends_document
        if ends_document:
            self.document_hashes.append(int.from_bytes(self._hash.digest(), "little"))
            self._hash = hashlib.blake2b(digest_size=8)

    def _add_to_sums(self, data: memoryview) -> None:
        while data:
            piece, data = data[: self._room], data[self._room :]
            self._sum = zlib.crc32(piece, self._sum)
            self._room -= len(piece)
            if not self._room:
                self._end_chunk()

    def _end_chunk(self) -> None:
        self._sums.append(self._sum)
        self._sum, self._room = 0, _CHUNK_BYTES

    def finish(self) -> dict[str, Any]:
        """Writes the rest; returns what TokenStore needs to know."""
        self._file.close()
        if self._room < _CHUNK_BYTES:
            self._end_chunk()
        np.array(self._sums, "<u4").tofile(self._folder / f"{self._part}.sums")
        np.array(self._starts, "<i8").tofile(self._folder / f"{self._part}.documents")
        return {
            "dtype": "uint16" if self._dtype.itemsize == 2 else "uint32",
            "tokens": self.tokens,
            "documents": len(self._starts),
            "characters": self.characters,
            "bytes": self.bytes,
            "unknowns": self.unknowns,
        }

    def close(self) -> None:
        """Closes the file, also after an error."""
        self._file.close()
