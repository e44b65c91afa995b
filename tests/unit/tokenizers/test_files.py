"""tokenizer.json: ours, Hugging Face's, and hostile ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from trifecta.errors import CheckpointError, DataError
from trifecta.tokenizers import TOKENIZERS, Tokenizer, from_json, load_tokenizer, tokenizer_key
from trifecta.tokenizers.subword import BYTE_TOKENS, SubwordTokenizer, explain_panics

Make = Callable[[str], Tokenizer]


@pytest.mark.parametrize("type", ["char", "bpe"])
def test_saved_and_loaded(make: Make, tmp_path: Path, type: str) -> None:
    (tmp_path / "tokenizer.json").write_text(make(type).to_json(), encoding="utf-8")
    for path in (tmp_path, tmp_path / "tokenizer.json", str(tmp_path)):
        assert load_tokenizer(path).to_json() == make(type).to_json()
    file = str(tmp_path / "tokenizer.json")
    assert TOKENIZERS["file"](iter(()), path=file).type == type
    key = tokenizer_key("file", path=file)
    (tmp_path / "tokenizer.json").write_text(make("byte").to_json(), encoding="utf-8")
    assert tokenizer_key("file", path=file) != key


def test_bpe_is_readable_by_the_library(make: Make) -> None:
    library = tokenizers.Tokenizer.from_str(make("bpe").to_json())
    text = "The king's café."
    assert library.encode(text).ids == list(make("bpe").encode(text))
    assert library.decode(library.encode(text).ids) == text


def test_missing_file_names_a_near_one(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json") as error:
        load_tokenizer(tmp_path / "tokeniser.json")
    assert "did you mean 'tokenizer.json'" in str(error.value)


def foreign() -> tokenizers.Tokenizer:
    """In the manner of Llama 2: sentence-piece spaces, byte fall-back, padding and truncation left on."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {token: 3 + i for i, token in enumerate(BYTE_TOKENS)}
    for token in ["▁", "a", "b", "▁a", "▁ab"]:
        vocabulary[token] = len(vocabulary)
    merges = [("▁", "a"), ("▁a", "b")]
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.add_special_tokens(["<unk>", "<s>", "</s>"])
    inner.enable_truncation(4)
    inner.enable_padding(length=9, pad_id=0)
    return inner


def test_foreign_tokenizer() -> None:
    tokenizer = from_json(foreign().to_str())
    assert (tokenizer.type, tokenizer.eos_id, tokenizer.unk_id, tokenizer.lossless) == ("bpe", 2, 0, False)
    text = "ab aé \U0001f600 b</s>"
    ids = tokenizer.encode(text)
    assert len(ids) > 9  # neither cut nor padded
    assert tokenizer.decode([*ids, 2]) == text


def test_end_of_text_is_added_where_there_is_none() -> None:
    inner = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = from_json(inner.to_str())
    assert (tokenizer.eos_id, tokenizer.vocab_size, tokenizer.unk_id) == (3, 4, 2)
    again = from_json(tokenizer.to_json())
    assert (again.eos_id, again.vocab_size) == (3, 4)


def _changed(text: str, change: Callable[[dict[str, object]], object]) -> str:
    fields = json.loads(text)
    change(fields)
    return json.dumps(fields)


