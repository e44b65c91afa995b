"""The demonstration: train on the embedded text, write samples, draw the curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trifecta.run.build import Report
from trifecta.run.opened import load
from trifecta.run.request import Request
from trifecta.run.trainer import Result, train
from trifecta.tracking.plots import plot_run
from trifecta.training.hooks import Hook

PRESET = "demo"
PROMPTS = ("ROMEO:", "KING HENRY:", "First Witch:")


@dataclass(frozen=True)
class Demonstration:
    """What a demonstration leaves: how training ended, what the model wrote, and the picture."""

    result: Result
    samples: list[str]
    picture: Path


def demo(out: Path = Path("runs/demo"), *, hooks: Sequence[Hook] = (), report: Report | None = None) -> Demonstration:
    """Trains the demo preset, or goes on with it; then writes samples and draws the loss curve."""
    result = train(Request(preset=PRESET), out=out, hooks=hooks, report=report)
    run = load(result.folder)
    samples = [run.generate(prompt, max_tokens=120, temperature=0.8, top_k=50, seed=1) for prompt in PROMPTS]
    picture = result.folder / "plots" / "training.png"
    picture.parent.mkdir(exist_ok=True)
    plot_run(result.folder, picture)
    (result.folder / "samples").mkdir(exist_ok=True)
    (result.folder / "samples" / "samples.txt").write_text("\n\n---\n\n".join(samples) + "\n", encoding="utf-8")
    return Demonstration(result, samples, picture)
