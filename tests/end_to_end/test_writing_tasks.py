"""Models that write: a T5 learns to turn words round, a GPT learns to answer, and both are asked afterwards."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trifecta
from trifecta.errors import CheckpointError, DataError, RecipeError
from trifecta.evaluation.sequences import exact_match_rate
from trifecta.run import Request, finetune, train
from trifecta.run.opened import Run, evaluate
from trifecta.run.predicting import predict_texts
from trifecta.run.tasks import read_task

Trifecta = Callable[..., subprocess.CompletedProcess[str]]

TINY: dict[str, Any] = {
    "model.d_model": 32, "model.num_heads": 2, "model.num_layers": 1, "model.d_ff": 64, "model.dropout": 0.0,
    "tokenizer.type": "char", "training.learning_rate": 0.01, "training.batch_size": 64, "data.sequence_length": 32,
    "execution.precision": "fp32", "execution.threads": 1,
}  # fmt: skip
FEW = {"training.max_steps": 3, "training.batch_size": 8}
T5 = {"model.type": "t5", "objective.type": "seq2seq", "objective.max_target_length": 8}
CHAT = {"model.type": "gpt", "objective.type": "prompted", "objective.template": "{system}\nQ: {user}\nA: {assistant}"}


def words(letters: str, length: int) -> list[str]:
    found = ["".join(word) for word in itertools.product(letters, repeat=length)]
    random.Random(0).shuffle(found)
    return found


def write_pairs(path: Path, pairs: list[tuple[str, str]]) -> Path:
    path.write_text("source\ttarget\n" + "".join(f"{source}\t{target}\n" for source, target in pairs))
    return path


def write_chats(path: Path, pairs: list[tuple[str, str]]) -> Path:
    turns = [[{"role": "user", "content": a}, {"role": "assistant", "content": b}] for a, b in pairs]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns))
    return path


# ------------------------------------------------------------------------------------------------------------------ T5


@pytest.fixture(scope="module")
def reverser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 that has learned to write words of four letters backwards."""
    place = tmp_path_factory.mktemp("reverser")
    data = write_pairs(place / "words.tsv", [(word, word[::-1]) for word in words("abcdef", 4)])
    trifecta.train(data, settings={**TINY, **T5, "training.max_steps": 200}, out=place / "run")
    return place / "run"


def validation_of(run: Run) -> list[Any]:
    return read_task(run.recipe).divided.validation


@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_t5_turns_unseen_words_round(reverser: Path, num_beams: int) -> None:
    run = trifecta.load(reverser)
    records = validation_of(run)
    found = predict_texts(run, [record.source for record in records], num_beams=num_beams)
    rate = exact_match_rate([one["target"] for one in found], [record.target for record in records])
    assert len(records) > 100
    assert rate is not None
    assert rate > 0.95


def test_it_is_judged_by_what_it_writes(reverser: Path) -> None:
    figures = evaluate(reverser)
    assert figures["records"] > 100
    assert figures["exact_match"] > 0.95
    assert figures["chrf"] > 90
    assert figures["rouge1"] > 0.95
    assert 0 < figures["loss"] < 0.2


