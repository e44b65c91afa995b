"""Small runs in fresh processes, killed and compared."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from forge import warm

SETTINGS: dict[str, Any] = {
    "model.d_model": 16, "model.num_heads": 2, "model.num_layers": 2, "model.d_ff": 32, "model.dropout": 0.1,
    "data.sequence_length": 16, "training.batch_size": 4, "training.gradient_accumulation_steps": 2,
    "training.epochs": 3, "training.learning_rate": 1e-3, "training.save_every_n_steps": 5, "training.keep_last_n": 2,
    "training.evaluate_every_n_steps": 7, "tracking.sample.max_tokens": 5,
    "execution.threads": 1,
}  # fmt: skip

SHORT: dict[str, Any] = {
    "training.epochs": 1, "training.save_every_n_steps": 3, "training.evaluate_every_n_steps": 8,
    "model.num_layers": 1,
}  # fmt: skip
"""What makes such a run one of a few steps."""


def all_settings(config: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What is common to all runs, less what a BERT or a ViT has no use for, and what is asked for."""
    common = dict(SETTINGS)
    if config.startswith(("bert", "auto-vit")):
        del common["tracking.sample.max_tokens"]
    if config == "auto-vit":
        del common["data.sequence_length"]
    made = common | settings
    if "training.phases" in made:
        del made["training.epochs"]
    return made


_PROGRAM = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
import trifecta
from trifecta.errors import TrifectaError
given = json.loads(sys.argv[1])
exec(given["plant"])

def hook(event):
    if event["event"] == given["at_event"] and event["step"] == given["at_step"]:
        os.kill(os.getpid(), given["signal"])

try:
    result = trifecta.train(*given["text"], config=given["config"], out=given["out"], settings=given["settings"],
                            resume=given["resume"], hooks=[hook])
except TrifectaError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
print(json.dumps({"status": result.status, "step": result.step}))
"""

ANNOUNCE = """
import trifecta.run.trainer, trifecta.training.checkpoint, trifecta.training.loop

def announced(module, name, phase):
    plain = getattr(module, name)

    def wrapped(*arguments, **options):
        print("begin", phase, options.get("number", ""), flush=True)
        done = plain(*arguments, **options)
        print("end", phase, options.get("number", ""), flush=True)
        return done

    setattr(module, name, wrapped)

announced(trifecta.training.loop, "update", "step")
announced(trifecta.run.trainer, "evaluate", "evaluation")
announced(trifecta.training.checkpoint, "save", "save")
"""
"""Lets a process say what it is about to do and what it has done, so that a parent can strike in the middle."""


class Killed(BaseException):
    """As near to a kill as an exception can come: nothing in a run catches it."""


def write_text(path: Path, words: int = 900, seed: int = 0) -> Path:
    """A text of made-up words."""
    rng = random.Random(seed)
    known = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 6))) for _ in range(60)]
    path.write_text(" ".join(rng.choices(known, k=words)) + "\n")
    return path


def command(
    text: Path, out: Path, *, at_step: int = -1, at_event: str = "step", signal: int = 9, resume: str = "auto",
    plant: str = "", config: str = "small", **settings: Any,
) -> list[str]:  # fmt: skip
    """What trains in a fresh process, which sends itself a signal at an event of a step. plant: code to run first."""
    given = {
        "text": str(text).split(","), "out": str(out), "config": config, "settings": all_settings(config, settings),
        "resume": resume, "at_step": at_step, "at_event": at_event, "signal": signal, "plant": plant,
    }  # fmt: skip
    return [sys.executable, "-c", _PROGRAM, json.dumps(given)]


def variables(text: Path) -> dict[str, str]:
    """The environment of such a process."""
    return os.environ | {"OMP_NUM_THREADS": "1", "TRIFECTA_CACHE": str(text.parent / "cache")}


def train(
    text: Path, out: Path, *, environment: dict[str, str] | None = None, unrelated: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Trains in a process of its own; options as for `command`, unrelated as for `run_apart`."""
    words = command(text, out, **options)
    return run_apart(words, variables(text) | (environment or {}), unrelated=unrelated)


def run_apart(
    command: list[str], environment: dict[str, str], *, unrelated: bool = False
) -> subprocess.CompletedProcess[str]:
    """Runs [python, "-c", program, *arguments] in a process of its own.

    Args:
        unrelated: started anew, with a hash seed and addresses of its own, instead of forked from a warm process.
    """
    if unrelated:
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    return warm().run(command[2], command[3:], environment)


def train_here(
    text: Path, out: Path, *, at_step: int = -1, resume: str = "auto", config: str = "small", **settings: Any
) -> Any:
    """Trains in this process, where a test has planted a bug; raises Killed after a step."""
    import trifecta

    def hook(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == at_step:
            raise Killed

    return trifecta.train(
        text, config=config, out=out, settings=all_settings(config, settings),
        resume=resume, hooks=[hook],  # type: ignore[arg-type]
    )  # fmt: skip


def final_bytes(out: Path) -> dict[str, bytes]:
    """Weights, moments and averages of the last checkpoint."""
    return {path.name: path.read_bytes() for path in (out / "checkpoints" / "final").glob("*.safetensors")}


def losses(out: Path) -> list[tuple[int, str]]:
    """Each journaled step with its loss as a hex float."""
    events = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    return [(e["step"], float(e["loss"]).hex()) for e in events if e["event"] == "step"]


def same(one: Path, other: Path) -> None:
    """Losses as hex floats, weights and moments as bytes."""
    assert losses(one) == losses(other)
    assert final_bytes(one) == final_bytes(other)
