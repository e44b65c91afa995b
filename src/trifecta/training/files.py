"""Files that are whole or not there: written, hashed on the way, synced, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch

from trifecta.errors import CheckpointError, ResourceError

_DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip

_PIECE_BYTES = 1 << 22
_UNWRITABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EEXIST, errno.EISDIR, errno.ENOENT,
    errno.ELOOP, errno.EINVAL,
}  # fmt: skip


class HashingWriter:
    """A binary file that knows the SHA-256 and the length of what was written to it."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._hash = hashlib.sha256()
        self.length = 0

    def write(self, data: bytes | memoryview) -> None:
        """Writes all of it."""
        self._file.write(data)
        self._hash.update(data)
        self.length += len(data)

    @property
    def sha256(self) -> str:
        """Hexadecimal digest so far."""
        return self._hash.hexdigest()


def open_binary(path: Path) -> IO[bytes]:
    """Opens a file for writing; a seam for tests of full disks."""
    return open(path, "wb")


def write_file(path: Path, write: Callable[[HashingWriter], None]) -> dict[str, str | int]:
    """Writes and syncs one file; its SHA-256 and length for a manifest."""
    with open_binary(path) as file:
        writer = HashingWriter(file)
        write(writer)
        file.flush()
        os.fsync(file.fileno())
    return {"sha256": writer.sha256, "bytes": writer.length}


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Replaces a small file as a whole: readers see the old or the new text."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with disk_errors(path.parent, len(text), path.name):
        try:
            write_file(beside, lambda writer: writer.write(text.encode()))
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        sync_folder(path.parent)


def safetensors_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    """Bytes of the tensors' data."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def write_safetensors(writer: HashingWriter, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes the safetensors format tensor by tensor, a few MB at a time, so that nothing is ever there twice.

    The library's own `save_file` first makes a copy of everything in memory, and can't hash on the way. Format: the
    header's length (8 bytes, little endian), a JSON header with dtype, shape and offsets, then the raw data.
    """
    header: dict[str, object] = {}
    offset = 0
    for name, tensor in tensors.items():
        length = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + length],
        }
        offset += length
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    writer.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors.values():
        flat = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        for start in range(0, len(flat), _PIECE_BYTES):
            writer.write(flat[start : start + _PIECE_BYTES].data)


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file, each in aligned memory of its own.

    Raises:
        CheckpointError: not a whole safetensors file, or two tensors of one name.
    """
    from safetensors import SafetensorError, safe_open

    _refuse_repeated_names(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"not a whole safetensors file: {error}", where=str(path)) from error


def _refuse_repeated_names(path: Path) -> None:
    """The library silently takes the last of two tensors of one name."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        if len(names) != len(set(names)):
            raise CheckpointError("a name stands twice in the header", where=str(path))
        return dict(pairs)

    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(100_000_000, path.stat().st_size):
            raise CheckpointError(f"the header claims {length} bytes, more than the file holds", where=str(path))
        try:
            json.loads(file.read(length), object_pairs_hook=unique)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"the header is no JSON: {error}", where=str(path)) from error


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def disk_errors(folder: Path, needed_bytes: int, what: str) -> Iterator[None]:
    """Turns a full disk or a missing permission into a ResourceError with the figures."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise ResourceError(
                f"a file can't grow as large as {what} needs, about {max(needed_bytes, 4096):,} bytes",
                where=str(folder),
                fix="raise the limit on file sizes (`ulimit -f`), or choose a folder on another disk with -o",
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
            raise ResourceError(
                f"the disk is full: {what} needs about {max(needed_bytes, 4096):,} bytes, {free:,} are free",
                where=str(folder),
                fix="free some space, or lower training.keep_last_n; what was saved before is intact",
            ) from error
        if error.errno in _UNWRITABLE:
            reason = (error.strerror or str(error)).lower()
            raise ResourceError(
                f"can't write {what}: {reason}", where=str(folder), fix="choose another folder with -o"
            ) from error
        raise
