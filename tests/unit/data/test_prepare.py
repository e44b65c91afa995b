"""Split, tokenizer, token store and their cache."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifecta.data import Prepared, Sources, Windows
from trifecta.data.cache import build_beside, default_cache_dir
from trifecta.data.split import DocumentSplit, TailSplit, choose_split
from trifecta.data.whole import tokenize_whole
from trifecta.errors import DataError, ResourceError

Write = Callable[..., str]
Prepare = Callable[..., Prepared[Any]]


def text_of(store: Any, tokenizer: Any) -> str:
    return str(tokenizer.decode(store.tokens))


def jsonl(texts: Iterable[str]) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def never(*_: Any) -> Any:
    raise AssertionError("this should not be called")


@pytest.mark.fast
@pytest.mark.parametrize("type", ["char", "byte"])
def test_tinyshakespeare_split(tinyshakespeare: Path, prepared: Prepare, type: str) -> None:
    made = prepared([str(tinyshakespeare)], type, sequence_length=128)
    assert (made.train.characters, made.validation.characters) == (1_003_854, 111_540)
    assert (len(made.train), len(made.validation)) == (1_003_854, 111_540)  # a single document needs no end of text
    assert made.train.tokens.dtype == np.uint16
    assert made.tokenizer.vocab_size == (67 if type == "char" else 257)
    text = tinyshakespeare.read_bytes().decode()
    assert text_of(made.train, made.tokenizer) == text[:1_003_854]
    assert text_of(made.validation, made.tokenizer) == text[1_003_854:]


@pytest.mark.parametrize("type", ["bpe", "unigram"])
def test_streamed_tokens_are_those_of_the_text_in_memory(tinyshakespeare: Path, prepared: Prepare, type: str) -> None:
    """FAULTS 48 in small: the store holds what encoding each part at once gives."""
    made = prepared([str(tinyshakespeare)], type, fields={"vocab_size": 600})
    text = tinyshakespeare.read_bytes().decode()
    assert made.tokenizer.vocab_size == 600
    for store, part in ((made.train, text[:1_003_854]), (made.validation, text[1_003_854:])):
        assert np.array_equal(store.tokens, made.tokenizer.encode(part))
        assert (store.characters, store.bytes) == (len(part), len(part.encode()))


@pytest.mark.fast
def test_choose_split() -> None:
    assert choose_split(1, 1_115_394, validation_split=0.1, seed=1) == TailSplit(1_003_854)
    assert choose_split(9, 100, validation_split=0.3, seed=1) == TailSplit(70)
    assert choose_split(10, 100, validation_split=0.01, seed=1) == DocumentSplit(10, 1, 1)
    assert choose_split(10, 100, validation_split=0.99, seed=1) == DocumentSplit(10, 9, 1)
    assert choose_split(200, 100, validation_split=0.1, seed=1) == DocumentSplit(200, 20, 1)


@pytest.mark.fast
def test_split_by_documents(write: Write, prepared: Prepare) -> None:
    texts = [f"document {i} " * (i % 3 + 1) for i in range(40)]
    path = write("a.jsonl", jsonl(texts))
    made = prepared([path], validation_split=0.2)
    parts = [text_of(store, made.tokenizer) for store in (made.train, made.validation)]
    held_out = [text for text in texts if text in parts[1]]
    assert (len(made.train.documents), len(made.validation.documents)) == (32, 8)
    assert parts[1] == "".join(held_out)
    assert parts[0] == "".join(text for text in texts if text not in held_out)
    same, other = prepared([path], validation_split=0.2), prepared([path], validation_split=0.2, seed=2)
    assert text_of(same.validation, same.tokenizer) == parts[1] != text_of(other.validation, other.tokenizer)
    assert same.fingerprint == made.fingerprint != other.fingerprint


@pytest.mark.fast
def test_end_of_text_and_document_starts(write: Write, prepared: Prepare) -> None:
    texts = [f"text {i}" for i in range(20)]
    made = prepared([write("a.jsonl", jsonl(texts))], "byte")
    tokens, starts = made.train.tokens, made.train.documents
    assert starts.dtype == np.int64
    assert starts[0] == 0
    assert (tokens[starts[1:] - 1] == made.tokenizer.eos_id).all()
    assert (tokens == made.tokenizer.eos_id).sum() == len(starts) == 18
    assert tokens[-1] == made.tokenizer.eos_id


@pytest.mark.fast
def test_a_few_documents_are_split_by_characters(write: Write, prepared: Prepare) -> None:
    paths = [write(f"{i}.txt", str(i) * 100) for i in range(3)]
    made = prepared(paths, "byte")
    assert (made.train.characters, made.validation.characters) == (270, 30)
    assert made.train.documents.tolist() == [0, 101, 202]
    assert len(made.train) == 272  # the third document goes on in the validation part
    assert len(made.validation) == 31
    assert made.duplicates == 0


@pytest.mark.fast
def test_separate_validation_sources(write: Write, prepared: Prepare) -> None:
    path, other = write("a.txt", "training " * 20), write("b.txt", "validation " * 20)
    made = prepared([path], "byte", validation=[other])
    assert text_of(made.train, made.tokenizer) == "training " * 20
    assert text_of(made.validation, made.tokenizer) == "validation " * 20
    swapped = prepared([other], "byte", validation=[path])
    assert swapped.fingerprint != made.fingerprint


@pytest.mark.fast
@pytest.mark.parametrize("type", ["char", "bpe", "wordpiece", "unigram"])
def test_what_the_tokenizer_may_see(write: Write, prepared: Prepare, type: str) -> None:
    """An alphabet sees everything; merges and pieces see only the training part."""
    path = write("a.txt", "the cat sat on the mat. " * 100 + "zyzzyva ßß " * 20)
    fields = {"vocab_size": {"bpe": 300, "wordpiece": 64, "unigram": 330}[type]} if type != "char" else {}
    made = prepared([path], type, fields=fields)
    names = [made.tokenizer.token_text(i) for i in range(made.tokenizer.vocab_size)]
    assert ("ß" in names) == (type == "char")
    assert not any("zy" in name for name in names)


@pytest.mark.fast
def test_what_the_tokenizer_may_see_control(write: Write, prepared: Prepare) -> None:
    """Shown everything, bpe does learn the validation part's words: the check above does notice."""
    path = write("a.txt", "the cat sat on the mat. " * 100 + "zyzzyva ßß " * 20)
    made = prepared([path], "bpe", fields={"vocab_size": 300}, tokenizer_text="all")
    assert any("zy" in made.tokenizer.token_text(i) for i in range(made.tokenizer.vocab_size))


