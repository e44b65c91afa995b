"""What a model shows of itself while it is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import trifecta
from trifecta.run import samples
from trifecta.run.feed import Feed
from trifecta.run.opened import Run
from trifecta.run.tasks import prepare_task, read_task

TINY: dict[str, Any] = {
    "model.d_model": 16, "model.num_heads": 2, "model.num_layers": 1, "model.d_ff": 32, "model.dropout": 0.1,
    "tokenizer.type": "char", "data.sequence_length": 32, "training.batch_size": 8, "training.max_steps": 2,
    "training.evaluate_every_n_steps": 2, "tracking.sample.max_tokens": 6, "execution.threads": 1,
    "training.validation_split": 0.2,
}  # fmt: skip
PAIRS: dict[str, Any] = TINY | {"model.type": "t5", "objective.type": "seq2seq", "objective.max_target_length": 8}
CHATS: dict[str, Any] = TINY | {
    "model.type": "gpt", "objective.type": "prompted", "objective.template": "{system}\nQ: {user}\nA: {assistant}",
}  # fmt: skip


def pairs(path: Path) -> Path:
    path.write_text("source\ttarget\n" + "".join(f"say {a}{b}\t{b}{a}\n" for a in "abcde" for b in "abcde"))
    return path


def chats(path: Path) -> Path:
    made = [[("system", "be kind"), ("user", a), ("assistant", a * 2), ("user", b), ("assistant", b * 3)]
            for a in "abcde" for b in "abcde"]  # fmt: skip
    lines = [json.dumps({"messages": [{"role": r, "content": c} for r, c in turns]}) for turns in made]
    path.write_text("\n".join(lines) + "\n")
    return path


def trained(data: Path, settings: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    events: list[dict[str, Any]] = []
    result = trifecta.train(data, settings=settings, out=data.parent / "run", hooks=[events.append])
    return trifecta.load(result.folder), next(event for event in events if event["event"] == "sample")


def validation_of(run: Run) -> Any:
    return read_task(run.recipe).divided.validation[0]


def test_a_t5_shows_what_it_writes_for_a_held_out_source(tmp_path: Path) -> None:
    run, event = trained(pairs(tmp_path / "pairs.tsv"), PAIRS)
    record = validation_of(run)
    (found,) = run.predict(record.source, max_tokens=6)
    assert event["prompt"] == record.source
    assert event["text"] == f"{record.source}\n=> {found['target']}\n(wanted: {record.target})"


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_gpt_shows_what_it_answers_to_a_held_out_prompt(temperature: float, tmp_path: Path) -> None:
    run, event = trained(chats(tmp_path / "chats.jsonl"), CHATS | {"tracking.sample.temperature": temperature})
    turns = validation_of(run).turns
    said = "".join(run.reply(turns[:-1], max_tokens=6, temperature=temperature, seed=run.recipe.training.seed))
    asked = "be kind\nQ: {}\nA: {}Q: {}\nA:".format(*(text for _, text in turns[1:-1]))
    assert event["prompt"] == asked
    assert event["text"] == f"{asked}\n=> {said.strip()}\n(wanted: {turns[-1][1]})"


def test_an_answer_whose_end_was_cut_is_still_found(tmp_path: Path) -> None:
    """Its end isn't learned, so the last target doesn't count."""
    data = chats(tmp_path / "chats.jsonl")
    data.write_text(data.read_text().replace('"aaa"', json.dumps("a" * 60)).replace('"bbb"', json.dumps("b" * 60)))
    run, _ = trained(data, CHATS)
    text = read_task(run.recipe)
    made = prepare_task(run.recipe, text, run.tokenizer, run.objective)
    cut = [number for number, example in enumerate(made.validation.examples) if example.cut]
    assert cut, "some are cut"
    feed = Feed.of(run.recipe, run.objective, made.validation, training=False)
    sample = samples.sample_of(run.recipe, run.model, feed, cut[0])
    assert sample is not None
    prompt, shown = sample()
    assert prompt.endswith("A:")
    assert shown.rpartition("(wanted: ")[2].startswith(("aaaaaaaa", "bbbbbbbb"))


@pytest.mark.parametrize("settings", [PAIRS, CHATS], ids=["seq2seq", "prompted"])
def test_a_sample_leaves_no_trace(settings: dict[str, Any], tmp_path: Path) -> None:
    """With samples and without, a run ends with the same bytes."""
    data = pairs(tmp_path / "p.tsv") if settings is PAIRS else chats(tmp_path / "c.jsonl")
    given = {name: value for name, value in settings.items() if not name.startswith("tracking.")}
    given |= {"training.max_steps": 6, "training.evaluate_every_n_steps": 3}
    weights = []
    for every in (1, None):
        result = trifecta.train(data, settings=given | {"tracking.sample.every_n_epochs": every},
                                out=tmp_path / f"run-{every}")  # fmt: skip
        weights.append((result.folder / "checkpoints" / "final" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
