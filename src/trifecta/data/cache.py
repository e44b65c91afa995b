"""Where tokenized text is kept, and how a file or folder appears there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trifecta.errors import ResourceError


def default_cache_dir() -> Path:
    """$TRIFECTA_CACHE, else the user's cache folder of this system."""
    if chosen := os.environ.get("TRIFECTA_CACHE"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "trifecta"
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return Path(base or Path.home() / ".cache") / "trifecta"


def sync(path: Path) -> None:
    """Forces a file or a folder's names onto the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows has no way to sync a folder
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def explain_disk_errors(folder: Path) -> Iterator[None]:
    """Turns a full disk or a lack of permission into a ResourceError that names the cache folder."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"the cache can't be written: {error.strerror or error}", where=str(error.filename or folder),
            fix="make room, or choose another folder: data.cache_dir=FOLDER (or the variable TRIFECTA_CACHE)",
        ) from error  # fmt: skip


@contextlib.contextmanager
def build_beside(target: Path) -> Iterator[Path]:
    """A new folder beside `target`; when the block ends well it is synced and renamed to `target`.

    When another process was faster, theirs stays: both built the same. A target that is there already when the block
    begins is taken to be damaged and is replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target.parent)
    damaged = _identity(target)
    folder = target.parent / f".{target.name}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}.building"
    folder.mkdir()
    try:
        yield folder
        for file in folder.iterdir():
            sync(file)
        sync(folder)
        if damaged is not None and _identity(target) == damaged:
            with contextlib.suppress(FileNotFoundError):
                target.rename(folder.with_suffix(".damaged.building"))
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        sync(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder.with_suffix(".damaged.building"), ignore_errors=True)


def summed(value: Any) -> bytes:
    """A value as JSON with its SHA-256, as `read_summed` wants it."""
    return json.dumps({"value": value, "sha256": _sum(value)}).encode()


def read_summed(path: Path) -> Any:
    """The value of a file made of `summed`; None where the file is missing or damaged."""
    try:
        found = json.loads(path.read_bytes())
        return found["value"] if found["sha256"] == _sum(found["value"]) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _sum(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_beside(target: Path, content: bytes) -> None:
    """Writes a file beside its place and renames it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    file = target.parent / f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        file.write_bytes(content)
        sync(file)
        file.replace(target)
    finally:
        file.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _remove_abandoned(parent: Path) -> None:
    """Removes what killed processes of this machine left half built."""
    for folder in parent.glob(f".*.{socket.gethostname()}.*.building"):
        process = folder.name.removesuffix(".building").removesuffix(".damaged").split(".")[-2]
        if process.isdigit() and not _is_alive(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
