"""Every kind of input gives its documents, exactly."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from trifecta.data import Sources
from trifecta.data.records import _lines, read_csv
from trifecta.errors import DataError, RecipeError

Write = Callable[..., str]
TEXTS = ["one\n", 'two, "quoted"\r\nlines', "three\u2028\U0001f600", " "]


def documents(*paths: str, **options: object) -> list[str]:
    found, text = [], ""
    for piece in Sources(list(paths), **options).pieces():
        text += piece.text
        if piece.ends_document:
            found.append(text)
            text = ""
    assert not text
    return found


def as_csv(rows: list[list[str]], delimiter: str) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows(rows)
    return out.getvalue()


def as_jsonl(texts: list[str]) -> str:
    return "\n\n".join(json.dumps({"n": 1, "text": text}) for text in texts)


@pytest.mark.fast
@pytest.mark.parametrize("name", ["a.txt", "a", "a.py", "a.unknown", "A.TXT"])
def test_text(write: Write, name: str) -> None:
    text = "lines\r\nof\rall\n\u2028kinds\x0b\x0c\x85"
    assert documents(write(name, text)) == [text]


@pytest.mark.fast
def test_jsonl(write: Write) -> None:
    assert documents(write("a.jsonl", as_jsonl(TEXTS))) == TEXTS
    assert documents(write("b.ndjson", '{"body": "x"}\r\n{"body": "y"}'), text_field="body") == ["x", "y"]
    assert documents(write("c.jsonl", '{"text": "\\ud83d\\ude00"}')) == ["\U0001f600"]


@pytest.mark.fast
@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.TSV", "\t")])
def test_csv(write: Write, name: str, delimiter: str) -> None:
    rows = [["id", "text", "more"], *([str(i), text, ""] for i, text in enumerate(TEXTS))]
    assert documents(write(name, as_csv(rows, delimiter))) == TEXTS
    assert documents(write(name, b"\xef\xbb\xbf" + as_csv(rows, delimiter).encode())) == TEXTS


@pytest.mark.parametrize("ending", ["", "\n"])
def test_lines_do_not_depend_on_the_chunks(ending: str) -> None:
    generator = random.Random(0)
    for _ in range(300):
        text = "".join(generator.choice("ab\n\r\u2028") for _ in range(30))
        chunks, rest = [], text
        while rest:
            size = generator.randint(0, 5)
            chunks.append(rest[:size])
            rest = rest[size:]
        assert list(_lines(chunks, ending)) == io.StringIO(text, newline=ending).readlines()


@pytest.mark.fast
def test_csv_places_are_the_first_line_of_a_row() -> None:
    text = 'text\n"a\nb"\nc\n'
    assert [where for where, _ in read_csv([text], "f", "text", ",")] == ["f:2", "f:4"]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": TEXTS * 200, "n": [1] * 800}), path, row_group_size=100)
    assert documents(str(path)) == TEXTS * 200
    packed = tmp_path / "b.parquet.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert documents(str(packed)) == TEXTS * 200


@pytest.mark.fast
@pytest.mark.parametrize("name", ["a.parquet", "a.txt.zst"])
def test_missing_extra_names_the_command(write: Write, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for module in ("pyarrow", "zstandard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError) as error:
        documents(write(name, b"\x28\xb5\x2f\xfd..."))
    assert "pip install 'trifecta[" in str(error.value)


@pytest.mark.fast
def test_damaged_parquet(write: Write) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match="damaged Parquet"):
        documents(write("a.parquet", b"PAR1 this is none"))


def test_parquet_of_another_shape(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = str(tmp_path / "a.parquet")
    parquet.write_table(pyarrow.table({"text": [1, 2], "body": ["a", None]}), path)
    with pytest.raises(DataError, match="holds int64, not text"):
        documents(path)
    with pytest.raises(DataError, match=r"no column 'bodi'.*did you mean 'body'"):
        documents(path, text_field="bodi")
    with pytest.raises(DataError) as error:
        documents(path, text_field="body")
    assert error.value.where == f"{path}:2"


def packed_zstd(content: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    return bytes(zstandard.ZstdCompressor(write_checksum=True).compress(content))


@pytest.mark.fast
@pytest.mark.parametrize("pack", [gzip.compress, packed_zstd])
def test_packed(write: Write, pack: Callable[[bytes], bytes]) -> None:
    suffix = "gz" if pack is gzip.compress else "zst"
    text = "läng\n" * 100_000
    assert documents(write(f"a.txt.{suffix}", pack(text.encode()))) == [text]
    assert documents(write("b.txt", pack(text.encode()))) == [text]  # told by its content
    assert documents(write(f"c.jsonl.{suffix}", pack(as_jsonl(TEXTS).encode()))) == TEXTS
    two = pack(b"one ") + pack(b"two")
    assert documents(write(f"d.{suffix}", two)) == ["one two"]


@pytest.mark.fast
@pytest.mark.parametrize("pack", [gzip.compress, packed_zstd])
@pytest.mark.parametrize("damage", ["cut off", "garbage", "not packed"])
def test_damaged_packed_data(write: Write, pack: Callable[[bytes], bytes], damage: str) -> None:
    good = pack(random.Random(0).randbytes(5_000).hex().encode())
    bad = {"cut off": good[:-100], "garbage": good[:50] + bytes(100) + good[150:], "not packed": b"plain"}[damage]
    with pytest.raises(DataError, match=r"damaged|isn't"):
        documents(write("a.txt.gz" if pack is gzip.compress else "a.txt.zst", bad))


@pytest.mark.fast
def test_folder_and_glob(write: Write, tmp_path: Path) -> None:
    for name in ("d/b.txt", "d/a/z.txt", "d/a/b.jsonl", "d/.hidden", "d/.git/x", "d/c.csv"):
        write(name, {"csv": "text\nC\n", "jsonl": '{"text": "J"}'}.get(name.rpartition(".")[2], name))
    folder = str(tmp_path / "d")
    assert documents(folder) == ["J", "d/a/z.txt", "d/b.txt", "C"]
    assert documents(f"{folder}/**/*.txt") == ["d/a/z.txt", "d/b.txt"]
    assert documents(f"{folder}/*.txt", f"{folder}/c.csv") == ["d/b.txt", "C"]
    (tmp_path / "d" / "loop").symlink_to(tmp_path / "d", target_is_directory=True)
    assert documents(folder) == ["J", "d/a/z.txt", "d/b.txt", "C"]


@pytest.mark.fast
def test_a_file_named_like_a_pattern(write: Write) -> None:
    assert documents(write("what [1]*.txt", "text")) == ["text"]


@pytest.mark.fast
def test_standard_input_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(gzip.compress(b"from a pipe"))))
    sources = Sources(["-"], cache_dir=tmp_path)
    assert sources.name == "stdin"
    assert [piece.text for piece in sources.pieces()] == ["from a pipe"]
    assert [(piece.text, piece.place) for piece in sources.pieces()] == [("from a pipe", "standard input")]
    assert sources.scan().characters == 11
    assert len(list((tmp_path / "stdin").iterdir())) == 1


@pytest.mark.fast
def test_scan_and_fingerprint(write: Write) -> None:
    path = write("a.txt", "é\n")
    scan = Sources([path]).scan()
    assert (scan.documents, scan.characters, scan.bytes) == (1, 2, 3)
    assert Sources([write("b.txt", "é\n")]).scan().fingerprint == scan.fingerprint  # names don't matter
    others = [
        Sources([path], collapse_whitespace=True), Sources([path], remove_control_characters=True),
        Sources([path], invalid_utf8="replace"), Sources([path], text_field="body"), Sources([path], allow_nul=True),
        Sources([path, write("twice.txt", "é\n")]), Sources([write("c.csv", "é\n")], text_field="é"),
        Sources([write("d.txt", "e\n")]),
    ]  # fmt: skip
    assert len({scan.fingerprint, *(other.fingerprint() for other in others)}) == 1 + len(others)


@pytest.mark.fast
def test_second_scan_only_hashes(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.txt", b"\xef\xbb\xbfbyte order mark")
    first = Sources([path], cache_dir=tmp_path)
    scan = first.scan()
    assert any("byte order mark" in note for note in first.notes)
    with monkeypatch.context() as patch:
        patch.setattr(Sources, "_documents", None)
        second = Sources([path], cache_dir=tmp_path)
        assert second.scan() == scan
        assert second.notes == first.notes
        moved = Sources([write("b.txt", Path(path).read_bytes())], cache_dir=tmp_path)
        assert moved.scan() == scan
        assert "b.txt: the byte order mark" in moved.notes[0]
    (file,) = (tmp_path / "scans").iterdir()
    for damaged in ('{"scan": {}}', file.read_text().replace('"characters": 15', '"characters": 13'), "[" * 200_000):
        assert damaged != file.read_text()
        file.write_text(damaged)
        assert Sources([path], cache_dir=tmp_path).scan() == scan  # damaged: read again


@pytest.mark.fast
@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["/d/Tiny Shakespeare.txt"], "tiny-shakespeare"), (["/d/a.jsonl.gz", "/d/b"], "a-and-1-more"),
        (["/books/*.txt"], "books"), (["/books/**/*"], "books"), (["/books/"], "books"), (["/d/日本.txt"], "data"),
        (["/d/" + "x" * 100], "x" * 40), (["-"], "stdin"), (["../shared/a.v2.txt"], "a-v2"),
    ],
)  # fmt: skip
def test_name(paths: list[str], name: str) -> None:
    assert Sources(paths).name == name


@pytest.mark.fast
def test_paths_and_builtin_exclude_each_other() -> None:
    with pytest.raises(RecipeError):
        Sources(["a.txt"], builtin="grammar")


@pytest.mark.fast
@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_is_told_that_text_is_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"typed"), isatty=lambda: terminal))
    seen: list[str] = []
    Sources(["-"], cache_dir=tmp_path).scan(lambda message, _: seen.append(message))
    assert (seen[0] == "waiting for text on standard input (end with Ctrl-D)") == terminal
    assert capsys.readouterr().out == ""


@pytest.mark.fast
def test_a_file_that_is_meant_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, a pattern, a folder or another spelling of its path: its documents would be on both sides."""
    from trifecta.data.tasks import read_labelled

    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path(f"{name}.txt").write_text("one two")
        Path(f"{name}.csv").write_text("text,label\nx,1\ny,2\n")
    assert len(documents("a.txt", "b.txt")) == 2
    for paths in (["a.txt", "a.txt"], ["*.txt", "b.txt"], [str(tmp_path / "a.txt"), "a.txt"]):
        with pytest.raises(DataError, match="given twice"):
            documents(*paths)
    with pytest.raises(DataError, match="given twice"):
        read_labelled(["a.csv", "*.csv"])