@pytest.mark.fast
def test_second_run_finds_the_cache(write: Write, prepared: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.jsonl", jsonl([f"text {i % 15}" for i in range(20)]))
    first = prepared([path])
    monkeypatch.setattr(Sources, "_documents", never)
    second = prepared([path], make_tokenizer=never)
    assert np.array_equal(first.train.tokens, second.train.tokens)
    assert np.array_equal(first.validation.documents, second.validation.documents)
    for fact in ("notes", "duplicates", "fingerprint", "scan"):
        assert getattr(first, fact) == getattr(second, fact)
    assert first.train.fingerprint == second.train.fingerprint != second.validation.fingerprint
    assert second.tokenizer.to_json() == first.tokenizer.to_json()


@pytest.mark.fast
def test_other_text_split_or_tokenizer_is_another_entry(write: Write, prepared: Prepare, tmp_path: Path) -> None:
    path = write("a.txt", "some text " * 30)
    entries = tmp_path / "cache" / "tokens"
    variants: list[dict[str, Any]] = [
        {}, {"type": "byte"}, {"type": "bpe", "fields": {"vocab_size": 300}}, {"validation_split": 0.2},
        {"paths": [write("b.txt", "other text " * 30)]}, {"paths": Sources([path], collapse_whitespace=True)},
    ]  # fmt: skip
    for number, variant in enumerate(variants, 1):
        prepared(**({"paths": [path]} | variant))
        assert len(list(entries.iterdir())) == number
    prepared([path], seed=99, sequence_length=7)  # neither matters to a text cut by characters
    assert len(list(entries.iterdir())) == len(variants)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "shorter tokens": lambda entry: os.truncate(entry / "train.tokens", 10),
    "longer documents": lambda entry: (entry / "validation.documents").write_bytes(bytes(17)),
    "no tokens": lambda entry: (entry / "validation.tokens").unlink(),
    "no meta": lambda entry: (entry / "meta.json").unlink(),
    "cut meta": lambda entry: os.truncate(entry / "meta.json", 20),
    "meta is a list": lambda entry: (entry / "meta.json").write_text("[]"),
    "changed meta": lambda entry: (entry / "meta.json").write_text(
        (entry / "meta.json").read_text().replace('"duplicates": 0', '"duplicates": 3')
    ),
    "other tokenizer": lambda entry: (entry / "tokenizer.json").write_text("{}"),
    "empty": lambda entry: (shutil.rmtree(entry), entry.mkdir()),
}


