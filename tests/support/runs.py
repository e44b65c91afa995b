"""Small runs in fresh processes, killed and compared."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = {
    "model.d_model": 16, "model.num_heads": 2, "model.num_layers": 2, "model.d_ff": 32, "model.dropout": 0.1,
    "data.sequence_length": 16, "training.batch_size": 4, "training.gradient_accumulation_steps": 2,
    "training.epochs": 3, "training.learning_rate": 1e-3, "training.save_every_n_steps": 5, "training.keep_last_n": 2,
    "training.evaluate_every_n_steps": 7, "training.early_stopping_patience": 9, "tracking.sample.max_tokens": 5,
    "execution.threads": 1,
}  # fmt: skip

_PROGRAM = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
import trifecta
from trifecta.errors import TrifectaError
given = json.loads(sys.argv[1])

def hook(event):
    if event["event"] == given["at_event"] and event["step"] == given["at_step"]:
        os.kill(os.getpid(), given["signal"])

try:
    result = trifecta.train(given["text"], config=given["config"], out=given["out"], settings=given["settings"],
                            resume=given["resume"], hooks=[hook])
except TrifectaError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
print(json.dumps({"status": result.status, "step": result.step}))
"""


def write_text(path: Path, words: int = 900, seed: int = 0) -> Path:
    """A text of made-up words."""
    rng = random.Random(seed)
    known = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 6))) for _ in range(60)]
    path.write_text(" ".join(rng.choices(known, k=words)) + "\n")
    return path


def train(
    text: Path, out: Path, *, at_step: int = -1, at_event: str = "step", signal: int = 9, resume: str = "auto",
    environment: dict[str, str] | None = None, **settings: Any,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Trains in a fresh process, which sends itself a signal at an event of a step."""
    given = {
        "text": str(text), "out": str(out), "config": "small", "settings": SETTINGS | settings, "resume": resume,
        "at_step": at_step, "at_event": at_event, "signal": signal,
    }  # fmt: skip
    variables = (
        os.environ | {"OMP_NUM_THREADS": "1", "TRIFECTA_CACHE": str(text.parent / "cache")} | (environment or {})
    )
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(given)], capture_output=True, text=True, env=variables, timeout=240,
        check=False,
    )  # fmt: skip


def final_bytes(out: Path) -> dict[str, bytes]:
    """Weights and moments of the last checkpoint."""
    return {
        name: (out / "checkpoints" / "final" / name).read_bytes()
        for name in ("model.safetensors", "optimizer.safetensors")
    }


def losses(out: Path) -> list[tuple[int, str]]:
    """Each journaled step with its loss as a hex float."""
    events = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    return [(e["step"], float(e["loss"]).hex()) for e in events if e["event"] == "step"]
