"""Hashes of files that are remembered, and when they aren't trusted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifecta.data import Sources, TokenStore, hashes
from trifecta.data.hashes import KnownHashes
from trifecta.errors import DataError

pytestmark = pytest.mark.fast


def old(path: Path, content: str, age: int = 100) -> Path:
    """A file whose content is that old."""
    path.write_text(content)
    then = path.stat().st_mtime_ns - age * 10**9
    os.utime(path, ns=(then, then))
    return path


def hashed(paths: list[Path], cache: Path) -> tuple[str, list[str]]:
    """The fingerprint, and the files that were opened for it."""
    opened: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        from trifecta.data import sources

        plain = sources.open_regular
        patch.setattr(sources, "open_regular", lambda path, place: (opened.append(path.name), plain(path, place))[1])
        return Sources([str(path) for path in paths], cache_dir=cache).fingerprint(), opened


def test_an_unchanged_file_is_not_opened_again(tmp_path: Path) -> None:
    files = [old(tmp_path / "a.txt", "some text"), old(tmp_path / "b.txt", "more text")]
    first, opened = hashed(files, tmp_path / "cache")
    assert opened == ["a.txt", "b.txt"]
    assert hashed(files, tmp_path / "cache") == (first, [])
    assert hashed(files, tmp_path / "other")[0] == first


def changes(tmp_path: Path) -> tuple[str, str, list[str]]:
    """Fingerprints before and after another content of the same length, and the files opened for the second."""
    files = [old(tmp_path / "a.txt", "some text"), old(tmp_path / "b.txt", "more text")]
    first, _ = hashed(files, tmp_path / "cache")
    old(files[0], "same size", age=50)
    second, opened = hashed(files, tmp_path / "cache")
    return first, second, opened


def test_another_content_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    first, second, opened = changes(tmp_path)
    assert first != second
    assert opened == ["a.txt"]


def test_another_content_control_size_alone_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "_identity", lambda path: [path.stat().st_size, 0, 0, 0])
    first, second, opened = changes(tmp_path)
    assert (first, opened) == (second, [])


def test_a_replaced_file_with_its_old_time_is_noticed(tmp_path: Path) -> None:
    file = old(tmp_path / "a.txt", "some text")
    first, _ = hashed([file], tmp_path / "cache")
    status = file.stat()
    (tmp_path / "b.txt").write_text("same size")
    os.utime(tmp_path / "b.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "b.txt").replace(file)
    assert file.stat().st_mtime_ns == status.st_mtime_ns
    second, opened = hashed([file], tmp_path / "cache")
    assert opened == ["a.txt"]
    assert first != second


@pytest.mark.parametrize("age", [0, 1, -1000])
def test_a_file_that_changed_just_now_is_hashed_again(tmp_path: Path, age: int) -> None:
    """It could change again within the same tick of the clock."""
    file = old(tmp_path / "a.txt", "some text", age)
    for _ in range(2):
        assert hashed([file], tmp_path / "cache")[1] == ["a.txt"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}', "\x00", "[" * 200_000])
def test_a_damaged_memory_is_only_forgotten(tmp_path: Path, content: str) -> None:
    file = old(tmp_path / "a.txt", "some text")
    first, _ = hashed([file], tmp_path / "cache")
    (known,) = (tmp_path / "cache" / "hashes").iterdir()
    known.write_text(content)
    assert hashed([file], tmp_path / "cache") == (first, ["a.txt"])
    assert hashed([file], tmp_path / "cache") == (first, [])


def test_fault_012_one_damaged_digit_of_a_remembered_hash_is_noticed(tmp_path: Path) -> None:
    """A remembered hash with one digit changed isn't believed: the file is hashed again."""
    file = old(tmp_path / "a.txt", "some text")
    first, _ = hashed([file], tmp_path / "cache")
    (known,) = (tmp_path / "cache" / "hashes").iterdir()
    start = known.read_text().index('["') + 2
    text = known.read_text()
    known.write_text(text[:start] + ("0" if text[start] != "0" else "1") + text[start + 1 :])
    assert hashed([file], tmp_path / "cache") == (first, ["a.txt"])