@pytest.mark.fast
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_entry_is_rebuilt(write: Write, prepared: Prepare, tmp_path: Path, damage: str) -> None:
    path = write("a.txt", "some text " * 30)
    tokens = prepared([path]).train.tokens.copy()
    (entry,) = (tmp_path / "cache" / "tokens").iterdir()
    DAMAGE[damage](entry)
    again = prepared([path])
    assert np.array_equal(again.train.tokens, tokens)
    assert again.duplicates == 0
    assert [file.name for file in entry.parent.iterdir()] == [entry.name]  # nothing is left beside it
    prepared([path], make_tokenizer=never)


@pytest.mark.fast
def test_a_failed_build_leaves_nothing(write: Write, prepared: Prepare, tmp_path: Path) -> None:
    def fail(_: Iterable[str]) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared([write("a.txt", "some text " * 30)], make_tokenizer=fail)
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []


@pytest.mark.fast
def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    import socket

    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    host = socket.gethostname()
    left = tmp_path / f".key.{host}.{int(dead.stdout)}.abcd.building"
    living = tmp_path / f".key.{host}.{os.getppid()}.abcd.building"
    elsewhere = tmp_path / ".key.another-host.1.abcd.building"
    for folder in (left, living, elsewhere):
        folder.mkdir()
    with build_beside(tmp_path / "key") as folder:
        (folder / "file").write_text("x")
    assert sorted(tmp_path.iterdir()) == sorted([living, elsewhere, tmp_path / "key"])


_BUILD = """
import sys
from trifecta.data import Sources, prepare
from trifecta.tokenizers import TOKENIZERS, from_json
print("ready", flush=True); sys.stdin.readline()
made = prepare(Sources([sys.argv[1]], cache_dir=sys.argv[2]),
    make_tokenizer=lambda t: TOKENIZERS["bpe"](t, vocab_size=400), load_tokenizer=from_json, tokenizer_key="k",
    validation_split=0.1, seed=1, sequence_length=4, cache_dir=sys.argv[2])
print(int(made.train.tokens.astype("int64").sum()))
"""


def test_two_processes_build_the_same_entry(write: Write, tmp_path: Path) -> None:
    path = write("a.txt", "the quick brown fox jumps over the lazy dog\n" * 3_000)
    command = [sys.executable, "-c", _BUILD, path, str(tmp_path / "shared")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    assert all(process.stdout is not None and process.stdout.readline() == b"ready\n" for process in processes)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    results = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], results
    assert len({out for out, _ in results}) == 1
    assert len(list((tmp_path / "shared" / "tokens").iterdir())) == 1


