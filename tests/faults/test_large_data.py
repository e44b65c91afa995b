"""Text larger than memory, and text that is no text."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from large import AT_ONCE, MiB, one_line, prepared

from trifecta.data import Sources
from trifecta.errors import DataError


@pytest.mark.parametrize("kind", ["byte", "char"])
def test_fault_047_one_long_line_is_read_in_bounded_memory(kind: str, tmp_path: Path) -> None:
    """One line of 64 MB makes the process grow by less than 32 MB."""
    found = prepared(one_line(tmp_path / "line.txt", 64), kind)
    assert found is not None
    assert found["tokens"] == 64 * MiB
    assert found["grown"] < 32 * MiB


def test_fault_047_control_a_line_read_at_once_is_noticed(tmp_path: Path) -> None:
    """A line read at once makes the process grow by more than its 64 MB."""
    found = prepared(one_line(tmp_path / "line.txt", 64), "byte", plant=AT_ONCE)
    assert found is not None
    assert found["grown"] > 64 * MiB


@pytest.mark.slow
def test_fault_048_a_file_larger_than_memory_gives_the_same_tokens(tmp_path: Path) -> None:
    """A file four times as large as the memory allowed gives the same tokens as without a limit."""
    path = one_line(tmp_path / "large.txt", 128)
    capped = prepared(path, "byte", cap=32 * MiB)
    assert capped is not None, "out of memory"
    assert capped["tokens"] == 128 * MiB
    free = prepared(path, "byte")
    assert free is not None
    assert capped["sha256"] == free["sha256"]


def test_fault_048_control_a_file_read_at_once_is_noticed(tmp_path: Path) -> None:
    """A file read at once doesn't fit into the memory allowed."""
    assert prepared(one_line(tmp_path / "large.txt", 128), "byte", cap=32 * MiB, plant=AT_ONCE) is None


class Canary:
    """Runs when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def object_npy(folder: Path, name: str = "data.npy") -> Path:
    """An .npy file whose pickle leaves a file behind when it is loaded."""
    array = np.empty(200, dtype=object)
    array[:] = [Canary(folder / "canary")] * 200
    np.save(folder / name, array, allow_pickle=True)
    return folder / name


@pytest.mark.fast
@pytest.mark.parametrize("name", ["data.npy", "data.txt", "data.jsonl", "data.csv"])
def test_fault_077_an_object_npy_is_refused_unread(name: str, tmp_path: Path) -> None:
    """A NumPy file of pickled objects is refused as binary data (3), also when it is called .txt, .jsonl or .csv;
    nothing in it is unpickled."""
    path = object_npy(tmp_path).rename(tmp_path / name)
    with pytest.raises(DataError) as caught:
        Sources([str(path)]).scan()
    assert caught.value.exit_code == 3
    assert "a NumPy array (.npy)" in str(caught.value)
    assert not (tmp_path / "canary").exists()


@pytest.mark.fast
def test_fault_077_control_a_loader_that_unpickles_is_noticed(tmp_path: Path) -> None:
    """NumPy with pickles allowed runs the code in the file."""
    np.load(object_npy(tmp_path), allow_pickle=True)
    assert (tmp_path / "canary").exists()
    (tmp_path / "canary").unlink()
    pickle.load(io.BytesIO(pickle.dumps(Canary(tmp_path / "canary"))))
    assert (tmp_path / "canary").exists()
