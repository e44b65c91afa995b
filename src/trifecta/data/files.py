"""Which files are meant by paths, folders and globs, and their bytes, unpacked, without ever hanging."""

from __future__ import annotations

import contextlib
import errno
import glob
import gzip
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from trifecta.errors import DataError, did_you_mean

CHUNK_BYTES = 1 << 18
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_PACKED = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}


@dataclass(frozen=True)
class InputFile:
    """A file to read.

    place: how messages name it. kind: text, jsonl, csv, tsv or parquet. folder: the folder that was given and holds it;
    empty when the file itself was.
    """

    path: Path
    place: str
    kind: str
    folder: str = ""


def find_files(paths: Iterable[str]) -> list[InputFile]:
    """Files meant by paths: themselves, a folder's (recursive, sorted, without hidden ones), or a glob's (sorted).

    Raises:
        DataError: a path means nothing; the message names the nearest. A file is meant twice.
    """
    return once([
        _input_file(path, folder="" if path == Path(given).expanduser() or _is_pattern(given) else given)
        for given in paths
        for path in _expand(given)
    ])  # fmt: skip


def once(files: list[InputFile]) -> list[InputFile]:
    """The files.

    Raises:
        DataError: one is among them twice.
    """
    seen: set[Path] = set()
    for file in files:
        place = file.path.absolute()
        if place in seen:
            raise DataError(
                "this file is given twice: it could be trained on and validated on", where=file.place,
                fix="name it once; a folder and a pattern mean every file that is there",
            )  # fmt: skip
        seen.add(place)
    return files


def _is_pattern(given: str) -> bool:
    return any(letter in given for letter in "*?[") and not Path(given).expanduser().exists()


def _expand(given: str) -> list[Path]:
    path = Path(given).expanduser()
    try:
        exists = path.is_symlink() or path.exists()
        is_folder = exists and path.is_dir()
    except (OSError, ValueError) as error:
        raise DataError(f"this can't be used as a path: {error}", where=given[:200], fix="check the path") from error
    if is_folder:
        return _files_below(path)
    if exists:
        return [path]
    if _is_pattern(given):
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - takes absolute ones
        files = [file for match in matches for file in (_walk(match) if match.is_dir() else [match])]
        if not files:
            raise DataError(
                "no file matches this pattern", where=given, fix="** stands for any folders, * for any name"
            )
        return list(dict.fromkeys(files))
    raise DataError("there is no such file or folder", where=given, fix=_near(path))


def _near(path: Path) -> str:
    """What may have been meant."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"the folder {path.parent} doesn't exist either, or can't be read"
    return did_you_mean(path.name, names) or "check the path"


def _files_below(folder: Path) -> list[Path]:
    files = list(_walk(folder))
    if not files:
        raise DataError(
            "this folder has no files",
            where=str(folder),
            fix="give a folder that holds text files, or images for --arch vit",
        )
    return files


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder in the order of their paths. Links to folders aren't followed, so no loop can trap it."""

    def refuse(error: OSError) -> None:
        raise DataError(
            f"this folder can't be read: {error.strerror}", where=str(error.filename), fix="check its permissions"
        ) from error

    found = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in names if not name.startswith(".")]
    yield from sorted(found, key=lambda file: file.parts)


def _input_file(path: Path, folder: str) -> InputFile:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return InputFile(path, str(path), _KINDS.get(suffixes[-1], "text") if suffixes else "text", folder)


def open_regular(path: Path, place: str) -> BinaryIO:
    """Opens a regular file, and nothing that could block or never end.

    Raises:
        DataError: missing, unreadable, a pipe, a device, or a loop of links.
    """
    try:
        # A pipe without a writer would block here; with O_NONBLOCK it opens, and fstat tells what it is.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        loop = error.errno == errno.ELOOP
        what = "its symbolic links lead round in a circle" if loop else f"it can't be opened: {error.strerror}"
        fix = "let the link point at a file" if loop else "check that it exists and that you may read it"
        raise DataError(what, where=place, fix=fix) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(
            "this is a pipe, a device or a folder, not a file", where=place, fix="pipe the text in and give - as path"
        )
    return os.fdopen(descriptor, "rb")


def read_chunks(file: InputFile) -> Iterator[bytes]:
    """The file's bytes, unpacked if they are gzip or zstd, in chunks of bounded size.

    Raises:
        DataError: it can't be read, or is damaged.
    """
    with explain_read_errors(file.place), open_regular(file.path, file.place) as stream:
        packed = _PACKED.get(file.path.suffix.lower())
        try:
            magic = stream.read(4)
            stream.seek(0)
            if magic.startswith(GZIP_MAGIC):
                yield from _gunzip(stream)
            elif magic == ZSTD_MAGIC:
                yield from _unzstd(stream, file.place)
            elif packed and magic:
                raise DataError(
                    f"named {file.path.suffix}, but its content isn't {packed}",
                    where=file.place,
                    fix="rename it, or fetch it again if it is damaged",
                )
            else:
                yield from iter(lambda: stream.read(CHUNK_BYTES), b"")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"damaged gzip data: {error}", where=file.place, fix="pack the file again") from error


@contextlib.contextmanager
def explain_read_errors(place: str) -> Iterator[None]:
    """Turns an error of the system while reading into a DataError that names the place."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"it can't be read: {error.strerror or error}", where=place,
            fix="check that it is an ordinary file and the disk it is on, or copy it elsewhere first",
        ) from error  # fmt: skip


def _gunzip(stream: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=stream) as unpacked:
        yield from iter(lambda: unpacked.read(CHUNK_BYTES), b"")


def _unzstd(stream: BinaryIO, place: str) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise DataError(
            "zstd data needs the package zstandard", where=place, fix="pip install 'trifecta[zstd]'"
        ) from error
    # A decompressor object, not the reader: only this tells a truncated frame. Small input bounds what one call makes.
    frame, rest = zstandard.ZstdDecompressor().decompressobj(), b""
    try:
        while packed := rest or stream.read(4096):
            if frame.eof:
                frame = zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(packed)
            rest = frame.unused_data
    except zstandard.ZstdError as error:
        raise DataError(f"damaged zstd data: {error}", where=place, fix="pack the file again") from error
    if not frame.eof:
        raise DataError("damaged zstd data: it ends in the middle", where=place, fix="pack the file again")
