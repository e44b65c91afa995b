from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from trifecta.errors import CheckpointError
from trifecta.tracking import journal
from trifecta.tracking.journal import ABANDONED, NAME, Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / NAME


def steps(path: Path) -> list[int]:
    return [event["step"] for event in journal.read(path) if event["event"] == "step"]


@pytest.mark.fast
def test_event_first_and_time_last(path: Path):
    with Journal(path, clock=lambda: 12.5) as events:
        events({"step": 1, "loss": 0.5, "event": "step"})
    assert path.read_text() == '{"event": "step", "step": 1, "loss": 0.5, "time": 12.5}\n'


@pytest.mark.fast
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("inf")])
def test_fault_036_non_finite_is_null(path: Path, bad: float):
    """NaN and both infinities stand in the journal as `null`, at any depth; the line is valid JSON."""
    with Journal(path) as events:
        events({"event": "step", "loss": bad, "inside": [{"deeper": bad}]})
    line = path.read_text()
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert json.loads(line)["loss"] is None
    assert json.loads(line)["inside"] == [{"deeper": None}]


def test_fault_036_non_finite_is_null_control():
    """Python's own JSON writer writes NaN, which isn't JSON."""
    with pytest.raises(pytest.fail.Exception):
        json.loads(json.dumps({"loss": math.nan}), parse_constant=lambda name: pytest.fail(name))


def test_numpy_numbers_and_paths(path: Path):
    with Journal(path) as events:
        events({"event": "step", "step": np.int64(3), "loss": np.float32(0.5), "path": path, "ok": np.bool_(True)})
    event = next(journal.read(path))
    assert (event["step"], event["loss"], event["ok"]) == (3, 0.5, True)
    assert event["path"] == str(path)


@pytest.mark.parametrize(
    "text", ["a\u2028b\u2029c\x85d", "\x1b[31mred\x9b31m", "half \ud83d emoji", "größer 你好 🎉", "a\nb\r"]
)
def test_any_text_stays_on_one_line_and_comes_back(path: Path, text: str):
    with Journal(path) as events:
        events({"event": "sample", "text": text})
    written = path.read_bytes()
    assert len(written.decode().splitlines()) == 1
    assert b"\x1b" not in written
    assert "\x9b" not in written.decode()
    assert next(journal.read(path))["text"] == text


def test_offset_counts_bytes(path: Path):
    with Journal(path) as events:
        assert events.offset == 0
        events({"event": "note", "message": "größer"})
        assert events.offset == path.stat().st_size
    with Journal(path) as again:
        assert again.offset == path.stat().st_size


@pytest.mark.fast
def test_truncate_moves_the_tail_so_that_each_step_is_there_once(path: Path):
    with Journal(path) as events:
        for step in (1, 2):
            events({"event": "step", "step": step})
        offset = events.offset
        for step in (3, 4):
            events({"event": "step", "step": step})
        events.sync()
    with Journal(path) as events:
        assert events.truncate_to(offset) > 0
        assert events.offset == offset
        for step in (3, 4, 5):
            events({"event": "step", "step": step})
    assert steps(path) == [1, 2, 3, 4, 5]
    assert steps(path.with_name(ABANDONED)) == [3, 4]


def test_truncate_control_without_it_steps_are_there_twice(path: Path):
    with Journal(path) as events:
        for step in (1, 2, 3, 3):
            events({"event": "step", "step": step})
    assert steps(path) != [1, 2, 3]


def test_truncate_appends_to_what_was_abandoned_before(path: Path):
    with Journal(path) as events:
        events({"event": "step", "step": 1})
        offset = events.offset
        for attempt in (2, 3):
            events({"event": "step", "step": attempt})
            events.truncate_to(offset)
        assert events.truncate_to(offset) == 0
    assert steps(path.with_name(ABANDONED)) == [2, 3]


