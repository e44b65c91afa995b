"""Bad input: FAULTS 37 to 46, 49, 50, 52, 55, 57 and 58. Each says where, what, and how to mend it, and ends with 3."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trifecta.data import Prepared, Sources, Windows, prepare
from trifecta.errors import DataError
from trifecta.tokenizers import TEXT_NEEDED, TOKENIZERS, from_json, tokenizer_key

pytestmark = pytest.mark.fast
Write = Callable[[str, str | bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def made(name: str, content: str | bytes) -> str:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return str(tmp_path / name)

    return made


def prepared(sources: Sources, cache: Path, type: str = "byte", other: Sources | None = None, **options: Any) -> Any:
    made: Prepared[Any] = prepare(
        sources, other, make_tokenizer=TOKENIZERS[type], load_tokenizer=from_json, tokenizer_key=tokenizer_key(type),
        tokenizer_text=TEXT_NEEDED[type],
        **({"validation_split": 0.1, "seed": 1, "sequence_length": 8, "cache_dir": cache} | options),
    )  # fmt: skip
    return made


def text_of(path: str, **options: Any) -> str:
    return "".join(piece.text for piece in Sources([path], **options).pieces())


def refused(act: Callable[[], object]) -> DataError:
    """The error that acting gives; it must be one for users, with the exit code of data and a way out."""
    with pytest.raises(DataError) as caught:
        act()
    assert caught.value.exit_code == 3
    assert caught.value.fix
    return caught.value


def scan(path: str, **options: Any) -> Callable[[], object]:
    return lambda: Sources([path], **options).scan()


def test_fault_037_missing_path_names_near_ones(write: Write, tmp_path: Path) -> None:
    """A path that doesn't exist is refused (3) with the nearest name; so are patterns without files, empty folders and
    absurd paths."""
    path = write("shakespeare.txt", "text")
    error = refused(scan(path.replace("speare", "spear")))
    assert "did you mean 'shakespeare.txt'?" in str(error)
    assert error.where == path.replace("speare", "spear")
    assert "doesn't exist" in str(refused(scan(str(tmp_path / "no" / "such" / "file.txt"))))
    assert "no file matches" in str(refused(scan(str(tmp_path / "*.md"))))
    (tmp_path / "empty").mkdir()
    assert "no files" in str(refused(scan(str(tmp_path / "empty"))))
    assert "path" in str(refused(scan("a\0b")))
    refused(scan("x" * 5_000))


@pytest.mark.parametrize("content", ["", " \n\t\r\n", "\ufeff", "\ufeff  ", "\u2028\u3000"])
def test_fault_038_empty_or_blank(write: Write, content: str) -> None:
    """Empty files and files of nothing but white space are refused (3) as text, JSONL and CSV."""
    path = write("a.txt", content)
    error = refused(scan(path))
    assert "there is no text" in error.what
    assert error.where == path
    refused(scan(write("b.jsonl", json.dumps({"text": content.removeprefix("\ufeff")}))))
    refused(scan(write("c.jsonl", "")))
    refused(scan(write("d.csv", "")))
    refused(scan(write("e.csv", "text\n")))


def test_fault_039_shorter_than_one_sequence(write: Write, tmp_path: Path) -> None:
    """A text shorter than one sequence and its next token is refused (3) with both numbers."""
    error = refused(lambda: prepared(Sources([write("a.txt", "x" * 100)]), tmp_path, sequence_length=90))
    assert "has 90 tokens" in error.what
    assert "needs 91" in error.what
    assert "sequence_length to 9 or less" in str(error)  # the validation part has 10 tokens


def test_fault_040_validation_part_too_short(write: Write, tmp_path: Path) -> None:
    """A validation part shorter than one sequence and its next token is refused (3) with both numbers."""
    sources = Sources([write("a.txt", "x" * 100)])
    error = refused(lambda: prepared(sources, tmp_path, sequence_length=10))
    assert "validation part has 10 tokens" in error.what
    assert "needs 11" in error.what
    assert "validation_split" in str(error)
    assert len(prepared(sources, tmp_path, sequence_length=9).validation) == 10
    refused(lambda: prepared(sources, tmp_path, other=Sources([write("b.txt", "x")])))
    refused(lambda: prepared(sources, tmp_path, validation_split=0.001))


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 18])
@pytest.mark.parametrize(
    ("bad", "offset"), [(b"\xff", 0), (b"\xc3(", 0), (b"\xe2\x82", 0), (b"\xf0\x9f\x98", 0), (b"\xed\xa0\x80", 0)]
)
def test_fault_041_invalid_utf8(
    write: Write, monkeypatch: pytest.MonkeyPatch, chunk: int, bad: bytes, offset: int
) -> None:
    """Invalid UTF-8 is refused (3) with line and byte, wherever a block of reading ends; `invalid_utf8: replace`
    replaces and counts it."""
    monkeypatch.setattr("trifecta.data.files.CHUNK_BYTES", chunk)
    monkeypatch.setattr("trifecta.data.decoding._FIRST_BYTES", chunk)
    before = "é\n\U0001f600\nthird ".encode()
    for after in (b"", b" and on\n"):
        path = write("a.txt", before + bad + after)
        error = refused(scan(path))
        assert error.where == f"{path}:3"
        assert f"byte {len(before) + offset}" in error.what
        sources = Sources([path], invalid_utf8="replace")
        sources.scan()
        expected = (before + bad + after).decode("utf-8", "replace")
        assert text_of(path, invalid_utf8="replace") == expected
        assert sources.notes == [
            f"{path}: {expected.count(chr(0xFFFD))} invalid UTF-8 sequences were replaced by U+FFFD"
        ]


def test_fault_041_characters_that_are_replacements_are_not_counted(write: Write) -> None:
    """Replacement characters that the text has itself aren't counted as invalid UTF-8."""
    sources = Sources([write("a.txt", b"\xef\xbf\xbd \xff \xef\xbf\xbd")], invalid_utf8="replace")
    sources.scan()
    assert "1 invalid" in sources.notes[0]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_fault_042_utf16_is_named(write: Write, encoding: str) -> None:
    """UTF-16 and UTF-32 are refused (3), named by their byte order mark; without a mark, by their NUL bytes."""
    error = refused(scan(write("a.txt", "\ufefftext\n".encode(encoding))))
    assert encoding.upper().replace("-LE", "LE").replace("-BE", "BE") in error.what
    assert "iconv" in str(error)
    unmarked = refused(scan(write("b.txt", "plain text\n".encode(encoding))))
    assert "NUL" in unmarked.what