def test_fault_012_control_a_memory_without_a_sum_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a sum over them, damaged remembered hashes are believed."""
    monkeypatch.setattr("trifecta.data.cache._sum", lambda _: "")
    with pytest.raises(AssertionError):
        test_fault_012_one_damaged_digit_of_a_remembered_hash_is_noticed(tmp_path)


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    file = old(tmp_path / "a.txt", "some text")
    (tmp_path / "cache").write_text("in the way")
    known = KnownHashes(tmp_path / "cache", [file])
    assert known.sha256_of(file, lambda: "x") == "x"
    known.save()


# ------------------------------------------------------------------------------------------------------ token sums


def store_of(prepared: Any, write: Any, tmp_path: Path, size: int = 200_000) -> tuple[TokenStore, Path]:
    store = prepared([write("a.txt", "0123456789" * (size // 10))], "byte").train
    (entry,) = (tmp_path / "cache" / "tokens").iterdir()
    return store, entry


def test_sums_cover_every_token(prepared: Any, write: Any, tmp_path: Path) -> None:
    store, _ = store_of(prepared, write, tmp_path)
    assert len(store) == 180_000, "six chunks, the last not full"
    assert (store.read(0, len(store)) == store.tokens).all()
    assert store.read(170_000, 200_000).dtype == np.int64
    assert len(store.read(170_000, 200_000)) == 10_000


def test_a_store_without_text_has_no_chunks(tmp_path: Path) -> None:
    from trifecta.data.store import PartWriter

    writer = PartWriter(tmp_path, "train", vocab_size=9, end_of_text=None, unknown=None)
    facts = writer.finish()
    assert len(TokenStore(tmp_path, "train", facts, "x").read(0, 5)) == 0


@pytest.mark.parametrize("position", [0, 32_767, 32_768, 100_000, 179_999])
def test_a_flipped_bit_is_noticed_where_it_is_read(prepared: Any, write: Any, tmp_path: Path, position: int) -> None:
    """The chunk is named, the others can be read, and the next start makes the store anew."""
    store, entry = store_of(prepared, write, tmp_path)
    with open(entry / "train.tokens", "r+b") as file:
        file.seek(2 * position)
        (byte,) = file.read(1)
        file.seek(2 * position)
        file.write(bytes([byte ^ 1]))
    other = 0 if position >= 32_768 else 40_000
    assert store.tokens[other] == store.read(other, other + 5)[0]
    chunk = position // 32_768 * 65_536
    with pytest.raises(DataError, match=f"damaged between byte {chunk} and {chunk + 65_536}") as caught:
        store.read(max(0, position - 3), position + 3)
    assert caught.value.exit_code == 3
    assert caught.value.where == str(entry / "train.tokens")
    again, _ = store_of(prepared, write, tmp_path)
    assert bytes(again.read(0, 10).tolist()) == b"0123456789"


def test_a_flipped_bit_control_unchecked_it_is_read(
    prepared: Any, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenStore, "_check", lambda *_: None)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_a_flipped_bit_is_noticed_where_it_is_read(prepared, write, tmp_path, 0)


def test_each_chunk_is_summed_once(prepared: Any, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = store_of(prepared, write, tmp_path)
    checked: list[int] = []
    plain = TokenStore._check
    monkeypatch.setattr(TokenStore, "_check", lambda self, chunk: (checked.append(chunk), plain(self, chunk))[1])
    for _ in range(2):
        store.read(32_700, 65_600)
    assert checked == [0, 1, 2]


def test_damage_in_a_cache_that_cannot_be_written_leads_to_another_cache(
    prepared: Any, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = store_of(prepared, write, tmp_path)
    store._sums = store._sums + 1

    def refuse(self: Path, **_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(DataError, match=r"choose another: data\.cache_dir"):
        store.read(0, 10)
