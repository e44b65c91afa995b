"""What a curriculum finds easy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trifecta
from trifecta.data.cache import read_summed
from trifecta.errors import CheckpointError, RecipeError
from trifecta.run import build
from trifecta.run.curriculum import _rarities
from trifecta.run.feed import Feed, Feeds
from trifecta.run.opened import load
from trifecta.tokenizers import TOKENIZERS

SMALL: dict[str, Any] = {
    "model.d_model": 16, "model.num_heads": 2, "model.num_layers": 1, "model.d_ff": 32, "data.sequence_length": 16,
    "training.batch_size": 8, "training.max_steps": 6, "execution.threads": 1, "tracking.sample.every_n_epochs": None,
    "tokenizer.type": "char", "training.learning_rate": 0.01,
}  # fmt: skip


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """Lines of 1 to 40 letters; every third has letters that no other has."""
    file = tmp_path / "lines.txt"
    rows = [("xyz" if number % 3 == 0 else "abcab")[: 1 + number % 5] * (1 + number % 8) for number in range(200)]
    file.write_text("\n".join(rows) + "\n")
    return file


def train(lines: Path, out: Path, **settings: Any) -> list[dict[str, Any]]:
    trifecta.train(lines, out=out, settings=SMALL | settings)
    return [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]


def tokens(events: list[dict[str, Any]]) -> list[int]:
    return [event["tokens"] for event in events if event["event"] == "step"]


def test_short_lines_come_first(lines: Path, tmp_path: Path) -> None:
    by_length = {"data.samples": "lines", "data.curriculum.type": "length", "data.curriculum.epochs": 0.3}
    few = tokens(train(lines, tmp_path / "easy", **by_length))
    plain = tokens(train(lines, tmp_path / "plain", **{"data.samples": "lines"}))
    assert few[0] < min(plain)
    assert few[0] < few[-1]


def test_rare_tokens_come_last() -> None:
    """By the sum of -log p: long lines of frequent letters stand beside short ones of rare letters."""

    class Vocabulary:
        size = 8

    class Told:
        vocabulary = Vocabulary()

    samples = [np.array([0, 0]), np.array([1]), np.array([0]), np.array([0, 1])]
    tokenizer = TOKENIZERS["char"](["ab"], vocab_size=None)
    feed = Feed(Told(), samples, None, 1, "train", 0)  # type: ignore[arg-type]
    expected = [-2 * np.log(4 / 6), -np.log(2 / 6), -np.log(4 / 6), -np.log(4 / 6) - np.log(2 / 6)]
    assert _rarities(feed, tokenizer) == pytest.approx(expected)


def test_what_a_reference_finds_easy_comes_first_and_a_resume_needs_it_no_more(lines: Path, tmp_path: Path) -> None:
    """The reference knows one kind of line; its windows come first, and the order is kept in the run."""
    rows = [("abcd" if number % 2 else "wxyz") * 3 + "abcdwxyz"[number % 8] for number in range(240)]
    lines.write_text("\n".join(rows))
    only = tmp_path / "only.txt"
    only.write_text("\n".join(row for row in rows if row.startswith("abcd")) + "\nwxyz")
    train(only, tmp_path / "reference", **{"training.max_steps": 150, "data.samples": "lines"})
    settings = {
        "tokenizer": str(tmp_path / "reference" / "tokenizer.json"), "data.curriculum.type": "reference_loss",
        "data.curriculum.reference": str(tmp_path / "reference"), "training.learning_rate": 1e-6,
        "data.samples": "lines", "data.curriculum.epochs": 0.3,
    }  # fmt: skip
    settings |= {"tokenizer.type": "file", "tokenizer.path": settings.pop("tokenizer")}
    first = train(lines, tmp_path / "run", **settings)
    order = read_summed(tmp_path / "run" / "curriculum.json")["order"]
    assert sorted(order) == list(range(len(order)))
    run = load(tmp_path / "run")
    data: Any = build.data_of(run.recipe, build.sources(run.recipe.data, "file"))
    (feed,) = Feeds.of(run.recipe, run.objective, data.train, data.tokenizer).phases
    known = ["wxyz" not in data.tokenizer.decode(feed.samples[i].tolist()) for i in range(len(feed.samples))]
    half = len(order) // 2
    assert sum(known[i] for i in order[: half - 10]) > 0.95 * (half - 10)
    (tmp_path / "reference").rename(tmp_path / "gone")
    trifecta.train(lines, out=tmp_path / "run", settings=SMALL | settings | {"training.max_steps": 8})
    assert tokens(first)
    (tmp_path / "run" / "curriculum.json").write_text("{}")
    with pytest.raises(CheckpointError, match="order is damaged"):
        trifecta.train(lines, out=tmp_path / "run", settings=SMALL | settings | {"training.max_steps": 9})


def test_a_reference_of_another_kind_is_refused_by_name(lines: Path, tmp_path: Path) -> None:
    settings = {"data.curriculum.type": "reference_loss", "data.curriculum.reference": str(tmp_path / "bytes")}
    with pytest.raises(CheckpointError, match="no such run"):
        train(lines, tmp_path / "run", **settings)
    train(lines, tmp_path / "bytes", **{"tokenizer.type": "byte"})
    with pytest.raises(RecipeError, match="another tokenizer"):
        train(lines, tmp_path / "run", **settings)
    masked = {"model.type": "bert", "objective.type": "masked"}
    with pytest.raises(RecipeError, match=r"objective\.type causal, which isn't this run's"):
        train(lines, tmp_path / "run", **settings, **masked, **{"tokenizer.type": "byte"})


def test_mixed_corpora_are_divided_each_by_itself(tmp_path: Path) -> None:
    """Three samples of one to one of the other, of which neither is missing in validation."""
    for name, letter in (("many", "a"), ("few", "b")):
        (tmp_path / f"{name}.txt").write_text(letter * (4000 if name == "many" else 800))
    out = tmp_path / "run"
    trifecta.train(
        tmp_path / "many.txt", tmp_path / "few.txt", out=out,
        settings=SMALL | {"data.weights": [1.0, 3.0], "training.max_steps": 40},
    )  # fmt: skip
    start = json.loads((out / "journal.jsonl").read_text().splitlines()[0])
    assert (start["train_characters"], start["validation_characters"]) == (3600 + 720, 400 + 80)
    run = load(out)
    data: Any = build.data_of(run.recipe, build.sources(run.recipe.data, "char"))
    feeds = Feeds.of(run.recipe, run.objective, data.train, data.tokenizer)
    drawn = feeds.phases[0].at(0, 0, 80).inputs["tokens_BT"][:, 0].tolist()
    assert sorted(map(drawn.count, set(drawn))) == [20, 60]
    assert trifecta.run.evaluate(out)["characters"] == 480


def test_documents_of_one_corpus_in_the_validation_of_another_are_counted(tmp_path: Path) -> None:
    """Twelve texts, and the same under other names in another order: each corpus by itself has no leak."""
    for corpus, order in (("one", 1), ("two", -1)):
        (tmp_path / corpus).mkdir()
        for number in range(12):
            (tmp_path / corpus / f"{order * number + 20:02}.txt").write_text(f"text {number} " * 12)
    trifecta.train(
        tmp_path / "one", tmp_path / "two", out=tmp_path / "run",
        settings=SMALL | {"data.weights": [1.0, 1.0], "tokenizer.type": "byte", "data.sequence_length": 8},
    )  # fmt: skip
    journal = (tmp_path / "run" / "journal.jsonl").read_text()
    assert "2 of 2 validation documents have the same text as a training document" in journal


@pytest.mark.parametrize(("epochs", "said"), [(50.0, True), (0.01, False)])
def test_what_a_short_run_never_sees_is_said(epochs: float, said: bool, lines: Path, tmp_path: Path) -> None:
    settings = {"data.samples": "lines", "data.curriculum.type": "length", "data.curriculum.epochs": epochs}
    events = train(lines, tmp_path / "run", **settings)
    notes = [event["message"] for event in events if event["event"] == "note"]
    assert any("of the samples are never seen" in note for note in notes) == said
