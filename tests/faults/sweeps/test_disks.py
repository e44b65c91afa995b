"""Disks that fill up in the middle of anything: exit code 6, and nothing that was saved is lost."""

from __future__ import annotations

import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
from disks import Full
from runs import SETTINGS, SHORT, command, same, train, train_here, variables, write_text

from trifecta.errors import ResourceError
from trifecta.training import checkpoint, files

pytestmark = [pytest.mark.sweep, pytest.mark.timeout(560)]
Settings = dict[str, Any]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A text, and an undisturbed run on it."""
    place = tmp_path_factory.mktemp("short")
    text = write_text(place / "words.txt", words=300)
    train_here(text, place / "whole", **SHORT)
    return text, place / "whole"


@pytest.mark.parametrize("share", [n / 16 for n in range(36)])
def test_fault_009_full_after_k_bytes(
    short: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """A disk that fills up after any number of bytes within the first saves ends the run (6) with the bytes needed and
    free, and leaves nothing half written; with room again, the run ends with the same bytes."""
    text, whole = short
    size = sum(path.stat().st_size for path in (whole / "checkpoints" / "final").iterdir())
    opening, room = files.open_binary, [int(size * share)]
    with monkeypatch.context() as patch:
        patch.setattr(files, "open_binary", lambda path: Full(opening(path), room))
        with pytest.raises(
            ResourceError, match=r"disk is full: .* needs about [\d,]+ bytes, [\d,]+ are free"
        ) as caught:
            train_here(text, tmp_path / "run", **SHORT)
    assert caught.value.exit_code == 6
    assert not list((tmp_path / "run").rglob(".partial*"))
    train_here(text, tmp_path / "run", **SHORT)
    same(tmp_path / "run", whole)


@pytest.mark.parametrize("limit", [500, 20_000, 45_000])
def test_fault_009_file_size_limit(
    text: Path, whole: Path, settings: Settings, tmp_path: Path, limit: int
) -> None:  # fmt: skip
    """A limit on the size of files (its error is EFBIG), met by journal, weights or moments, ends the run (6); without
    the limit, the run ends with the same bytes."""
    capped = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    refused = train(text, tmp_path / "run", plant=capped, **settings)
    assert refused.returncode == 6, refused.stderr
    assert "a file can't grow as large as" in refused.stderr
    assert train(text, tmp_path / "run", **settings).returncode == 0
    same(tmp_path / "run", whole)


def can_mount(place: Path) -> bool:
    """Whether a private tmpfs may be mounted here, as root or in a user namespace."""
    done = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(place)], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.mark.parametrize("kilobytes", [8, 130, 300])
def test_fault_009_a_real_small_disk(
    text: Path, whole: Path, settings: Settings, tmp_path: Path, kilobytes: int, record_property: Any
) -> None:
    """A real full disk, a tmpfs of a few KB (a limit on file sizes where none may be mounted), ends the run (6); with
    room again, the run ends with the same bytes."""
    place = tmp_path / "small"
    place.mkdir()
    if not can_mount(place):
        record_property("disk", "a file-size limit; mounting isn't permitted")
        test_fault_009_file_size_limit(text, whole, settings, tmp_path, kilobytes * 140)
        return
    record_property("disk", "tmpfs")
    script = textwrap.dedent("""
        mount -t tmpfs -o size=$1k none "$2" || exit 90
        "${@:4}" 2> "$3/first.txt"; echo $? > "$3/code"
        "${@:4}" 2> "$3/second.txt" && exit 91
        mount -o remount,size=64m "$2" || exit 92
        "${@:4}" || exit 93
        cp -a "$2/run" "$3/copy"
    """)
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", script, "bash", str(kilobytes), str(place), str(tmp_path),
         *command(text, place / "run", **settings)],
        capture_output=True, text=True, env=variables(text), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "code").read_text() == "6\n", (tmp_path / "first.txt").read_text()
    assert "the disk is full" in (tmp_path / "first.txt").read_text()
    assert "the disk is full" in (tmp_path / "second.txt").read_text()
    same(tmp_path / "copy", whole)


def test_fault_009_control_a_save_that_clears_the_way_first_is_noticed(
    short: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save that removes the old checkpoint before the new one is whole leaves none on a full disk."""
    text, whole = short
    size = sum(path.stat().st_size for path in (whole / "checkpoints" / "final").iterdir())
    opening, saving, room = files.open_binary, checkpoint.save, [int(size * 1.5)]

    def rash(root: Path, *arguments: Any, **options: Any) -> Any:
        for folder in checkpoint.candidates(root):
            shutil.rmtree(folder)
        return saving(root, *arguments, **options)

    monkeypatch.setattr(checkpoint, "save", rash)
    monkeypatch.setattr(files, "open_binary", lambda path: Full(opening(path), room))
    with pytest.raises(ResourceError):
        train_here(text, tmp_path / "run", **SHORT)
    assert checkpoint.newest(tmp_path / "run" / "checkpoints", print) is None
    assert SETTINGS["training.keep_last_n"] == 2
