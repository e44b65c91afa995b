"""GPT, BERT and T5 on one text, with as many parameters and steps: what each costs, and what each is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trifecta.errors import RecipeError, did_you_mean
from trifecta.experiments.processes import apart, peak_bytes

if TYPE_CHECKING:
    from trifecta.run.request import Request

ARCHITECTURES = ("gpt", "bert", "t5")

PURPOSES: Mapping[str, str] = {
    "gpt": "writes: goes on with a text, answers a prompt, chats",
    "bert": "understands: classes, tags, answers that stand in a text, search",
    "t5": "rewrites: translation, summaries, one text into another",
}

CHECKLISTS: Mapping[str, str] = {
    "gpt": "causal mask; targets are the next tokens; sample with a temperature; loss and perplexity",
    "bert": "no mask; 15 to 30 % of the tokens masked, loss of those alone; a head for each task; accuracy",
    "t5": "encoder without a mask, decoder with one that reads it; gaps as sentinels; beams; exact match, BLEU, ROUGE",
}

DEMOS: Mapping[str, str] = {
    "gpt": "trifecta generate {run} --prompt 'The cat'",
    "bert": "trifecta finetune {run} reviews.csv --task classify; then trifecta predict its run 'This movie is great'",
    "t5": "trifecta finetune {run} pairs.tsv --task translate; then trifecta predict its run 'Hello'",
}
"""What to ask each of."""

TASKS: Mapping[str, str] = {
    "complete": "gpt", "generate": "gpt", "chat": "gpt", "code": "gpt", "story": "gpt",
    "classify": "bert", "sentiment": "bert", "tag": "bert", "entities": "bert", "answer": "bert", "search": "bert",
    "translate": "t5", "summarize": "t5", "rewrite": "t5", "correct": "t5",
}  # fmt: skip
"""What is to be done -> the architecture for it."""


@dataclass(frozen=True)
class Measured:
    """One training. seconds_per_step: median. peak_bytes: of the whole process, or of the GPU. loss: nats per predicted
    token of held-out text; what is predicted differs, so losses of two architectures don't compare. accuracy: of those
    tokens.
    """

    arch: str
    parameters: int
    steps: int
    seconds_per_step: float
    tokens_per_step: float
    peak_bytes: int
    loss: float
    accuracy: float | None
    run: str


def recommend(task: str) -> str:
    """The architecture for a task.

    Raises:
        RecipeError: the task isn't known.
    """
    if task not in TASKS:
        raise RecipeError(f"no advice for the task {task!r}; {did_you_mean(task, TASKS)}".rstrip("; "), where="--task",
                          fix=f"use one of: {', '.join(TASKS)}")  # fmt: skip
    return TASKS[task]


def compare(
    data: tuple[str, ...],
    *,
    max_steps: int,
    seed: int,
    out: Path,
    overrides: tuple[str, ...] = (),
    report: Callable[[str, float | None], None] | None = None,
) -> list[Measured]:
    """Trains the three, one after another, each in a process of its own.

    BERT and T5 get a feed-forward width with which they have as many parameters as the GPT that fits the text.

    Raises:
        TrifectaError: of the training that failed.
    """
    from trifecta.run.matching import as_flags, matched
    from trifecta.run.request import Request

    fixed = {"training.max_steps": max_steps, "training.seed": seed}
    plans = matched(Request(data=data, overrides=overrides, flags=as_flags(fixed)), ARCHITECTURES)
    found = []
    for number, (arch, request) in enumerate(plans.items()):
        if report:
            report(f"training {arch}", number / len(plans))
        found.append(apart(arch, _measure, arch, request, str(out / arch)))
    return found


def _measure(arch: str, request: Request, out: str) -> Measured:
    """One training and its figures."""
    import statistics

    import torch

    from trifecta.run.trainer import train

    events: list[dict[str, Any]] = []
    train(request, out=Path(out), hooks=[events.append])
    steps = [event for event in events if event["event"] == "step"]
    last = [event for event in events if event["event"] == "evaluation"][-1]
    start = next(event for event in events if event["event"] == "start")
    on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return Measured(
        arch=arch, parameters=start["parameters"], steps=len(steps),
        seconds_per_step=statistics.median(event["seconds"] for event in steps[len(steps) // 5 :]),
        tokens_per_step=statistics.mean(event["tokens"] for event in steps), peak_bytes=on_gpu or peak_bytes(),
        loss=last["loss"], accuracy=last.get("accuracy"), run=out,
    )  # fmt: skip
