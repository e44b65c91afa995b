"""The user's text: any mix of files and folders, or a built-in text, read again as often as needed with flat memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO, Literal

from trifecta.data.builtin import builtin_documents
from trifecta.data.cache import default_cache_dir, explain_disk_errors, read_summed, summed, write_beside
from trifecta.data.decoding import TextDecoder
from trifecta.data.files import InputFile, explain_read_errors, find_files, once, open_regular, read_chunks
from trifecta.data.hashes import KnownHashes
from trifecta.data.pieces import Cleaning, Piece, documents_to_pieces
from trifecta.data.records import Document, read_csv, read_jsonl, read_parquet
from trifecta.data.units import Unit, split_documents
from trifecta.errors import DataError, RecipeError

Progress = Callable[[str, float | None], None]
"""Called with what is being done and, if known, the share that is done."""

FORMAT_VERSION = 1
"""To be raised when the same bytes would be read as another text, or cut elsewhere."""
_HASH_BYTES = 1 << 20
_Note = tuple[int, str]
"""Number of a file, since the same content may lie elsewhere next time, and what was noticed in it."""
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Scan:
    """What reading everything once tells.

    fingerprint: SHA-256 of the content and of how it is read. documents: those with text. characters: Unicode
    characters after cleaning. bytes: their UTF-8 bytes.
    """

    fingerprint: str
    documents: int
    characters: int
    bytes: int


class Sources:
    """Re-iterable text.

    Args:
        paths: files, folders, globs, or - for standard input (text, maybe packed), which is kept in the cache.
        builtin: auto, shakespeare, python or grammar instead of paths; auto when there are no paths.
        text_field: field or column of .jsonl, .csv, .tsv and .parquet that holds the text.
        invalid_utf8: refuse, or replace by U+FFFD and count.
        remove_control_characters, collapse_whitespace: see Cleaning.
        cache_dir: folder for standard input and for what scans found. Default: default_cache_dir().
        allow_nul: let NUL characters be text, as the byte tokenizer can.
        unit: what a document is: the file or record as it is, or each of its paragraphs, lines or sentences.
    """

    def __init__(
        self,
        paths: Sequence[str] = (),
        *,
        builtin: str | None = None,
        text_field: str = "text",
        invalid_utf8: Literal["refuse", "replace"] = "refuse",
        remove_control_characters: bool = False,
        collapse_whitespace: bool = False,
        cache_dir: str | Path | None = None,
        allow_nul: bool = False,
        unit: Unit = "document",
    ):
        if paths and builtin:
            raise RecipeError("both paths and a built-in text are given", fix="leave one of them out")
        self.paths = [str(path) for path in paths]
        self.cache_dir = Path(cache_dir) if cache_dir else default_cache_dir()
        self._text_field, self._invalid_utf8 = text_field, invalid_utf8
        self._cleaning = Cleaning(remove_control_characters, collapse_whitespace)
        self._allow_nul = allow_nul or remove_control_characters
        self._unit: Unit = unit
        self._builtin = None if paths else builtin_documents(builtin or "auto")
        self._read_notes: list[_Note] = []
        self._fingerprint: str | None = None

    @property
    def name(self) -> str:
        """A short name for run folders: lower-case letters, digits and hyphens."""
        if self._builtin:
            return self._builtin[0]
        first = "stdin" if self.paths[0] == "-" else _stem(self.paths[0])
        slug = re.sub(r"[^a-z0-9]+", "-", first.lower()).strip("-")[:40].strip("-") or "data"
        return slug if len(self.paths) == 1 else f"{slug}-and-{len(self.paths) - 1}-more"

    @property
    def notes(self) -> list[str]:
        """What was noticed; complete after scan()."""
        found = [f"{self._files[number].place}: {note}" for number, note in self._read_notes]
        return [*(self._builtin[2] if self._builtin else []), *found]

    @property
    def lasting_paths(self) -> list[str]:
        """The paths, with the copy that the cache keeps in the place of standard input, which can't be read again."""
        return [str(self._standard_input.path) if path == "-" else path for path in self.paths]

    def pieces(self) -> Iterator[Piece]:
        """The text, cleaned, in pieces of bounded size; documents without text are left out."""
        return self._pieces([])

    def _pieces(self, notes: list[_Note]) -> Iterator[Piece]:
        return documents_to_pieces(split_documents(self._documents(notes), self._unit), self._cleaning)

    def scan(self, progress: Progress | None = None) -> Scan:
        """Reads everything once, or only hashes it when the cache knows the content.

        Raises:
            DataError: something can't be read, or there is no text at all.
        """
        fingerprint = self.fingerprint(progress)
        known = self.cache_dir / "scans" / f"{fingerprint}.json"
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found = read_summed(known)
            scan, notes = Scan(**found["scan"]), found["notes"]
            if scan.fingerprint == fingerprint:
                self._read_notes = [(int(number), str(note)) for number, note in notes]
                return scan
        notes = []
        documents = characters = size = 0
        blank = True
        for piece in self._pieces(notes):
            documents += piece.ends_document
            characters += len(piece.text)
            size += len(piece.text.encode())
            blank = blank and piece.text.isspace()
            if progress:
                progress(f"reading: {characters:,} characters", None)
        if blank:
            raise DataError(
                "there is no text: only white space" if characters else "there is no text: it is empty",
                where=", ".join(self.paths), fix="give a file with text in it",
            )  # fmt: skip
        self._read_notes = notes
        scan = Scan(fingerprint, documents, characters, size)
        with contextlib.suppress(OSError):  # only saves time
            write_beside(known, summed({"scan": asdict(scan), "notes": notes}))
        return scan

    def fingerprint(self, progress: Progress | None = None) -> str:
        """SHA-256 of every file's bytes, in order, and of how they are read. Names and places don't matter.

        A file that hasn't changed since it was last hashed isn't opened; KnownHashes says what that can miss.
        """
        if self._fingerprint is None:
            options = [FORMAT_VERSION, self._text_field, self._invalid_utf8, asdict(self._cleaning), self._allow_nul]
            options += [] if self._unit == "document" else [self._unit]
            digest = hashlib.sha256(json.dumps(options).encode())
            for kind, content in self._content_hashes(progress):
                digest.update(f"{kind} {content}\n".encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    @cached_property
    def _files(self) -> list[InputFile]:
        files: list[InputFile] = []
        for path in self.paths:
            files += [self._standard_input] if path == "-" else find_files([path])
        return once(files)

    @cached_property
    def _standard_input(self) -> InputFile:
        """Standard input, copied once to the cache under its hash."""
        folder = self.cache_dir / "stdin"
        with explain_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            copy, digest = folder / f".{secrets.token_hex(8)}", hashlib.sha256()
            try:
                with copy.open("wb") as out:
                    for chunk in _standard_input_chunks():
                        digest.update(chunk)
                        out.write(chunk)
                file = copy.replace(folder / digest.hexdigest())
            finally:
                copy.unlink(missing_ok=True)
        return InputFile(file, "standard input", "text")

    def _content_hashes(self, progress: Progress | None) -> Iterator[tuple[str, str]]:
        """Kind of each input, and SHA-256 of its raw bytes."""
        if self._builtin:
            for _, chunks in self._builtin[1]():
                yield "text", _sha256(chunk.encode() for chunk in chunks)
            return
        if progress and "-" in self.paths and sys.stdin is not None and sys.stdin.isatty():
            progress("waiting for text on standard input (end with Ctrl-D)", None)
        sizes = [_size(file.path) for file in self._files]
        before, total = 0, max(1, sum(sizes))
        known = KnownHashes(self.cache_dir, [file.path for file in self._files])
        for file, size in zip(self._files, sizes, strict=True):
            content = _hashable(file, progress, before / total, 1 / total)
            yield file.kind, known.sha256_of(file.path, partial(_sha256, content))
            before += size
        known.save()

    def _documents(self, notes: list[_Note]) -> Iterator[Document]:
        """Every document, empty ones too; what is noticed is added to notes once a file is read."""
        if self._builtin:
            yield from self._builtin[1]()
            return
        for number, file in enumerate(self._files):
            decoder = TextDecoder(
                file.place, invalid_utf8=self._invalid_utf8, allow_nul=self._allow_nul, folder=file.folder
            )
            yield from self._documents_of(file, decoder)
            if decoder.bom_removed:
                notes.append((number, "the byte order mark (U+FEFF) at its beginning was left out"))
            if decoder.replacements:
                notes.append((number, f"{decoder.replacements} invalid UTF-8 sequences were replaced by U+FFFD"))

    def _documents_of(self, file: InputFile, decoder: TextDecoder) -> Iterator[Document]:
        if file.kind == "parquet":
            yield from self._checked(read_parquet(file, self._text_field), decoder)
        else:
            texts = decoder.decode(read_chunks(file))
            if file.kind == "text":
                yield file.place, texts
            elif file.kind == "jsonl":
                yield from self._checked(read_jsonl(texts, file.place, self._text_field), decoder)
            else:
                delimiter = "," if file.kind == "csv" else "\t"
                yield from self._checked(read_csv(texts, file.place, self._text_field, delimiter), decoder)

    def _checked(self, documents: Iterable[Document], decoder: TextDecoder) -> Iterator[Document]:
        """Records can hold, as escapes, what the bytes of a file can't: NUL and halves of surrogate pairs."""
        for where, chunks in documents:
            text = "".join(chunks)
            if "\x00" in text and not self._allow_nul:
                raise DataError(
                    "a NUL character in the text", where=where,
                    fix="remove it, set data.remove_control_characters=true, or use the byte tokenizer: tokenizer=byte",
                )  # fmt: skip
            text, halves = _SURROGATE.subn("\ufffd", text) if not text.isascii() else (text, 0)
            if halves and self._invalid_utf8 == "refuse":
                raise DataError(
                    "half of a surrogate pair (\\ud800 to \\udfff) in the text, which isn't a character", where=where,
                    fix="mend the record, or set data.invalid_utf8=replace",
                )  # fmt: skip
            decoder.replacements += halves
            yield where, [text]


def _sha256(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _hashable(file: InputFile, progress: Progress | None, before: float, share: float) -> Iterator[bytes]:
    done = 0
    with explain_read_errors(file.place), open_regular(file.path, file.place) as stream:
        while chunk := stream.read(_HASH_BYTES):
            done += len(chunk)
            if progress:
                progress(f"hashing {file.place}", before + done * share)
            yield chunk


def _size(path: Path) -> int:
    """Bytes of a file; 0 where the system doesn't tell, which opening it then explains."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _standard_input_chunks() -> Iterator[bytes]:
    with explain_read_errors("standard input"):
        yield from iter(lambda: _stdin().read(_HASH_BYTES), b"")


def _stdin() -> BinaryIO:
    if sys.stdin is None:
        raise DataError("standard input is closed", fix="pipe the text in: cat FILE | trifecta train -")
    return sys.stdin.buffer


def _stem(path: str) -> str:
    """The name without endings; of a pattern, the last plain part."""
    parts = Path(os.path.abspath(path)).parts  # noqa: PTH100 - resolve would follow links
    plain = [part for part in parts if not any(letter in part for letter in "*?[")]
    name = plain[-1] if plain else ""
    return re.sub(r"(\.(gz|zst|zstd|txt|md|jsonl|ndjson|csv|tsv|parquet))+$", "", name, flags=re.IGNORECASE)
