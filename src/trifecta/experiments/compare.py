"""GPT, BERT and T5 on one text, with as many parameters and steps: what each costs, and what each is for."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trifecta.errors import RecipeError, ResourceError, TrifectaError, did_you_mean

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

TASKS: Mapping[str, str] = {
    "complete": "gpt", "generate": "gpt", "chat": "gpt", "code": "gpt", "story": "gpt",
    "classify": "bert", "sentiment": "bert", "tag": "bert", "entities": "bert", "answer": "bert", "search": "bert",
    "translate": "t5", "summarize": "t5", "rewrite": "t5", "correct": "t5",
}  # fmt: skip
"""What is to be done -> the architecture for it."""


@dataclass(frozen=True)
class Measured:
    """One training. seconds_per_step: median. peak_bytes: of the whole process. loss: nats per predicted token of
    held-out text; what is predicted differs, so losses of two architectures don't compare. accuracy: of those tokens.
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
        found.append(_in_own_process(arch, request, str(out / arch)))
    return found


def _in_own_process(arch: str, request: Request, out: str) -> Measured:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(there, arch, request, out))
    process.start()
    there.close()
    try:
        result = here.recv()
    except EOFError:
        process.join()
        raise ResourceError(f"the training of {arch} ended without a word (exit code {process.exitcode})") from None
    process.join()
    if isinstance(result, TrifectaError):
        raise result
    return Measured(**result)


def _measure(answer: Connection, arch: str, request: Request, out: str) -> None:
    """One training; its figures, or its error, go to the parent."""
    import resource
    import statistics

    from trifecta.run.trainer import train

    events: list[dict[str, Any]] = []
    try:
        train(request, out=Path(out), hooks=[events.append])
    except TrifectaError as error:
        answer.send(error)
        return
    steps = [event for event in events if event["event"] == "step"]
    last = [event for event in events if event["event"] == "evaluation"][-1]
    start = next(event for event in events if event["event"] == "start")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    measured = Measured(
        arch=arch, parameters=start["parameters"], steps=len(steps),
        seconds_per_step=statistics.median(event["seconds"] for event in steps[len(steps) // 5 :]),
        tokens_per_step=statistics.mean(event["tokens"] for event in steps), peak_bytes=peak, loss=last["loss"],
        accuracy=last.get("accuracy"), run=out,
    )  # fmt: skip
    answer.send(asdict(measured))
