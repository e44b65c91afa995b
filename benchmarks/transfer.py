"""Whether pretraining pays: the same model fine-tuned from its own pretrained weights, and from new ones.

Three tasks that need no download, each validated on plays or days that training never saw; seeds are interleaved with
the two starts. Writes benchmarks/transfer.json and the table in docs/results.md. Takes half an hour on one core.

    python -m benchmarks.transfer [--seeds 3] [--folder FOLDER] [--only TASK ...]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.learning import write_section

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "results.md"

QUIET: dict[str, Any] = {"execution.threads": 1, "training.save_every_minutes": None}
LONGEST_CONTEXT = 330
"""Characters of the passages that are asked about: longer ones are cut into windows and take three times as long."""
STARTS = ("pretrained", "from scratch")


@dataclass(frozen=True)
class Task:
    """A pretrained model, and what it is taught.

    name: --task. base: which pretraining. metrics: those compared, and what they are multiplied by to be a percentage.
    """

    name: str
    what: str
    base: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]


BASES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "BERT": ("demo-bert", {"data.sequence_length": 256, "training.batch_size": 8, "training.max_steps": 1200}),
    "T5": (
        "demo-t5",
        {
            "training.max_steps": 500, "training.evaluate_every_n_steps": 500, "tokenizer.vocab_size": 600,
            "objective.rate": 0.15, "objective.mean_span_length": 3.0, "model.tie_embeddings": True,
        },
    ),
}  # fmt: skip
"""Name -> preset and changes. The BERT reads plays, the T5 days in words of three languages."""

TASKS = {
    "characters": Task(
        "tag", "characters named in stage directions", "BERT",
        {"data.builtin": "characters", "training.epochs": 1}, {"f1": 100},
    ),
    "who-says": Task(
        "answer", "who says a line, in the passage around it", "BERT",
        {
            "training.max_steps": 500, "training.evaluate_every_n_steps": 250, "training.learning_rate": 1e-3,
            "training.batch_size": 16, "data.sequence_length": 144,
        },
        {"exact_match": 1, "f1": 1},
    ),
    "dates": Task(
        "translate", "dates into French and German", "T5",
        {
            "data.builtin": "dates", "training.max_steps": 150, "training.evaluate_every_n_steps": 150,
            "training.learning_rate": 0.005, "training.optimizer": {"type": "muon", "momentum": 0.8},
        },
        {"exact_match": 100},
    ),
}  # fmt: skip


def questions(folder: Path) -> tuple[list[str], dict[str, Any]]:
    """The built-in questions about short passages as files: data, and settings."""
    from trifecta.data.builtin_tasks import builtin_task

    task = builtin_task("who-says")
    paths = []
    for name, part in (("train", task.train), ("validation", task.validation)):
        paths.append(str(folder / f"{name}.jsonl"))
        rows = [
            {
                "id": asked.id, "question": asked.question, "context": asked.context,
                "answers": {"text": [a for a, _ in asked.answers], "answer_start": [at for _, at in asked.answers]},
            }
            for asked in part if len(asked.context) <= LONGEST_CONTEXT
        ]  # fmt: skip
        Path(paths[-1]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return paths[:1], {"data.validation_paths": paths[1:]}


def pretrained(base: str, folder: Path) -> Path:
    """Trains it, or takes what is there."""
    import trifecta
    from trifecta.data.builtin_tasks import task_text

    preset, settings = BASES[base]
    data: list[str] = []
    if base == "T5":
        data = [str(folder / "dates.txt")]
        Path(data[0]).write_text("\n".join(task_text("dates")) + "\n", encoding="utf-8")
    out = folder / base
    trifecta.train(*data, preset=preset, settings={**QUIET, **settings}, out=out)
    return out


def measure(task: Task, folder: Path, start: str, seed: int) -> dict[str, float]:
    """Fine-tunes in a folder of its own; metrics on the validation part, in percent."""
    from trifecta.run import Request, evaluate, train
    from trifecta.run.finetuning import finetune

    data, more = questions(folder) if task.name == "answer" else ([], {})
    settings = {**QUIET, **task.settings, **more, "training.seed": seed}
    if start != STARTS[0]:
        settings["training.init_from"] = None
    request = Request(data=tuple(data), flags={name: ("settings", value) for name, value in settings.items()})
    final, place, _ = finetune(request, str(folder / task.base), task.name, folder / f"{task.name}-{start}-{seed}")
    train(final, out=place)
    found = evaluate(place)
    return {name: float(found[name]) * factor for name, factor in task.metrics.items()}


def compared(pre: Sequence[float], scratch: Sequence[float]) -> tuple[float, float]:
    """The gain, and how many standard errors it is: those of a difference of two means."""
    gain = statistics.mean(pre) - statistics.mean(scratch)
    error = math.sqrt(statistics.variance(pre) / len(pre) + statistics.variance(scratch) / len(scratch))
    return gain, gain / error if error else math.inf


def table(results: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]) -> str:
    """The results as Markdown."""
    lines = [
        "| task | model | figure | pretrained | from scratch | gain | in standard errors |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        task = TASKS[name]
        for metric in task.metrics:
            pre, scratch = ([run[metric] for run in runs[start]] for start in STARTS)
            gain, errors = compared(pre, scratch)
            shown = (" ".join(f"{value:.1f}" for value in values) for values in (pre, scratch))
            cells = [task.what, task.base, metric, *shown, f"{gain:+.1f}", f"{errors:.1f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs every task from both starts with every seed, then writes what came out."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transfer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each start; default 3, at least 2")
    parser.add_argument("--folder", type=Path, help="where the runs live, so that a second call goes on with them")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK", help=", ".join(TASKS))
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error("--seeds must be at least 2: a standard error needs two")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        results: dict[str, dict[str, list[dict[str, float]]]] = {}
        for name in given.only:
            pretrained(TASKS[name].base, folder)
            results[name] = {start: [] for start in STARTS}
            for seed in range(1, given.seeds + 1):
                for start in STARTS:
                    results[name][start].append(measure(TASKS[name], folder, start, seed))
                    print(f"{name}  seed {seed}  {start:12} {results[name][start][-1]}", flush=True)
    path = HERE / "transfer.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    merged = {name: {**old, **results}[name] for name in TASKS if name in {**old, **results}}
    path.write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")
    write_section(DOCS, "transfer", table(merged))
    print(table(merged))


if __name__ == "__main__":
    main()