def test_truncate_killed_between_copy_and_cut(path: Path, monkeypatch: pytest.MonkeyPatch):
    with Journal(path) as events:
        events({"event": "step", "step": 1})
        offset = events.offset
        events({"event": "step", "step": 2})

        def killed(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(events, "sync", killed)
            patch.setattr(events, "_file", _NoTruncate(events._file))
            with pytest.raises(KeyboardInterrupt):
                events.truncate_to(offset)
        assert steps(path) == [1, 2]
        assert steps(path.with_name(ABANDONED)) == [2]
    with Journal(path) as events:
        events.truncate_to(offset)
    assert steps(path) == [1]
    assert steps(path.with_name(ABANDONED)) == [2]


class _NoTruncate:
    """A file whose cut never happens: the process is killed in it."""

    def __init__(self, file):
        self._file = file

    def __getattr__(self, name):
        return getattr(self._file, name)

    def truncate(self, _):
        raise KeyboardInterrupt


def test_truncate_inside_a_line_takes_its_start(path: Path):
    with Journal(path) as events:
        events({"event": "step", "step": 1})
        offset = events.offset
        events({"event": "step", "step": 2})
        events.truncate_to(offset + 5)
    assert steps(path) == [1]


def test_truncate_beyond_the_end_says_what_is_lost(path: Path):
    with Journal(path) as events:
        events({"event": "step", "step": 1})
        assert events.truncate_to(events.offset + 100) == 0
    last = list(journal.read(path))[-1]
    assert last["event"] == "note"
    assert "100 bytes" in last["message"]


@pytest.mark.fast
@pytest.mark.parametrize("tail", [b'{"event": "st', b"\0\0\0\0", b'"event"', b"{}"])
def test_fault_091_torn_last_line_is_dropped(path: Path, tail: bytes):
    """A torn last line of the journal is left out on reading, and the next start writes on in its place."""
    with Journal(path) as events:
        events({"event": "step", "step": 1})
    with path.open("ab") as file:
        file.write(tail)
    assert steps(path) == [1]
    with Journal(path) as events:
        events({"event": "step", "step": 2})
    assert steps(path) == [1, 2]


def test_fault_091_torn_last_line_control(path: Path):
    """Writing on behind half a line damages the middle of the journal."""
    path.write_bytes(b'{"event": "st{"event": "step", "step": 2}\n{"event": "end"}\n')
    with pytest.raises(CheckpointError):
        list(journal.read(path))


@pytest.mark.fast
@pytest.mark.parametrize("damage", [b"x", b"[1]", b"3", b"{}", b"\xff\xfe", b""])
def test_fault_091_damaged_middle_line_is_named(path: Path, damage: bytes):
    """A damaged line in the middle of the journal is refused (4) with file and line."""
    path.write_bytes(b'{"event": "step", "step": 1}\n' + damage + b'\n{"event": "end"}\n')
    with pytest.raises(CheckpointError, match="damaged") as caught:
        list(journal.read(path))
    assert caught.value.where == f"{path}:2"
    assert caught.value.exit_code == 4


def test_a_file_longer_than_a_block_is_cut_at_its_last_line(path: Path):
    with Journal(path) as events:
        events({"event": "step", "step": 1})
    with path.open("ab") as file:
        file.write(b"x" * 200_000)
    with Journal(path) as events:
        events({"event": "step", "step": 2})
    assert steps(path) == [1, 2]


@pytest.mark.fast
def test_fault_009_full_disk_leaves_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch):
    """A disk that fills up within a line of the journal leaves no half line: the lines before and after it are read."""
    with Journal(path) as events:
        events({"event": "step", "step": 1})
        file = events._file
        with monkeypatch.context() as patch:
            patch.setattr(events, "_file", _Full(file, 7))
            with pytest.raises(OSError, match="No space"):
                events({"event": "step", "step": 2})
        events({"event": "step", "step": 3})
    assert steps(path) == [1, 3]


class _Full:
    """A file on a disk with room for a few bytes."""

    def __init__(self, file, room: int):
        self._file, self._room = file, room

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, content):
        if not self._room:
            raise OSError(28, "No space left on device")
        written = self._file.write(bytes(content[: self._room]))
        self._room -= written
        return written


@pytest.mark.parametrize("inside", ["", "checkpoints", "checkpoints/best"])
def test_find_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str):
    run = tmp_path / "run"
    (run / "checkpoints" / "best").mkdir(parents=True)
    (run / NAME).touch()
    assert journal.find_run(run / inside) == run
    monkeypatch.chdir(run / inside)
    assert journal.find_run(".").resolve() == run


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_find_run_says_what_is_missing(tmp_path: Path, name: str):
    with pytest.raises(CheckpointError, match="run") as caught:
        journal.find_run(tmp_path / name)
    assert "trifecta runs" in str(caught.value)
    with pytest.raises(CheckpointError):
        list(journal.read(tmp_path / name))
