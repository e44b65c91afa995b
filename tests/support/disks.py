"""Disks that are full."""

from __future__ import annotations

import errno
from typing import IO, Any


class Full:
    """A file on a disk that is full after k bytes; `room` is shared by the files of that disk."""

    def __init__(self, file: IO[bytes], room: list[int]):
        self._file, self._room = file, room

    def write(self, data: bytes) -> int:
        self._room[0] -= len(data)
        if self._room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def __enter__(self) -> Full:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