def test_fault_043_byte_order_mark_is_left_out_and_noted(write: Write) -> None:
    """A byte order mark at the beginning of UTF-8 is left out, and a note says so; one inside the text stays."""
    path = write("a.txt", "\ufefftext \ufeff inside\n")
    sources = Sources([path])
    assert sources.scan().characters == 14
    assert text_of(path) == "text \ufeff inside\n"
    assert sources.notes == [f"{path}: the byte order mark (U+FEFF) at its beginning was left out"]


@pytest.mark.parametrize("type", ["char", "byte", "bpe", "unigram"])
def test_fault_044_line_ends_come_back_exactly(write: Write, tmp_path: Path, type: str) -> None:
    """CR, LF, CRLF and Unicode's line ends come back exactly from preparing and decoding."""
    text = "a\r\nb\rc\nd\u2028e\u2029f\x85g\x0bh\x0ci\r\r\n\n\r " * 10
    path = write("a.txt", text)
    assert text_of(path) == text
    made = prepared(Sources([path]), tmp_path, type)
    assert "".join(made.tokenizer.decode(store.tokens) for store in (made.train, made.validation)) == text


def test_fault_044_line_ends_control(write: Write) -> None:
    """Python's own text mode changes the line ends."""
    path = write("a.txt", "a\r\nb\rc\n")
    assert Path(path).read_text() != text_of(path)