def test_predict_on_the_command_line(reverser: Path, run_trifecta: Trifecta, tmp_path: Path) -> None:
    file = write_pairs(tmp_path / "new.tsv", [("abcd", "?"), ("fade", "?")])
    done = run_trifecta("predict", reverser, file, "bead", "--beams", "4", "--max-tokens", "6", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows == [{"text": word, "target": word[::-1]} for word in ("abcd", "fade", "bead")]
    plain = run_trifecta("predict", reverser, "abcd", "--no-repeat-ngram", "0")
    assert plain.stdout == "dcba\n"
    refused = run_trifecta("predict", reverser, "abcd", "--beams", "0")
    assert (refused.returncode, "num_beams is 0" in refused.stderr) == (2, True)


# ------------------------------------------------------------------------------------------------------------ from span


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 after a few steps of span corruption."""
    place = tmp_path_factory.mktemp("pretrained")
    (place / "text.txt").write_text(" ".join(words("abcdef", 4)) + "\ntranslate: summarize:\n")
    trifecta.train(place / "text.txt", settings={**TINY, **FEW, "model.type": "t5"}, out=place / "run")
    return place / "run"


def fine_tuned(source: Path, data: Path, task: str, out: Path, *overrides: str, **flags: Any) -> dict[str, Any]:
    """Events of a short fine-tuning by their names."""
    given = {name: (name, value) for name, value in {**FEW, **flags}.items()}
    request = Request(data=(str(data),), overrides=overrides, flags=given)
    final, place, _ = finetune(request, str(source), task, out)
    events: list[dict[str, Any]] = []
    train(final, out=place, hooks=[events.append])
    return {"notes": [e["message"] for e in events if e["event"] == "note"], "start": events[0], "end": events[-1]}


@pytest.mark.parametrize(
    ("task", "prefix"), [("translate", "translate: "), ("summarize", "summarize: "), ("generate", "")]
)
def test_every_task_begins_with_the_pretrained_weights(
    task: str, prefix: str, pretrained: Path, tmp_path: Path
) -> None:
    data = write_pairs(tmp_path / "pairs.tsv", [("abc", "cba"), ("fed", "def")] * 10)
    events = fine_tuned(pretrained, data, task, tmp_path / "run")
    run, base = trifecta.load(tmp_path / "run"), trifecta.load(pretrained)
    assert run.recipe.objective.prefix == prefix
    assert run.objective.vocabulary.size == base.objective.vocabulary.size
    assert run.objective.start_id == base.objective.start_id
    assert any("begins fresh" not in note and "weights of" in note for note in events["notes"])
    assert len(predict_texts(run, ["abc", "f"], max_tokens=4)) == 2


def test_gaps_are_filled_by_the_pretrained_model(pretrained: Path, run_trifecta: Trifecta) -> None:
    done = run_trifecta("predict", pretrained, "abcd <extra_id_0> fade <extra_id_1>", "--max-tokens", "9", "--json")
    found = json.loads(done.stdout)
    assert len(found["spans"]) == 2
    assert found["filled"].startswith("abcd")
    refused = run_trifecta("predict", pretrained, "abcd")
    assert (refused.returncode, "gaps wanted, found none" in refused.stderr) == (3, True)


def test_fault_054_what_is_too_long_is_cut_and_counted_or_refused(pretrained: Path, tmp_path: Path) -> None:
    """Long sources and targets are cut and counted in a note; with too_long=refuse the first one's line is named."""
    data = write_pairs(tmp_path / "pairs.tsv", [("abc", "cba")] * 18 + [("abc" * 20, "a"), ("a", "abc" * 20)])
    limit = "objective.max_target_length=8"
    events = fine_tuned(pretrained, data, "generate", tmp_path / "run", limit)
    counts = [int(note.split()[0]) for note in events["notes"] if "texts were cut" in note]
    assert sum(counts) == 2
    with pytest.raises(DataError, match="29 tokens too long") as caught:
        fine_tuned(
            pretrained, data, "generate", tmp_path / "other", limit,
            **{"data.too_long": "refuse", "training.validation_split": 0.05},
        )  # fmt: skip
    assert caught.value.where == f"{data}:20"


@pytest.mark.parametrize(
    ("name", "text", "line", "message"),
    [
        ("pairs.tsv", "source\ttarget\na\tb\nc\t \n", 3, "'target' is empty"),
        ("pairs.jsonl", '{"source": "a", "target": "b"}\n{"source": "", "target": "b"}\n', 2, "'source' is empty"),
    ],
)
def test_an_empty_side_is_named(
    name: str, text: str, line: int, message: str, pretrained: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        fine_tuned(pretrained, tmp_path / name, "generate", tmp_path / "run")
    assert caught.value.where == f"{tmp_path / name}:{line}"


# ----------------------------------------------------------------------------------------------------------------- GPT


@pytest.fixture(scope="module")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT that has learned to say what the user says."""
    place = tmp_path_factory.mktemp("parrot")
    data = write_chats(place / "chats.jsonl", [(word, word) for word in words("abcdef", 3)])
    settings = {**TINY, **CHAT, "model.num_layers": 2, "training.max_steps": 150}
    trifecta.train(data, settings=settings, out=place / "run")
    return place / "run"


def test_a_gpt_answers_what_it_has_not_seen(parrot: Path) -> None:
    run = trifecta.load(parrot)
    asked = [record.turns[0][1] for record in validation_of(run)]
    said = [run.generate(text, temperature=0, max_tokens=8) for text in asked]
    assert len(asked) > 20
    rate = exact_match_rate(said, asked)
    assert rate is not None
    assert rate > 0.95
    assert run.samples("fed", 2, temperature=0, max_tokens=8) == ["fed", "fed"]
    turns = [("user", "abc"), ("assistant", "abc"), ("user", "fed")]
    assert "".join(run.reply(turns, temperature=0)) == "fed", "in a conversation it answers the last turn"
    assert evaluate(parrot)["accuracy"] > 0.95


def test_a_conversation_on_the_command_line(parrot: Path, run_trifecta: Trifecta) -> None:
    talk = run_trifecta("generate", parrot, "-i", "--temperature", "0", input="abc\n/reset\nfed\n")
    assert talk.stdout.splitlines()[1:4] == ["abc", "a new conversation", "fed"]
    assert run_trifecta("generate", parrot, "--prompt", "dad", "--temperature", "0").stdout == "dad\n"
    refused = run_trifecta("generate", parrot)
    assert (refused.returncode, "--prompt" in refused.stderr) == (2, True)


@pytest.mark.parametrize("task", ["text", "chat"])
def test_a_gpt_is_fine_tuned_on_pairs_and_chats(task: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("User: abc\nAssistant: " * 60)
    trifecta.train(tmp_path / "text.txt", settings={**TINY, **FEW}, out=tmp_path / "base")
    pairs = [(word, word) for word in words("abc", 3)]
    data = write_pairs(tmp_path / "p.tsv", pairs) if task == "text" else write_chats(tmp_path / "c.jsonl", pairs)
    fine_tuned(tmp_path / "base", data, task, tmp_path / "run")
    run = trifecta.load(tmp_path / "run")
    assert ("Assistant:" in run.recipe.objective.template) == (task == "chat")
    assert isinstance(run.generate("abc", max_tokens=3, seed=0), str)


def test_a_gpt_learns_no_pairs_of_a_t5(pretrained: Path, tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "pairs.tsv", [("abc", "cba")] * 4)
    with pytest.raises((RecipeError, CheckpointError), match="text needs a model of type gpt"):
        fine_tuned(pretrained, data, "text", tmp_path / "run")
