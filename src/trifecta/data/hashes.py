"""SHA-256 of files, remembered for as long as they stay as they are, so that resuming reads nothing of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from trifecta.data.cache import read_summed, summed, write_beside

_SETTLED_NS = 2_000_000_000
"""A file that changed this shortly before it was hashed may change again within one tick of its clock."""


class KnownHashes:
    """The hashes of one list of files, kept in the cache as git's index keeps them.

    A hash counts while the file's size, inode, and times of change (mtime and ctime, in nanoseconds) are those of the
    moment when it was taken. Only a content that is replaced with all of these put back goes unnoticed; setting ctime
    back takes another clock or another disk.
    """

    def __init__(self, cache_dir: Path, paths: Sequence[Path]):
        names = "\0".join(map(os.path.abspath, paths))
        self._file = (
            cache_dir / "hashes" / f"{hashlib.sha256(names.encode('utf-8', 'surrogateescape')).hexdigest()}.json"
        )
        self._known: dict[str, list[str | int]] = {}
        self._changed = False
        found = read_summed(self._file)
        self._known = found if isinstance(found, dict) else {}

    def sha256_of(self, path: Path, read: Callable[[], str]) -> str:
        """The file's hash: the known one if the file is unchanged, else what `read` finds."""
        name, identity = os.path.abspath(path), _identity(path)  # noqa: PTH100 - resolve would follow links
        known = self._known.get(name)
        if identity and isinstance(known, list) and known[1:] == identity:
            return str(known[0])
        now = time.time_ns()
        found = read()
        self._changed |= self._known.pop(name, None) is not None
        if identity and identity == _identity(path) and now - identity[2] > _SETTLED_NS:
            self._known[name] = [found, *identity]
            self._changed = True
        return found

    def save(self) -> None:
        """Keeps what is new; a cache that can't be written only costs time."""
        if self._changed:
            with contextlib.suppress(OSError):
                write_beside(self._file, summed(self._known))


def _identity(path: Path) -> list[int] | None:
    """Size, inode, mtime, ctime; None for what isn't a file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
