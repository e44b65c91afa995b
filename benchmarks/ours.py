"""Our legs: each trains, writes or prepares through trifecta's own doors and says how long or how much it took."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.pairs import Leg
from benchmarks.text import Moment, halves, longer_text, many_characters, peak_megabytes, split_loss

TIME_TO_LOSS: dict[str, Any] = {
    "tokenizer": {"type": "char"}, "data.sequence_length": 64, "training.max_steps": 165,
}  # fmt: skip
"""What the race to a loss lays over the preset `auto`."""

QUIET: dict[str, Any] = {
    "execution.threads": 1, "training.save_every_minutes": None, "training.save_best": False,
    "tracking.sample.every_n_epochs": None,
}  # fmt: skip

GPT2: dict[str, Any] = {
    "model.position": "learned", "model.norm": "layernorm", "model.activation": "gelu", "model.bias": True,
    "model.tie_embeddings": True, "model.init": "depth_scaled", "model.dropout": 0.0, "tokenizer": {"type": "char"},
    "training.optimizer": {"type": "adamw", "weight_decay": 0.0}, "training.learning_rate": 1e-3,
    "training.scheduler": {"type": "linear", "min_lr_ratio": 0.0}, "training.warmup_steps": 0,
    "training.gradient_clip_norm": 1.0, "execution.precision": "fp32",
}  # fmt: skip
"""GPT-2 as Hugging Face's Trainer trains it: fp32, linear decay to 0, no weight decay, gradients clipped at 1. The GELU
is exact; Hugging Face's approximation of it takes longer."""


def sized(layers: int, width: int, heads: int, inner: int) -> dict[str, Any]:
    """The model's size as settings."""
    return {"model.num_layers": layers, "model.d_model": width, "model.num_heads": heads, "model.d_ff": inner}


def gpt2(size: tuple[int, int, int, int], batch_size: int, length: int, steps: int, seed: int) -> dict[str, Any]:
    """Settings of a GPT-2 of a size, trained for some steps."""
    return {
        **QUIET, **GPT2, **sized(*size), "data.sequence_length": length, "training.batch_size": batch_size,
        "training.max_steps": steps, "training.seed": seed,
    }  # fmt: skip


