"""Killed while it learns a task from labelled data, a run goes on as if nothing had happened, bit for bit."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runs import Killed, losses, run_apart, same, variables

from trifecta.training.plan import MicroBatch, Plan

TASKS = {"tag": "bert", "answer": "bert", "translate": "t5", "chat": "gpt"}
"""--task -> the kind of model that learns it."""

BASE: dict[str, Any] = {
    "model.d_model": 16, "model.num_heads": 2, "model.num_layers": 1, "model.d_ff": 32, "model.dropout": 0.1,
    "tokenizer.type": "byte", "data.sequence_length": 48, "training.batch_size": 4, "training.max_steps": 2,
    "execution.threads": 1, "execution.precision": "fp32",
}  # fmt: skip
TUNED: dict[str, Any] = {
    "training.batch_size": 3, "training.gradient_accumulation_steps": 2, "training.epochs": 2,
    "training.learning_rate": 1e-3, "training.save_every_n_steps": 2, "training.evaluate_every_n_steps": 3,
    "training.validation_split": 0.25, "execution.threads": 1, "execution.precision": "fp32",
}  # fmt: skip
"""With dropout, shuffling and accumulation: an epoch of 18 samples has three updates, of several windows more."""

_PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from trifecta.run import Request, finetune, train
given = json.loads(sys.argv[1])

def hook(event):
    if event["event"] == given["at_event"] and event["step"] == given["at_step"]:
        os.kill(os.getpid(), 9)

flags = {name: ("settings", value) for name, value in given["settings"].items()}
request = Request(data=(given["data"],), flags=flags)
final, place, _ = finetune(request, given["base"], given["task"], Path(given["out"]))
train(final, out=place, hooks=[hook])
"""


def records_of(task: str) -> list[dict[str, Any]]:
    """Twenty-four small records of a task."""
    rng = random.Random(0)
    made = []
    for number in range(24):
        words = ["".join(rng.choices("abcd", k=rng.randint(2, 5))) for _ in range(6)]
        text, first = " ".join(words), words[0]
        answers = {"text": [first], "answer_start": [0]}
        made.append({
            "tag": {"text": text, "entities": [[0, len(first), "NAME"]]},
            "answer": {"id": str(number), "question": "what?", "context": text * 2, "answers": answers},
            "translate": {"source": text, "target": first[::-1]},
            "chat": {"messages": [{"role": "user", "content": first}, {"role": "assistant", "content": words[1]}]},
        }[task])  # fmt: skip
    return made


@pytest.fixture(scope="module", params=TASKS)
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def data(task: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(task) / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records_of(task)))
    return path


@pytest.fixture(scope="module")
def base(task: str, data: Path, text: Path) -> Path:
    """A model of the task's kind after a few steps on text."""
    import trifecta

    out = data.parent / "base"
    trifecta.train(text, out=out, settings=BASE | {"model.type": TASKS[task]})
    return out


def finetune(
    task: str, data: Path, base: Path, out: Path, at_event: str = "", at_step: int = -1, *, unrelated: bool = False
) -> int:
    """The exit status of a fine-tuning in a process of its own, which kills itself at an event of a step."""
    given = {"task": task, "data": str(data), "base": str(base), "out": str(out), "settings": TUNED,
             "at_event": at_event, "at_step": at_step}  # fmt: skip
    command = [sys.executable, "-c", _PROGRAM, json.dumps(given)]
    return run_apart(command, variables(data), unrelated=unrelated).returncode


def finetune_here(task: str, data: Path, base: Path, out: Path, at_step: int = -1) -> None:
    """The same in this process, where a test has planted a bug; raises Killed after a step."""
    from trifecta.run import Request, finetune, train

    def hook(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == at_step:
            raise Killed

    flags = {name: ("settings", value) for name, value in TUNED.items()}
    final, place, _ = finetune(Request(data=(str(data),), flags=flags), str(base), task, out)
    train(final, out=place, hooks=[hook])  # type: ignore[list-item]


@pytest.fixture(scope="module")
def whole(task: str, data: Path, base: Path) -> Path:
    """A fine-tuning that nobody disturbed."""
    out = data.parent / "whole"
    assert finetune(task, data, base, out, unrelated=True) == 0
    return out


@pytest.mark.slow
def test_fault_001_a_killed_fine_tuning_goes_on_to_the_same_bytes(
    task: str, data: Path, base: Path, whole: Path, tmp_path: Path
) -> None:
    """Killed before the first save, as an evaluation and a sample are announced (tags and answers have no samples) and
    in the middle of the second epoch, the same command ends with the same weights and moments, and each step is once in
    its journal."""
    out = tmp_path / "run"
    last = len(losses(whole))
    assert last >= 6
    kills = [("step", 1), ("evaluation", 3), ("step", last // 2 + 2)]
    if TASKS[task] != "bert":
        kills.insert(2, ("sample", last // 2))
    for event, step in kills:
        assert finetune(task, data, base, out, event, step) == -9
    assert finetune(task, data, base, out) == 0
    same(out, whole)
    assert [step for step, _ in losses(out)] == list(range(1, last + 1)), "each step once"


def test_fault_001_control_a_fine_tuning_that_forgets_its_place_is_noticed(
    task: str, data: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that begins its data anew after a kill sees other samples and ends with other losses."""
    plain = Plan.updates

    def forgetful(self: Plan, samples_seen: int) -> Iterator[list[MicroBatch]]:
        del samples_seen
        return plain(self, 0)

    finetune_here(task, data, base, tmp_path / "whole")
    monkeypatch.setattr(Plan, "updates", forgetful)
    with pytest.raises(Killed):
        finetune_here(task, data, base, tmp_path / "run", at_step=5)
    finetune_here(task, data, base, tmp_path / "run")
    assert losses(tmp_path / "run") != losses(tmp_path / "whole")