def test_fault_045_nul_bytes(write: Write, tmp_path: Path) -> None:
    """NUL bytes are refused (3) with line and byte; with `allow_nul` they come back exactly from the byte tokenizer."""
    path = write("a.txt", "line one\nline two\x00 and more\n" * 20)
    error = refused(scan(path))
    assert error.where == f"{path}:2"
    assert "byte 17" in error.what
    assert "tokenizer=byte" in str(error)
    made = prepared(Sources([path], allow_nul=True), tmp_path)
    assert made.tokenizer.decode(made.train.tokens) == Path(path).read_text()[: made.train.characters]
    assert "\x00" not in text_of(path, remove_control_characters=True)
    record = refused(scan(write("b.jsonl", '{"text": "a"}\n{"text": "\\u0000"}')))
    assert record.where is not None
    assert record.where.endswith("b.jsonl:2")
    assert text_of(str(tmp_path / "b.jsonl"), allow_nul=True) == "a\x00"


@pytest.mark.parametrize(
    "start",
    [
        b"\x89PNG\r\n\x1a\n",
        b"\x7fELF\x02\x01\x01",
        b"PK\x03\x04\x14\x00",
        b"\xff\xd8\xff\xe0",
        b"%PDF-1.7\n",
        b"GIF89a",
    ],
)
@pytest.mark.parametrize("allow_nul", [False, True])
def test_fault_046_binary_file(write: Write, start: bytes, allow_nul: bool) -> None:
    """PNG, ELF, ZIP, JPEG, PDF and GIF are refused (3) as binary data, with `allow_nul` too."""
    path = write("a.txt", start + bytes(range(256)) * 4)
    error = refused(scan(path, allow_nul=allow_nul))
    assert error.what.startswith("binary data")
    assert error.where == path


def test_fault_046_many_control_bytes(write: Write) -> None:
    """A file with many control bytes is refused (3) as binary; a terminal's log with colours is text."""
    assert "binary" in refused(scan(write("a.bin", bytes([1, 2, 65, 66, 3, 67] * 100)))).what
    assert text_of(write("b.txt", "\x1b[1mbold\x1b[0m\x0c page\x08\n" * 10)).startswith("\x1b[1m")  # a terminal's log


@pytest.mark.parametrize("type", ["char", "byte", "bpe", "unigram"])
@pytest.mark.parametrize("chunk", [1, 5, 1 << 18])
def test_fault_049_emoji_combining_mojibake(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, type: str, chunk: int
) -> None:
    """Emoji, combining characters, mojibake and direction marks come back exactly, wherever a block of reading ends."""
    monkeypatch.setattr("trifecta.data.files.CHUNK_BYTES", chunk)
    monkeypatch.setattr("trifecta.data.decoding._FIRST_BYTES", chunk)
    text = (
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301 é Ã© â‚¬ \u202eright\u202c ﬁ Å \u2126 \U0001f3f4\u00ad|" * 8
    )
    made = prepared(Sources([write("a.txt", text)]), tmp_path, type)
    assert "".join(made.tokenizer.decode(store.tokens) for store in (made.train, made.validation)) == text


def test_fault_050_unseen_character(write: Write, tmp_path: Path) -> None:
    """A character that the char tokenizer never saw becomes `<unk>`, without an error."""
    made = prepared(Sources([write("a.txt", "abc" * 100)]), tmp_path, "char")
    assert made.tokenizer.encode("é\U0010ffff").tolist() == [made.tokenizer.unk_id] * 2


def test_fault_052_bad_jsonl_line(write: Write) -> None:
    """A bad JSONL line (broken JSON, wrong type, missing or null text, lone surrogate) is refused (3) with file and
    line."""
    good = [json.dumps({"text": f"line {i}"}) for i in range(30)]
    for bad, found in [
        ('{"text": "a"', "no valid JSON"), ("plain", "no valid JSON"), ('["text"]', "a list was found"),
        ("1", "a number"), ('{"txt": "a"}', "did you mean 'txt'"),
        ('{"text": null}', "is null"), ('{"text": 5}', "is 5"),
        ('{"text": "\\ud800"}', "surrogate"), ("[" * 100_000, "JSON"), ('{"text": ' + "1" * 5_000 + "}", "JSON"),
    ]:  # fmt: skip
        path = write("a.jsonl", "\n".join([*good[:16], bad, *good[16:]]))
        error = refused(scan(path))
        assert error.where == f"{path}:17"
        assert found in error.what
    assert text_of(write("a.jsonl", '{"text": "\\ud800!"}'), invalid_utf8="replace") == "\ufffd!"