HOSTILE = {
    "empty": lambda _: "",
    "no json": lambda _: "{",
    "deep": lambda _: "[" * 100_000,
    "list": lambda _: "[1]",
    "number": lambda _: "1",
    "other object": lambda _: '{"a": 1}',
    "unknown kind": lambda _: '{"format": "trifecta-tokenizer", "version": 1, "type": "pickle"}',
    "later version": lambda _: '{"format": "trifecta-tokenizer", "version": 9, "type": "char"}',
    "no alphabet": lambda _: '{"format": "trifecta-tokenizer", "version": 1, "type": "char"}',
    "unsorted": lambda _: '{"format": "trifecta-tokenizer", "version": 1, "type": "char", "characters": "ba"}',
    "surrogate": lambda _: '{"format": "trifecta-tokenizer", "version": 1, "type": "char", "characters": "\\ud800"}',
    "type list": lambda _: '{"format": "trifecta-tokenizer", "version": 1, "type": ["char"]}',
    "bad merges": lambda bpe: _changed(bpe, lambda f: f["model"]["merges"].append(["zz", "qq"])),
    "huge id": lambda bpe: _changed(bpe, lambda f: f["model"]["vocab"].update({"zz": 2**32 - 2})),
    "negative id": lambda bpe: _changed(bpe, lambda f: f["model"]["vocab"].update({"zz": -1})),
    "cut off": lambda bpe: bpe[: len(bpe) // 2],
    "no unknown": lambda _: tokenizers.Tokenizer(models.WordPiece({"a": 0}, unk_token="[UNK]")).to_str(),
    "no vocabulary": lambda _: tokenizers.Tokenizer(models.BPE()).to_str(),
}


@pytest.mark.fast
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_tokenizer_json(make: Make, tmp_path: Path, case: str) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(HOSTILE[case](make("bpe").to_json()), encoding="utf-8")
    with pytest.raises(CheckpointError) as error:
        load_tokenizer(file)
    assert error.value.where == str(file)
    assert error.value.exit_code == 4


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(CheckpointError, match="UTF-8"):
        load_tokenizer(tmp_path)


def _word_level(**parts: object) -> str:
    inner = tokenizers.Tokenizer(models.WordLevel({"a": 0, "!": 1, "?": 2}, unk_token="?"))
    return json.dumps(json.loads(inner.to_str()) | parts)


PANIC = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}


@pytest.mark.fast
def test_a_panic_while_encoding_is_an_error_for_users(capfd: pytest.CaptureFixture[str]) -> None:
    tokenizer = from_json(_word_level(pre_tokenizer=PANIC))
    for act in (tokenizer.encode, lambda text: tokenizer.encode_batch(["a", text])):
        with pytest.raises(CheckpointError, match=r"this tokenizer\.json can't be used") as error:
            act("a" * 200 + "!")
        assert "trifecta tokenizer train" in str(error.value.fix)
    capfd.readouterr()  # the library also prints


@pytest.mark.fast
def test_a_panic_while_encoding_control(capfd: pytest.CaptureFixture[str]) -> None:
    """The library alone raises what no `except Exception` catches; and other such errors pass our own catch."""
    with pytest.raises(BaseException, match=r".") as caught:
        tokenizers.Tokenizer.from_str(_word_level(pre_tokenizer=PANIC)).encode("a" * 200 + "!")
    assert not isinstance(caught.value, Exception)
    capfd.readouterr()
    with pytest.raises(KeyboardInterrupt), explain_panics():
        raise KeyboardInterrupt


@pytest.mark.fast
@pytest.mark.parametrize(("method", "act"), [("decode", "decode"), ("id_to_token", "token_text")])
def test_a_panic_while_decoding(method: str, act: str) -> None:
    panic = type("PanicException", (BaseException,), {})

    class Broken:
        def __getattr__(self, name: str) -> object:
            if name != method:
                return getattr(inner, name)
            raise panic("index out of bounds")

    tokenizer = from_json(_word_level())
    assert isinstance(tokenizer, SubwordTokenizer)
    inner = tokenizer._inner
    tokenizer._inner = Broken()  # type: ignore[assignment]
    with pytest.raises(CheckpointError, match="index out of bounds"):
        getattr(tokenizer, act)([1] if act == "decode" else 1)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("To be, or not to be", r"isn't a tokenizer\.json: it isn't JSON"),
        ("", "it is empty"),
        ("[1]", "should be an object"),
        ('{"a": 1}', "can use"),
        (tokenizers.Tokenizer(models.BPE()).to_str(), "its vocabulary is empty"),
    ],
)
def test_what_is_no_tokenizer_is_told_with_a_fix(tmp_path: Path, content: str, found: str) -> None:
    file = tmp_path / "s.txt"
    file.write_text(content)
    with pytest.raises(CheckpointError, match=found) as error:
        load_tokenizer(file)
    assert error.value.where == str(file)
    assert "trifecta tokenizer train" in str(error.value.fix)
