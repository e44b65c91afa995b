"""The demonstrations: train on the embedded text, show what the model can do, draw the curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trifecta.data.store import Corpora, TokenStore
from trifecta.errors import RecipeError
from trifecta.run import build
from trifecta.run.build import Report
from trifecta.run.feed import Feed
from trifecta.run.opened import Run, evaluate, load
from trifecta.run.request import Request
from trifecta.run.samples import sample_of
from trifecta.run.trainer import Result, train
from trifecta.tracking.plots import plot_run
from trifecta.training.hooks import Hook

PRESETS = {"gpt": "demo", "bert": "demo-bert", "t5": "demo-t5"}
"""Architecture -> the preset of its demonstration."""

PROMPTS = ("ROMEO:", "KING HENRY:", "First Witch:")
_SHOWN = 3


@dataclass(frozen=True)
class Demonstration:
    """What a demonstration leaves.

    result: how training ended. samples: what the model wrote. figures: in words. next_step: a command to go on with.
    """

    result: Result
    samples: list[str]
    figures: list[str]
    picture: Path
    next_step: str


def demo(
    out: Path | None = None, *, arch: str = "gpt", hooks: Sequence[Hook] = (), report: Report | None = None
) -> Demonstration:
    """Trains an architecture's demo preset, or goes on with it; then shows what it can do and draws the loss curve.

    Raises:
        RecipeError: no such architecture.
    """
    if arch not in PRESETS:
        raise RecipeError(f"no demonstration of {arch!r}", where="--arch", fix=f"use one of: {', '.join(PRESETS)}")
    place = out if out is not None else Path("runs") / PRESETS[arch]
    result = train(Request(preset=PRESETS[arch]), out=place, hooks=hooks, report=report)
    run = load(result.folder)
    samples, figures = _SHOWS[arch](run)
    picture = result.folder / "plots" / "training.png"
    picture.parent.mkdir(exist_ok=True)
    plot_run(result.folder, picture)
    (result.folder / "samples").mkdir(exist_ok=True)
    (result.folder / "samples" / "samples.txt").write_text("\n\n---\n\n".join(samples) + "\n", encoding="utf-8")
    return Demonstration(result, samples, figures, picture, _NEXT[arch].format(run=result.folder))


def _written(run: Run) -> tuple[list[str], list[str]]:
    return [run.generate(prompt, max_tokens=120, temperature=0.8, top_k=50, seed=1) for prompt in PROMPTS], []


def _filled(run: Run) -> tuple[list[str], list[str]]:
    """Gaps in held-out text as the model fills them, and how many it fills rightly beside the most frequent token."""
    data = build.data_of(run.recipe, build.sources(run.recipe.data, run.recipe.tokenizer.type))
    feed = Feed.of(run.recipe, run.objective, data.validation, training=False)
    spread = [number * len(feed.samples) // _SHOWN for number in range(_SHOWN)]
    makers = [sample_of(run.recipe, run.model, feed, number) for number in spread]
    samples = [maker()[1] for maker in makers if maker is not None]
    accuracy = evaluate(run.folder)["accuracy"]
    counts = np.bincount(_tokens(data.train), minlength=data.tokenizer.vocab_size)
    usual = int(counts.argmax())
    baseline = float((_tokens(data.validation) == usual).mean())
    shown = data.tokenizer.token_text(usual)
    return samples, [
        f"Tokens in gaps of held-out plays that it guesses: {accuracy:.1%} "
        f"(always the most frequent one, {shown!r}: {baseline:.1%})"
    ]


_NEXT = {
    "gpt": "trifecta generate {run} --interactive",
    "bert": "trifecta predict {run} 'To be or not to [MASK], that is the question.'",
    "t5": "trifecta predict {run} 'To be or not to <extra_id_0> the question.'",
}
_SHOWS: dict[str, Callable[[Run], tuple[list[str], list[str]]]] = {"gpt": _written, "bert": _filled, "t5": _filled}


def _tokens(store: TokenStore | Corpora) -> npt.NDArray[Any]:
    return np.concatenate([each.tokens for each in store.stores])
