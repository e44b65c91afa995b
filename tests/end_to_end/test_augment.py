"""`trifecta augment`: what it writes is read back with the same labels, and is trained on; augmented training."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trifecta
from trifecta.cli.main import main
from trifecta.data.tasks import read_labelled, read_pairs, read_questions, read_tagged

SMALL: dict[str, Any] = {
    "model.d_model": 16, "model.num_heads": 2, "model.num_layers": 1, "model.d_ff": 32, "data.sequence_length": 24,
    "training.batch_size": 8, "training.max_steps": 3, "execution.threads": 1, "execution.precision": "fp32",
}  # fmt: skip
WORDS = ["".join(random.Random(n).choices("abcdefgh", k=4)) for n in range(40)]


def sentence(seed: int, count: int = 12) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of each task, and a table of synonyms."""
    place = tmp_path_factory.mktemp("augment")
    rows: dict[str, list[dict[str, Any]]] = {"classify": [], "tag": [], "answer": [], "translate": []}
    for n in range(24):
        text = sentence(n)
        first = text.split()[0]
        start = text.rindex(text.split()[-1])
        rows["classify"].append({"text": text, "label": "ab"[n % 2], "stars": n})
        rows["tag"].append({"text": f"{text} Ann Lee", "entities": [[len(text) + 1, len(text) + 8, "PER"]], "n": n})
        rows["answer"].append({"id": f"q{n}", "question": "which?", "context": text, "n": n,
                               "answers": {"text": [text[start:]], "answer_start": [start]}})  # fmt: skip
        rows["translate"].append({"en": text, "de": first, "n": n})
    for task, records in rows.items():
        (place / f"{task}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (place / "text.txt").write_text(" ".join(sentence(n) for n in range(100)))
    (place / "own.tsv").write_text("".join(f"{word}\t{word}x\t{word} y\n" for word in WORDS))
    return place


@pytest.fixture(scope="module")
def bert(place: Path) -> Path:
    settings = SMALL | {"model.type": "bert", "tokenizer.type": "wordpiece", "tokenizer.vocab_size": 200}
    trifecta.train(place / "text.txt", out=place / "bert", settings=settings)
    return place / "bert"


@pytest.fixture(scope="module")
def t5(place: Path) -> Path:
    settings = SMALL | {"model.type": "t5", "objective.type": "seq2seq", "tokenizer.type": "bpe",
                        "tokenizer.vocab_size": 300, "objective.max_target_length": 8}  # fmt: skip
    trifecta.train(place / "translate.jsonl", out=place / "t5", settings=settings)
    return place / "t5"


def augment(place: Path, task: str, *options: str | Path, capture: Any = None) -> tuple[int, Path, dict[str, Any]]:
    out = place / "out.jsonl"
    code = main(["augment", str(place / f"{task}.jsonl"), "-o", str(out), "--task", task, "--force", "--json",
                 *map(str, options)])  # fmt: skip
    printed = capture.readouterr().out if capture else ""
    return code, out, json.loads(printed) if printed and not code else {}


METHODS: dict[str, Callable[[Path], tuple[str | Path, ...]]] = {
    "eda": lambda place: ("--synonyms", "file", "--synonyms-path", place / "own.tsv", "--share", "0.3"),
    "substitute": lambda place: ("--model", place / "bert", "--share", "0.3"),
    "delete": lambda _: ("--share", "0.3"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", ["classify", "tag", "answer", "translate"])
def test_copies_keep_what_is_to_be_learned(
    place: Path, bert: Path, task: str, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    del bert
    options = ["--method", method, *METHODS[method](place), "--copies", "2"]
    code, out, said = augment(place, task, *options, capture=capsys)
    assert code == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == said["lines"] == 24 + said["copies"]
    assert said["copies"] > 30
    assert said["copies"] + said["unchanged"] == 48
    before = place / f"{task}.jsonl"
    if task == "classify":
        assert {row["stars"]: row["label"] for row in rows} == {n: "ab"[n % 2] for n in range(24)}
        assert len(read_labelled([out]).records) == len(rows)
    elif task == "tag":
        for record in read_tagged([out]):
            words = [record.text[a:b] for (a, b), tag in zip(record.words, record.tags, strict=True) if tag != "O"]
            assert words == ["Ann", "Lee"]
        assert {row["n"] for row in rows} == set(range(24))
    elif task == "answer":
        answers = {question.id: question.answers[0][0] for question in read_questions([before])}
        for question in read_questions([out]):  # refuses an answer that isn't where it should be, and an id twice
            assert question.answers[0][0] == answers[question.id.partition("-")[0]]
    else:
        targets = Counter(pair.target for pair in read_pairs([before]))
        assert set(Counter(pair.target for pair in read_pairs([out]))) == set(targets)
        assert {row["n"] for row in rows} == set(range(24))
    again, _, _ = augment(place, task, *options, capture=capsys)
    assert again == 0
    assert [json.loads(line) for line in out.read_text().splitlines()] == rows, "the same seed makes the same copies"


def test_a_substituted_word_is_another_word(place: Path, bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, said = augment(place, "classify", "--method", "substitute", "--model", bert, "--share", "0.2",
                           "--only-copies", capture=capsys)  # fmt: skip
    assert said["lines"] == said["copies"] == 24
    for row in map(json.loads, out.read_text().splitlines()):
        old, new = sentence(row["stars"]).split(), row["text"].split()
        changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
        assert 1 <= len(changed) <= 3
        assert all(b.isalpha() for _, b in changed)


def test_back_translation_keeps_labels_and_draws_copies(
    place: Path, t5: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ("--method", "back-translate", "--forward", t5, "--backward", t5)
    code, out, said = augment(place, "classify", *both, "--temperature", "1", "--copies", "2", capture=capsys)
    assert code == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["stars"]: row["label"] for row in rows} == {n: "ab"[n % 2] for n in range(24)}
    assert said["copies"] > 0
    code, out, _ = augment(place, "translate", *both, capture=capsys)
    assert code == 0
    before, after = (read_pairs([path]) for path in (place / "translate.jsonl", out))
    assert {pair.target for pair in after} == {pair.target for pair in before}
    for task, extra in (("tag", ()), ("classify", ("--copies", "2"))):
        assert augment(place, task, *both, *extra)[0] == 2
    said_on_error = capsys.readouterr().err
    assert "the labels of tag would lose their places" in said_on_error
    assert "all copies would be the same" in said_on_error


def test_what_is_written_is_trained_on(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = augment(place, "classify", "--method", "swap", "--share", "0.3", capture=capsys)
    settings = SMALL | {"model.type": "bert", "objective.type": "classify", "tokenizer.type": "byte",
                        "data.near_duplicates": 0.3, "training.validation_split": 0.25}  # fmt: skip
    result = trifecta.train(out, out=place / "trained", settings=settings)
    assert result.step == 3
    events = [json.loads(line) for line in (place / "trained" / "journal.jsonl").read_text().splitlines()]
    (note,) = [e["message"] for e in events if "near-duplicates" in e.get("message", "")]
    assert "each on one side of the split" in note


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--method", "nope"], 2, "use one of: eda, synonyms"),
        (["--method", "swap", "--task", "nope"], 2, "use one of: classify, tag"),
        (["--method", "eda"], 2, "needs synonyms"),
        (["--method", "synonyms", "--synonyms", "file"], 2, "--synonyms-path"),
        (["--method", "synonyms", "--synonyms", "file", "--synonyms-path", "EMPTY"], 3, "there are no synonyms"),
        (["--method", "synonyms", "--synonyms", "nope"], 2, "use one of: file, mythes"),
        (["--method", "substitute"], 2, "give --model RUN"),
        (["--method", "substitute", "--model", "T5"], 2, "objective.type masked is wanted, and this one's is seq2seq"),
        (["--method", "substitute", "--model", "nowhere"], 4, "no such run"),
        (["--method", "back-translate", "--forward", "T5"], 2, "give --backward RUN"),
        (["--method", "back-translate", "--forward", "BERT", "--backward", "T5"], 2, "seq2seq is wanted"),
        (["--method", "swap", "--model", "BERT"], 2, "can't take effect"),
        (["--method", "swap", "--synonyms", "file"], 2, "can't take effect"),
        (["--method", "back-translate", "--share", "0.2"], 2, "can't take effect"),
        (["--method", "swap", "--share", "1.5"], 2, "--share"),
        (["--method", "swap", "--copies", "0"], 2, "--copies"),
    ],
)  # fmt: skip
def test_bad_input(
    place: Path, bert: Path, t5: Path, tmp_path: Path, options: list[str], code: int, said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "empty.tsv").write_text("")
    paths = {"EMPTY": tmp_path / "empty.tsv", "T5": t5, "BERT": bert}
    words = [str(paths.get(word, word)) for word in options]
    assert main(["augment", str(place / "classify.jsonl"), "-o", str(tmp_path / "o.jsonl"), *words]) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "o.jsonl").exists()


def test_nothing_is_overwritten(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = place / "classify.jsonl"
    (tmp_path / "mine.jsonl").write_text("mine")
    for out, said in (
        (tmp_path / "mine.jsonl", "give --force"),
        (data, "is read from"),
        (tmp_path / "a.csv", ".jsonl"),
    ):
        assert main(["augment", str(data), "-o", str(out), "--method", "swap"]) == 2
        assert said in capsys.readouterr().err
    assert (tmp_path / "mine.jsonl").read_text() == "mine"
