"""Fine-tuning: a trained run's model and tokenizer, another objective, labelled data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trifecta.errors import CheckpointError, RecipeError, did_you_mean
from trifecta.recipe.components import Images
from trifecta.recipe.conflicts import NEEDS
from trifecta.recipe.dump import flat
from trifecta.recipe.schema import Recipe
from trifecta.run import build, folder
from trifecta.run.initial import read_base
from trifecta.run.paired import TRANSLATE
from trifecta.run.request import Request
from trifecta.run.resolution import resolve, run_name
from trifecta.training.files import replace_text


@dataclass(frozen=True)
class Task:
    """What --task means: an objective, what else it sets, and the training's defaults.

    learning_rate: at width 768; narrower models get more, by width ** -1.5.
    """

    objective: str
    learning_rate: float
    batch_size: int
    epochs: int
    settings: Mapping[str, Any]


TASKS: dict[str, Task] = {
    "classify": Task("classify", 2e-5, 16, 3, {}),
    "tag": Task("tag", 5e-5, 16, 3, {}),
    "answer": Task("answer", 5e-5, 32, 3, {}),
    "translate": Task("seq2seq", 1e-5, 8, 5, {"objective.prefix": TRANSLATE}),
    "summarize": Task("seq2seq", 1e-5, 8, 5, {"objective.prefix": "summarize: "}),
    "generate": Task("seq2seq", 1e-5, 8, 5, {"objective.prefix": ""}),
    "text": Task("prompted", 3e-5, 8, 3, {"objective.template": "{system}\n{user}\n{assistant}"}),
    "chat": Task("prompted", 3e-5, 8, 3, {}),
    "images": Task("images", 5e-5, 32, 10, {"objective.crop_padding": 2, "objective.flip": 0.5}),
}
"""--task -> what it is. Rates, batch sizes and epochs: Devlin et al. (2018) and the documents that trifecta follows."""

_WIDTH = 768
_PRETRAINING_RATE = 1e-3
"""At this rate and above, times the factor for the width, a warning is due: it looks like one for pretraining."""


def finetune(request: Request, source: str, task: str, out: Path | None) -> tuple[Request, Path, list[str]]:
    """The request that trains a run's model on a task, where it is to live, and warnings.

    The new run's folder gets its tokenizer now: that of the old run, with the special tokens of its objective.

    Args:
        request: data, flags and overrides as the user gave them. source: a run, one of its checkpoints, or a Hugging
            Face folder.

    Raises:
        RecipeError: no such task. CheckpointError: no such run. UnsafeError: its weights are pickled.
    """
    if task not in TASKS:
        raise RecipeError(f"no task {task!r}; {did_you_mean(task, TASKS)}".rstrip("; "), where="--task",
                          fix=f"use one of: {', '.join(TASKS)}")  # fmt: skip
    chosen = TASKS[task]
    if out is not None and not Path(source).exists() and folder.recipe_file(out) is not None:
        raise CheckpointError("no such run", where=source, fix=f"to go on with what is there: trifecta train -o {out}")
    found = read_base(source)
    base = found.recipe
    if base.model.type not in (wanted := NEEDS[chosen.objective]):
        fitting = [name for name, other in TASKS.items() if base.model.type in NEEDS[other.objective]]
        raise RecipeError(f"{task} needs a model of type {' or '.join(wanted)}, and {source} is a {base.model.type}",
                          where="--task", fix=f"for a {base.model.type}: {', '.join(fitting)}")  # fmt: skip
    tokenizer_json = build.objective_of(base, found.tokenizer).vocabulary.extended().to_json()
    settings = _settings(base, chosen, source)
    place = out
    if place is None:
        draft = _laid_under(
            request, {**settings, "tokenizer.type": "file", "tokenizer.path": str(Path(source).absolute())}
        )
        place = Path("runs") / f"{task}-{run_name(resolve(draft))}"
    path = place / folder.TOKENIZER
    if folder.recipe_file(place) is None:
        place.mkdir(parents=True, exist_ok=True)
        folder.refuse_foreign(place)
        replace_text(path, tokenizer_json)
    final = _laid_under(request, {**settings, "tokenizer.type": "file", "tokenizer.path": str(path.absolute())})
    return final, place, _warnings(final, base, chosen)


def _settings(base: Recipe, task: Task, source: str) -> dict[str, Any]:
    model = {f"{key}": value for key, value in flat(base).items() if key.startswith("model.")}
    narrow = max(1.0, (_WIDTH / base.model.d_model) ** 1.5)
    return {
        **model,
        **{f"objective.{name}": getattr(base.objective, name) for name in ("mean", "std")
           if isinstance(base.objective, Images)},
        "objective.type": task.objective,
        "data.sequence_length": base.data.sequence_length,
        "training.init_from": str(Path(source).absolute()),
        "training.learning_rate": float(f"{task.learning_rate * narrow:.2g}"),
        "training.batch_size": task.batch_size,
        "training.epochs": task.epochs,
        "training.scheduler.type": "linear",
        "training.scheduler.min_lr_ratio": 0.0,
        "training.optimizer.type": "adamw",
        "training.optimizer.weight_decay": 0.01,
        **task.settings,
    }  # fmt: skip


def _laid_under(request: Request, settings: Mapping[str, Any]) -> Request:
    """The request with settings where the user says nothing: what he wrote is laid over them."""
    return replace(request, base=dict(settings))


def _warnings(request: Request, base: Recipe, task: Task) -> list[str]:
    rate = request.tree().resolve(None).recipe.training.learning_rate
    usual = _settings(base, task, "")["training.learning_rate"]
    if rate is not None and rate >= 20 * usual and rate >= (base.training.learning_rate or 0.0):
        return [
            f"training.learning_rate {rate:g} looks like one for pretraining: fine-tuning this model usually takes "
            f"about {usual:g}; more makes it forget"
        ]
    return []