def test_fault_052_ragged_csv(write: Write) -> None:
    """A CSV row with too few or many columns, broken quotes or invalid UTF-8 is refused (3) with file and line."""
    good = [f"{i},text {i}" for i in range(15)]
    for bad, found in [("1", "1 columns"), ("1,2,3", "3 columns"), ('1,"a"b', "broken CSV")]:
        path = write("a.csv", "\n".join(["id,text", *good, bad, "9,last"]))
        error = refused(scan(path))
        assert error.where == f"{path}:17"
        assert found in error.what
    path = write("b.csv", "\n".join(["id,text", *good, '1,"never closed', *good]))
    assert refused(scan(path)).where == f"{path}:17"
    error = refused(scan(write("c.tsv", "id\tbody\n1\ttext\n")))
    assert "no column 'text'; there are: 'id', 'body'" in error.what
    path = write("d.csv", b"text\n" + b"a\n" * 15 + b"\xff\n")
    assert refused(scan(path)).where == f"{path}:17"


@pytest.mark.parametrize("type", ["char", "byte", "bpe", "wordpiece", "unigram"])
def test_fault_055_text_like_special_tokens(write: Write, tmp_path: Path, type: str) -> None:
    """Text that looks like special tokens is ordinary text in preparing: no end-of-text token comes of it, and lossless
    tokenizers give it back."""
    text = "[MASK] <pad> <extra_id_0> <|endoftext|> <unk> <0x41>\n" * 10
    made = prepared(Sources([write("a.txt", text)]), tmp_path, type)
    assert made.tokenizer.eos_id not in made.train.tokens
    assert made.tokenizer.eos_id not in made.validation.tokens
    if made.tokenizer.lossless:
        assert made.tokenizer.decode(made.train.tokens) == text[: made.train.characters]


SPECIAL_TEXT = "[MASK] <pad> [PAD] <s> [CLS]x[SEP] <mask> <extra_id_0> <extra_id_99><|endoftext|>\n"


def check_special_text(tokenizer: Any) -> None:
    """For masked tokens and for gaps: the text is encoded exactly, and none of its tokens is a special one."""
    from trifecta.objectives import OBJECTIVES, Text

    ids = tokenizer.encode(SPECIAL_TEXT)
    assert tokenizer.decode(ids) == SPECIAL_TEXT
    for name in ("masked", "span"):
        made = OBJECTIVES[name](Text(tokenizer, 512, documents=True))
        assert not set(ids.tolist()) & {*made.vocabulary.ids.values(), tokenizer.eos_id}
        assert made.vocabulary.decode(ids) == made.vocabulary.shown(ids) == SPECIAL_TEXT
        kept = made.prepare(np.append(ids, tokenizer.eos_id)).arrays["tokens"].tolist()
        assert kept in (ids.tolist(), [made.vocabulary.ids.get("[CLS]"), *ids, made.vocabulary.ids.get("[SEP]")])
        shown = made.vocabulary.shown([*ids, *made.vocabulary.ids.values()])
        assert shown == SPECIAL_TEXT + "".join(made.vocabulary.ids), "its own are shown by name"


@pytest.mark.parametrize("type", ["char", "byte", "bpe", "unigram"])
def test_fault_055_special_tokens_of_objectives_are_never_text(type: str) -> None:
    """Text that contains [MASK], <pad>, <extra_id_0> is encoded and decoded exactly, and never becomes the special
    tokens that masked tokens and gaps use."""
    from trifecta.tokenizers import TOKENIZERS

    fields = {"vocab_size": 400} if type in ("bpe", "unigram") else {}
    check_special_text(TOKENIZERS[type]([SPECIAL_TEXT * 20], **fields))


