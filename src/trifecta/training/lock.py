"""One process for each run folder."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from trifecta.errors import RecipeError

NAME = ".lock"
_held: set[TextIO] = set()


def _leave_to_parent() -> None:
    for file in _held:
        file.close()
    _held.clear()


os.register_at_fork(after_in_child=_leave_to_parent)  # else data workers that outlive a killed run would hold it


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Holds the folder's lock while the block runs; the kernel frees it when the process dies, however it dies.

    Raises:
        RecipeError: another process holds it; the message says which.
    """
    with open(folder / NAME, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RecipeError(
                f"another process is training here: {file.read().strip() or 'unknown'}", where=str(folder),
                fix="wait for it, stop it, or choose another folder with -o",
            ) from None  # fmt: skip
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        _held.add(file)
        try:
            yield
        finally:
            if file in _held:
                _held.remove(file)
                file.truncate(0)


def is_held(folder: Path) -> bool:
    """Whether a living process trains in this folder."""
    try:
        with open(folder / NAME, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