@pytest.mark.fast
def test_faster_process_wins(tmp_path: Path) -> None:
    with build_beside(tmp_path / "key") as slow:
        (slow / "file").write_text("slow")
        with build_beside(tmp_path / "key") as fast:
            (fast / "file").write_text("fast")
    assert (tmp_path / "key" / "file").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.fast
def test_large_vocabulary_needs_32_bits(write: Write, prepared: Prepare) -> None:
    class Wide:
        vocab_size, eos_id, unk_id = 70_000, 0, None

        def encode_batch(self, texts: list[str]) -> list[Any]:
            return [np.full(len(text), 69_999) for text in texts]

        def to_json(self) -> str:
            return "wide"

    made = prepared([write("a.txt", "x" * 100)], make_tokenizer=lambda _: Wide(), load_tokenizer=lambda _: Wide())
    assert made.train.tokens.dtype == np.uint32
    assert set(made.train.tokens.tolist()) == {69_999}


@pytest.mark.fast
def test_text_that_changes_while_it_is_read(write: Write, prepared: Prepare) -> None:
    path = write("a.txt", "x" * 100)
    sources = Sources([path])
    sources.scan()
    write("a.txt", "x" * 120)
    with pytest.raises(DataError, match="100 characters at first, then 120"):
        prepared(sources, "byte")


@pytest.mark.fast
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")])
def test_cache_that_cannot_be_written(
    write: Write, prepared: Prepare, monkeypatch: pytest.MonkeyPatch, failure: OSError
) -> None:
    from trifecta.data import store

    class Full:
        def write(self, _: bytes) -> None:
            raise failure

        def close(self) -> None:
            pass

    monkeypatch.setattr(store, "open", lambda *_: Full(), raising=False)
    with pytest.raises(ResourceError, match=str(failure.strerror)) as error:
        prepared([write("a.txt", "x" * 100)], "byte")
    assert "data.cache_dir" in str(error.value)
    assert error.value.exit_code == 6


@pytest.mark.fast
def test_progress(write: Write, prepared: Prepare) -> None:
    seen: list[tuple[str, float | None]] = []
    prepared([write("a.txt", "some text " * 30)], progress=lambda message, done: seen.append((message, done)))
    assert [message.split()[0] for message, _ in seen] == ["hashing", "reading:", "making", "tokenizing"]
    assert seen[0][1] == seen[-1][1] == 1.0


@pytest.mark.fast
def test_notes_count_unknowns(write: Write, prepared: Prepare) -> None:
    made = prepared([write("a.txt", "aaab" * 50)], fields={"vocab_size": 3})
    assert made.notes == ["50 tokens of the text are <unk>: the vocabulary doesn't have what stood there"]


@pytest.mark.fast
def test_windows_cover_the_store(write: Write, prepared: Prepare) -> None:
    made = prepared([write("a.txt", "0123456789" * 20)], "byte", sequence_length=16)
    windows = Windows(made.train, 17, overlap=1)
    assert b"".join(bytes(windows[i][1:].tolist()) for i in range(len(windows))) == (b"0123456789" * 18)[1:]


@pytest.mark.fast
def test_default_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIFECTA_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("TRIFECTA_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert default_cache_dir() == tmp_path / "x" / "trifecta"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_cache_dir().parts[-3:] == ("Library", "Caches", "trifecta")


@pytest.mark.fast
def test_stores_know_their_unknowns(write: Write, prepared: Prepare, tmp_path: Path) -> None:
    path = write("a.txt", "aaab" * 50)
    made = prepared([path], fields={"vocab_size": 3})
    assert (made.train.unknowns, made.validation.unknowns) == (45, 5)
    assert prepared([path], "byte").train.unknowns == 0
    for _ in range(2):  # built, then found in the cache
        store = tokenize_whole(Sources([path], cache_dir=tmp_path), made.tokenizer, cache_dir=tmp_path)
        assert store.unknowns == 50
        assert pickle.loads(pickle.dumps(store)).unknowns == 50