def test_fault_055_control_special_tokens_read_in_text_are_noticed() -> None:
    """A tokenizer that reads special tokens in text is noticed."""
    from trifecta.tokenizers import TOKENIZERS
    from trifecta.tokenizers.subword import SubwordTokenizer

    class Reading(SubwordTokenizer):
        def encode_batch(self, texts: Any) -> Any:
            self._inner.encode_special_tokens = False
            return super().encode_batch(texts)

    trained: Any = TOKENIZERS["bpe"]([SPECIAL_TEXT * 20], vocab_size=400)
    trained._inner.add_special_tokens(["[MASK]", "<extra_id_0>"])
    with pytest.raises(AssertionError):
        check_special_text(Reading(trained._inner))


def split_documents(write: Write, tmp_path: Path, texts: list[str]) -> Any:
    path = write("a.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts))
    return prepared(Sources([path]), tmp_path / "cache", validation_split=0.25)


def test_fault_057_documents_in_both_parts_are_counted(write: Write, tmp_path: Path) -> None:
    """Validation documents that are in the training part too are counted, and a note gives the number."""
    texts = [f"document number {i % 20}" for i in range(40)]  # each twice
    made = split_documents(write, tmp_path, texts)
    train, validation = (
        made.tokenizer.decode(np.where(store.tokens == 256, 10, store.tokens)).splitlines()
        for store in (made.train, made.validation)
    )
    assert made.duplicates == sum(text in train for text in validation) > 0
    assert any(f"{made.duplicates} of 10 validation documents" in note for note in made.notes)


def test_fault_057_no_duplicates_control(write: Write, tmp_path: Path) -> None:
    """Where no document is in both parts, none is counted."""
    made = split_documents(write, tmp_path, [f"document number {i}" for i in range(40)])
    assert (made.duplicates, made.notes) == (0, [])


def test_fault_057_windows_never_cross_the_split(write: Write, tmp_path: Path) -> None:
    """No window holds tokens of both the training and the validation part."""
    made = prepared(Sources([write("a.txt", "t" * 90 + "v" * 10)]), tmp_path)
    for store, letter in ((made.train, ord("t")), (made.validation, ord("v"))):
        windows = Windows(store, 9, overlap=1)
        assert {token for i in range(len(windows)) for token in windows[i].tolist()} == {letter}


def test_fault_058_pipe_does_not_hang(tmp_path: Path) -> None:
    """A named pipe and /dev/zero are refused (3) without being read."""
    os.mkfifo(tmp_path / "pipe")
    error = refused(scan(str(tmp_path / "pipe")))
    assert "pipe" in error.what
    assert "-" in str(error.fix)
    refused(scan(str(tmp_path)))
    refused(scan("/dev/zero"))


def test_fault_058_circle_of_links(tmp_path: Path) -> None:
    """A circle of symbolic links and a link to nothing are refused (3)."""
    (tmp_path / "a.txt").symlink_to(tmp_path / "b.txt")
    (tmp_path / "b.txt").symlink_to(tmp_path / "a.txt")
    assert "circle" in refused(scan(str(tmp_path / "a.txt"))).what
    (tmp_path / "c.txt").symlink_to(tmp_path / "gone")
    refused(scan(str(tmp_path / "c.txt")))


def test_fault_058_unreadable_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without read permission (the system call is faked) is refused (3) with its path."""
    path = write("a.txt", "secret")

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:  # root may read everything, so a fake refuses
        patch.setattr("trifecta.data.files.os.open", denied)
        error = refused(scan(path))
    assert "Permission denied" in error.what
    assert error.where == path


def test_fault_058_error_while_reading(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input/output error while reading is a data error, not a traceback."""
    path = write("a.txt", "text")

    class Broken:
        def __init__(self, path: object, place: object):
            pass

        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def read(self, _: int) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("trifecta.data.files.open_regular", Broken)
    with pytest.raises(DataError, match="Input/output error"):
        text_of(path)


def test_fault_058_system_error_while_hashing(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input/output error while hashing is refused (3) with the file, or standard input, named."""
    path = write("a.txt", "text")

    class Broken(io.BytesIO):
        def read(self, _: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("trifecta.data.sources.open_regular", lambda *_: Broken())
        error = refused(lambda: Sources([path], cache_dir=tmp_path / "cache").scan())
    assert (error.where, "Input/output error" in error.what) == (path, True)
    if Path("/proc/self/mem").exists():
        assert refused(scan("/proc/self/mem")).where == "/proc/self/mem"
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Broken(), isatty=lambda: False))
    assert refused(lambda: Sources(["-"], cache_dir=tmp_path / "cache").scan()).where == "standard input"


def test_fault_046_binary_file_in_a_folder(write: Write, tmp_path: Path) -> None:
    """A binary file in a folder of texts is named (3) with a pattern that leaves it out, and the pattern works."""
    (tmp_path / "texts").mkdir()
    write("texts/a.txt", "text")
    bad = write("texts/b.png", b"\x89PNG\r\n\x1a\n" + bytes(100))
    folder = str(tmp_path / "texts")
    for given in (folder, folder + "/"):
        error = refused(scan(given))
        assert error.where == bad
        assert f"'{folder}/**/*.txt'" in str(error.fix)
    assert text_of(f"{folder}/**/*.txt") == "text"  # what the fix says works
    for given in (bad, f"{folder}/*"):
        assert "**" not in str(refused(scan(given)).fix)


def test_named_gz_but_no_gzip(write: Write) -> None:
    assert "rename it, or fetch it again if it is damaged" in str(refused(scan(write("a.txt.gz", "text"))).fix)


def test_fault_040_no_advice_that_cannot_work(write: Write, tmp_path: Path) -> None:
    """The advice of that error is one that works: a shorter sequence only where one fits, else more text."""
    for text in ("hello", "hello world"):  # 1 token for validation, then 2
        sources = Sources([write("a.txt", text)])
        fix = str(refused(partial(prepared, sources, tmp_path, sequence_length=128)).fix)
        assert fix.startswith("give more text")
        assert ("sequence_length" in fix) == (text == "hello world")
        assert "validation_split" not in fix
    assert "sequence_length to 1 or less" in fix
    made = prepared(Sources([write("a.txt", "hello world")]), tmp_path, sequence_length=1)
    assert len(made.validation) == 2


def test_fault_052_twice_the_same_key_or_column(write: Write) -> None:
    """A JSON key or a text column that stands twice is refused (3) with file and line."""
    for line in ('{"text": "a", "text": "b"}', '{"text": "a", "n": {"x": 1, "x": 2}}'):
        path = write("a.jsonl", '{"text": "first"}\n' + line)
        error = refused(scan(path))
        assert error.where == f"{path}:2"
        assert "twice" in error.what
    path = write("a.csv", "text,id,text\na,1,b\n")
    error = refused(scan(path))
    assert (error.where, error.what) == (f"{path}:1", "2 columns have the name 'text'")
    assert text_of(write("b.csv", "id,text,id\n1,a,2\n")) == "a"  # another name may stand twice


def test_fault_052_a_million_names_make_a_short_message(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 100,000 names, or one name of 1,000,000 characters, make an error (3) under 400 characters long."""
    from trifecta.data import records

    compared: list[int] = []

    def count(_: str, known: list[str]) -> str:
        compared.append(len(known))
        return ""

    monkeypatch.setattr(records, "did_you_mean", count)
    names = [f"c{i}" for i in range(100_000)]
    paths = [write("a.csv", ",".join(names) + "\n"), write("a.jsonl", json.dumps(dict.fromkeys(names, 1)))]
    paths += [write("b.csv", "x" * 1_000_000), write("b.jsonl", json.dumps({"x" * 1_000_000: 1}))]
    for path in paths:
        assert len(refused(scan(path)).what) < 400
    assert compared == [1_000, 1_000, 0, 0]
