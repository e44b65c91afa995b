"""journal.jsonl: what happened in a run, one JSON object a line, only ever appended to."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from io import RawIOBase
from pathlib import Path
from types import TracebackType
from typing import Any

from trifecta.errors import CheckpointError

NAME = "journal.jsonl"
ABANDONED = "journal.abandoned.jsonl"

# Whole numbers above this are no longer exact as floats; no count in a run comes near.
MAX_WHOLE = 2**53

# Legal inside JSON strings, but line ends to some readers, or commands to some terminals.
_RAW_CONTROLS = re.compile("[\x7f-\x9f\u2028\u2029]")


def to_line(event: Mapping[str, Any]) -> str:
    """The event as one line of strict JSON without a line end: `event` first, `time` last, non-finite numbers null."""
    ordered = {"event": event["event"]} | {k: v for k, v in event.items() if k not in ("event", "time")}
    if "time" in event:
        ordered["time"] = event["time"]
    return to_json(ordered)


def to_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON: NaN and infinities become null, NumPy and torch scalars numbers, paths strings."""
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent)
    return _RAW_CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "item"):
        return _plain(value.item())
    return str(value)


class Journal:
    """Appends events to a journal; is itself a hook.

    A last line that a crash tore apart is cut off on opening, so that nothing is ever appended to half a line.
    """

    def __init__(self, path: Path | str, *, clock: Callable[[], float] = time.time):
        self.path = Path(path)
        self._clock = clock
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab+", buffering=0)
        end = self._file.seek(0, os.SEEK_END)
        whole = self._line_start(end)
        if whole < end:
            self._file.truncate(whole)
        self._offset = whole

    @property
    def offset(self) -> int:
        """Bytes of whole lines so far; what `truncate_to` takes."""
        return self._offset

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Appends one event and hands it to the operating system at once; `time` is added where it is missing.

        Raises:
            OSError: the line couldn't be written whole, say on a full disk; what was written of it is removed again.
        """
        line = to_line({"time": self._clock()} | dict(event)).encode("utf-8", "backslashreplace") + b"\n"
        try:
            _write_all(self._file, line)
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self._offset)
            raise
        self._offset += len(line)

    def sync(self) -> None:
        """Returns when everything written is on the disk."""
        os.fsync(self._file.fileno())

    def truncate_to(self, offset: int) -> int:
        """Moves what follows `offset` to journal.abandoned.jsonl beside the journal; returns how many bytes that was.

        Killed in between, it has copied but not yet cut: the next call sees the copy and only cuts. A journal that is
        shorter than `offset` has lost lines, which it says in a note; an offset inside a line means the line's start.
        """
        if offset > self._offset:
            lost = offset - self._offset
            self({"event": "note", "message": f"{lost} bytes of this journal were lost before the run went on"})
            return 0
        offset = self._line_start(offset)
        self._file.seek(offset)
        tail = self._file.read()
        if tail:
            _append_once(self.path.with_name(ABANDONED), tail)
            self._file.truncate(offset)
            self.sync()
            self._offset = offset
        return len(tail)

    def close(self) -> None:
        """Closes the file; the journal can't be written to afterwards."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _line_start(self, position: int) -> int:
        """Start of the line that holds the byte at `position`; `position` itself after a line end."""
        block = 1 << 16
        while position > 0:
            start = max(0, position - block)
            self._file.seek(start)
            found = self._file.read(position - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            position = start
        return 0


def _append_once(path: Path, tail: bytes) -> None:
    """Appends the tail and syncs, unless the file already ends with it."""
    with path.open("ab+", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(tail)))
        if file.read() != tail:
            _write_all(file, tail)
        os.fsync(file.fileno())


def _write_all(file: RawIOBase, content: bytes) -> None:
    """An unbuffered file may take a part at a time."""
    view = memoryview(content)
    while view:
        view = view[file.write(view) or 0 :]


def read(path: Path | str, needed: Mapping[str, Collection[str]] | None = None) -> Iterator[dict[str, Any]]:
    """Each event of a journal in turn, with flat memory; a last line torn by a crash is left out.

    Args:
        needed: for a kind of event, the fields that the caller reads as numbers. `step` is a whole number; the others
            may be null too.

    Raises:
        CheckpointError: no such journal, or a damaged line that isn't the torn last one; names the line.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would wait for ever
            raise CheckpointError("the journal isn't a file", where=str(path), fix="name the folder of a run")
        file = path.open("rb")
    except OSError as error:
        raise CheckpointError(
            f"the journal can't be read: {error.strerror}", where=str(path), fix="name the folder of a run"
        ) from error
    with file:
        for number, line in enumerate(file, 1):
            try:
                event = json.loads(line, parse_constant=lambda _: None)
                lacking = _lacking(event, needed or {})
            except (ValueError, RecursionError):
                lacking = "a JSON object with an 'event'"
            if not lacking:
                yield event
            elif line.endswith(b"\n"):
                raise CheckpointError(
                    f"this line of the journal is damaged: {lacking} was expected",
                    where=f"{path}:{number}",
                    fix="delete the line; the checkpoints don't depend on it",
                )


def _lacking(event: Any, needed: Mapping[str, Collection[str]]) -> str:
    """What an event should have been or held; empty when it is whole."""
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return "a JSON object with an 'event'"
    for name in needed.get(event["event"], ()):
        value = event.get(name, "")
        if name == "step":
            if type(value) is not int or not 0 <= value < MAX_WHOLE:
                return "a whole number as 'step'"
        elif value is not None and type(value) is not float and (type(value) is not int or abs(value) >= MAX_WHOLE):
            return f"a number as {name!r}"
    return ""


def find_run(path: Path | str) -> Path:
    """The run folder that `path` is or lies in: a run, `RUN/checkpoints`, or a checkpoint inside.

    Raises:
        CheckpointError: no such path, or no journal there or up to two folders above.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError("no such run", where=str(path), fix="`trifecta runs` lists the runs there are")
    for folder in [path, *list(path.parents)[:2], *path.absolute().parents[:2]]:
        if (folder / NAME).is_file():
            return folder
    raise CheckpointError(
        f"not a run: no {NAME} in it", where=str(path), fix="`trifecta runs` lists the runs there are"
    )
