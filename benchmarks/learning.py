"""Which techniques learn fastest: whole-validation loss after equal steps, and the time of a step.

Every variant trains the same small GPT (4 layers, width 128, 12 x 64 tokens, one thread) on the same characters; seeds
are interleaved, so that a slow minute of the machine hits all of them. Writes benchmarks/learning.json and the table in
benchmarks/README.md.

    python -m benchmarks.learning [TEXT] [--steps 300] [--seeds 3]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TINY_SHAKESPEARE = HERE.parent.parent / "shared" / "data" / "tinyshakespeare.txt"

COMMON: dict[str, Any] = {
    "model.d_model": 128, "model.num_heads": 4, "model.num_layers": 4, "model.dropout": 0.0,
    "tokenizer": {"type": "char"}, "data.sequence_length": 64, "training.batch_size": 12, "execution.threads": 1,
    "training.save_every_minutes": None, "training.save_best": False, "tracking.sample.every_n_epochs": None,
}  # fmt: skip
"""What every variant has in common."""

MODERN: dict[str, Any] = {"model.d_ff": 344, "training.learning_rate": 1e-2}
PLAIN_D_FF = 512
"""Two matrices of this inner width have as many weights as the three of a gated layer of 344."""

VARIANTS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "modern (the default)": ("modern", MODERN),
    "AdamW instead of Muon": ("modern", MODERN | {"training.optimizer.type": "adamw", "training.learning_rate": 3e-3}),
    "squared ReLU instead of SwiGLU": ("modern", MODERN | {"model.activation": "relu2", "model.d_ff": PLAIN_D_FF}),
    "GELU instead of SwiGLU": ("modern", MODERN | {"model.activation": "gelu", "model.d_ff": PLAIN_D_FF}),
    "LayerNorm instead of RMSNorm": ("modern", MODERN | {"model.norm": "layernorm"}),
    "without QK-norm": ("modern", MODERN | {"model.qk_norm": False}),
    "learned instead of rotary positions": ("modern", MODERN | {"model.position": "learned"}),
    "residual outputs that begin at zero": ("modern", MODERN | {"model.init": "zero_residual"}),
    "free instead of tied embeddings": ("modern", MODERN | {"model.tie_embeddings": False}),
    "momentum 0.95 instead of 0.8": ("modern", MODERN | {"training.optimizer.momentum": 0.95}),
    "GPT-2 with AdamW": (
        "small", {"model.position": "learned", "model.d_ff": PLAIN_D_FF, "training.learning_rate": 1e-3},
    ),
}  # fmt: skip


def measure(preset: str, settings: Mapping[str, Any], text: Path, steps: int, seed: int) -> dict[str, Any]:
    """One run in a temporary folder: its last validation loss and the median seconds of a step."""
    import trifecta

    events: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        trifecta.train(
            text, preset=preset, out=Path(folder) / "run", hooks=[events.append],
            settings={**COMMON, **settings, "training.max_steps": steps, "training.seed": seed},
        )  # fmt: skip
    seconds = [event["seconds"] for event in events if event["event"] == "step"]
    (evaluation,) = [event for event in events if event["event"] == "evaluation" and event["step"] == steps]
    start = next(event for event in events if event["event"] == "start")
    return {
        "loss": evaluation["loss"], "step_seconds": statistics.median(seconds), "parameters": start["parameters"],
    }  # fmt: skip


def table(results: Mapping[str, list[dict[str, Any]]], steps: int, seeds: int) -> str:
    """The results as Markdown."""
    import torch

    first = next(iter(results))
    base = statistics.median(run["loss"] for run in results[first])
    lines = [
        f"Validation loss in nats per character after {steps} steps, median and range of {seeds} seeds; Tiny",
        f"Shakespeare, 4 layers, width 128, 12 x 64 characters a step ({steps * 768 / 1_003_854:.0%} of an epoch), one",
        f"thread, torch {torch.__version__}, {platform.machine()}. The time of a step is that of the quietest run.",
        "",
        "| variant | learning rate | parameters | loss | against the default | ms a step |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        losses = [run["loss"] for run in runs]
        loss, milliseconds = statistics.median(losses), 1000 * min(run["step_seconds"] for run in runs)
        rate = VARIANTS[name][1]["training.learning_rate"]
        lines.append(
            f"| {name} | {rate:g} | {runs[0]['parameters']:,} | {loss:.4f} ({min(losses):.4f}..{max(losses):.4f}) "
            f"| {loss - base:+.4f} | {milliseconds:.0f} |"
        )
    return "\n".join(lines) + "\n"


def write_section(path: Path, name: str, text: str) -> None:
    """Replaces what stands between the section's two marks."""
    begin, end = f"<!-- {name} begins -->\n", f"<!-- {name} ends -->\n"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    path.write_text(before + begin + text + end + after, encoding="utf-8")


def main() -> None:
    """Runs every variant with every seed, then writes what came out."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", nargs="?", type=Path, default=TINY_SHAKESPEARE, help="a text file; Tiny Shakespeare")
    parser.add_argument("--steps", type=int, default=300, help="of each run; default 300")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant; default 3")
    given = parser.parse_args()
    if not given.text.is_file():
        parser.error(f"{given.text} is not there; name a text file")
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    for seed in range(1, given.seeds + 1):
        for name, (preset, settings) in VARIANTS.items():
            results[name].append(measure(preset, settings, given.text, given.steps, seed))
            print(f"seed {seed}  {name:40} {results[name][-1]}", flush=True)
    (HERE / "learning.json").write_text(json.dumps({"steps": given.steps, "results": results}, indent=1) + "\n")
    text = table(results, given.steps, given.seeds)
    write_section(HERE / "README.md", "learning", text)
    print(text)


if __name__ == "__main__":
    main()