class Watch:
    """A hook that keeps each event and when it came."""

    def __init__(self) -> None:
        self.seen: list[tuple[Moment, dict[str, Any]]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        self.seen.append((Moment(), event))

    def at(self, step: int) -> Moment:
        """When a step was done."""
        return next(when for when, event in self.seen if event["event"] == "step" and event["step"] == step)

    def losses(self) -> list[float]:
        """The training loss of each step."""
        return [event["loss"] for _, event in self.seen if event["event"] == "step"]


def run(text: str | Path, out: str, preset: str, settings: dict[str, Any]) -> Watch:
    """One training; the watch that looked on."""
    import trifecta

    watch = Watch()
    trifecta.train(text, preset=preset, settings=settings, out=out, hooks=[watch])
    return watch


def step(
    text: str, folder: str, seed: int, size: tuple[int, int, int, int], batch_size: int, length: int, steps: int,
    after: int,
) -> Leg:  # fmt: skip
    """Tokens a second of the whole training loop once `after` steps have warmed it up; validation loss at the end."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        watch = run(text, f"{out}/run", "small", gpt2(size, batch_size, length, steps, seed))
        seconds, core = watch.at(after).until(watch.at(steps))
        loss = _loss_of(f"{out}/run", text, length)
    return {"value": (steps - after) * batch_size * length / seconds, "core": core, "loss": loss}


def _loss_of(out: str, text: str, length: int) -> float:
    import trifecta

    trained = trifecta.load(out)
    tokens = torch.from_numpy(trained.tokenizer.encode(halves(text)[1]).astype("int64"))
    return split_loss(trained.model, tokens, length)


def time_to_loss(
    text: str, folder: str, seed: int, target: float, every: int, settings: dict[str, Any] | None = None
) -> Leg:
    """Seconds from the call to the first validation at or below the target, less the validations' own."""
    chosen = {**QUIET, **TIME_TO_LOSS, **(settings or {}), "training.seed": seed}
    with tempfile.TemporaryDirectory(dir=folder) as out:
        run(text, f"{out}/warm", "auto", {**chosen, "training.max_steps": 3, "training.validation_split": 0.01})
        started = Moment()
        timed = {**chosen, "training.evaluate_every_n_steps": every, "data.cache_dir": f"{out}/cache"}
        watch = run(text, f"{out}/run", "auto", timed)
        again = _loss_of(f"{out}/run", text, chosen["data.sequence_length"])
    evaluations = [(when, event) for when, event in watch.seen if event["event"] == "evaluation"]
    in_bf16 = again - evaluations[-1][1]["loss"]
    assert abs(in_bf16) < 2e-3, "trifecta's evaluation and the peer's see different losses"
    spent = 0.0
    for when, event in evaluations:
        spent += event["seconds"]
        seconds, step, loss = when.wall - started.wall - spent, event["step"], event["loss"] + in_bf16
        if loss <= target:
            break
    return {"value": seconds, "loss": loss, "steps": step, "target": target}


def precision(
    text: str, folder: str, seed: int, precision: str, size: tuple[int, int, int, int], batch_size: int, length: int,
    steps: int, after: int, characters: int,
) -> Leg:  # fmt: skip
    """Tokens a second of training in a number format; mean training loss of the last steps."""
    part = Path(folder) / f"first-{characters}.txt"
    part.write_text(Path(text).read_text(encoding="utf-8")[:characters], encoding="utf-8")
    with tempfile.TemporaryDirectory(dir=folder) as out:
        settings = gpt2(size, batch_size, length, steps, seed) | {"execution.precision": precision}
        watch = run(part, f"{out}/run", "small", settings)
    seconds, core = watch.at(after).until(watch.at(steps))
    loss = statistics.mean(watch.losses()[-3:])
    return {"value": (steps - after) * batch_size * length / seconds, "core": core, "loss": loss}


def llama(size: tuple[int, int, int, int], vocab_size: int, length: int) -> Any:
    """A Llama-shaped model with large random weights, so that no two next tokens are nearly as likely."""
    from trifecta.models import Gpt

    layers, width, heads, inner = size
    torch.manual_seed(0)
    return Gpt(
        vocab_size, d_model=width, num_heads=heads, num_layers=layers, d_ff=inner, dropout=0.0, norm="rmsnorm",
        activation="swiglu", bias=False, tie_embeddings=False, max_sequence_length=length, init_std=0.1,
    ).eval()  # fmt: skip


def generate(
    text: str, folder: str, seed: int, size: tuple[int, int, int, int], vocab_size: int, tokens: int,
    use_cache: bool = True,
) -> Leg:  # fmt: skip
    """Tokens a second of greedy writing after a prompt of 8."""
    from trifecta.inference.generate import generate as write

    del text, folder, seed
    model = llama(size, vocab_size, 8 + tokens)

    def once(count: int) -> list[int]:
        return list(write(model, range(1, 9), max_tokens=count, temperature=0.0, use_cache=use_cache))

    once(10)
    started = Moment()
    written = once(tokens)
    seconds, core = started.until(Moment())
    return {"value": tokens / seconds, "core": core, "tokens": written}


def tokenize(text: str, folder: str, seed: int, megabytes: int, tokenizer: dict[str, Any]) -> Leg:
    """Seconds a megabyte from a text file to tokens on disk, split, read twice, as `trifecta train` begins."""
    from trifecta.run import build
    from trifecta.run.request import Request
    from trifecta.run.resolution import resolve

    del seed
    path = longer_text(text, folder, megabytes)
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        flags = {"tokenizer": ("settings", tokenizer), "data.cache_dir": ("settings", cache)}
        started = Moment()
        resolution = resolve(Request(preset="small", flags=flags, data=(str(path),)))
        data = build.data_of(resolution.recipe, resolution.text)
        seconds, core = started.until(Moment())
        tokens = len(data.train) + len(data.validation)
    return {
        "value": seconds / megabytes, "core": core, "seconds": seconds, "tokens": tokens, "megabytes": peak_megabytes()
    }  # fmt: skip


def memory(
    text: str, folder: str, seed: int, size: tuple[int, int, int, int], vocab_size: int, batch_size: int, length: int,
    steps: int,
) -> Leg:  # fmt: skip
    """Peak megabytes of a process that trains; mean training loss."""
    del text
    kinds = vocab_size - 2  # end of text and unknown are tokens too
    path = many_characters(folder, max(2 * kinds, 12 * batch_size * length), kinds)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        watch = run(path, f"{out}/run", "small", gpt2(size, batch_size, length, steps, seed))
    start = watch.seen[0][1]
    assert start["vocab_size"] == vocab_size, f"the vocabulary has {start['vocab_size']} tokens, not {vocab_size}"
    return {"value": peak_megabytes(), "loss": statistics.mean(watch.losses())}


def trained(
    text: str | Path, out: str, seed: int, size: tuple[int, int, int, int], batch_size: int, length: int
) -> str:
    """A run of a few steps, the same in every process."""
    part = Path(out) / "part.txt"
    part.write_text(Path(text).read_text(encoding="utf-8")[:50_000], encoding="utf-8")
    settings = gpt2(size, batch_size, length, 20, seed)
    run(part, f"{out}/run", "small", settings)
    return f"{out}/run"


def evaluate(
    text: str, folder: str, seed: int, size: tuple[int, int, int, int], batch_size: int, length: int,
    times: int = 1,
) -> Leg:  # fmt: skip
    """Tokens a second of evaluating a run on the text's last tenth, `times` over; loss and peak megabytes."""
    from trifecta.run import evaluate as run_evaluation

    _, tail = halves(text)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        place = trained(text, out, seed, size, batch_size, length)
        (Path(out) / "little.txt").write_text(tail[: 20 * length], encoding="utf-8")
        (Path(out) / "tail.txt").write_text(tail * times, encoding="utf-8")
        run_evaluation(place, (f"{out}/little.txt",))
        result = run_evaluation(place, (f"{out}/tail.txt",))
    return {
        "value": result["tokens"] / result["seconds"], "loss": result["loss"], "megabytes": peak_megabytes()
    }  # fmt: skip


def evaluation_memory(**options: Any) -> Leg:
    """Peak megabytes of a process that evaluates."""
    result = evaluate(**options)
    return {**result, "value": result["megabytes"]}


def check(text: str, folder: str, seed: int) -> Leg:
    """Seconds of `trifecta check TEXT` in a process of its own, the text's tokens being in the cache."""
    del seed
    return _timed([sys.executable, "-m", "trifecta.cli.main", "check", text], folder)


_FIRST_STEP = """
import os, sys
from pathlib import Path
import trifecta.cli.main
from trifecta import run

def stop(event):
    if event["event"] == "step":
        os._exit(0)

run.demo(Path(sys.argv[1]) / str(os.getpid()), hooks=[stop])
"""


def first_step(text: str, folder: str, seed: int) -> Leg:
    """Seconds from a process's start to the first step of `trifecta demo`, its text's tokens being in the cache."""
    del text, seed
    with tempfile.TemporaryDirectory(dir=folder) as out:
        return _timed([sys.executable, "-c", _FIRST_STEP, out], folder)


def _timed(command: list[str], folder: str) -> Leg:
    """Seconds of a command that has run once before, for the caches' sake."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=folder, stdin=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return {"value": seconds[-1]}
