"""trifecta: train transformers on your own data.

import trifecta

result = trifecta.train("poems.txt", settings={"training.epochs": 3})
print(trifecta.load(result.folder).generate("The"))
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    from trifecta.data.images import LabelledImage
    from trifecta.inspection.attention_maps import attention_maps
    from trifecta.objectives.loss import LossModule
    from trifecta.objectives.plain import NextToken, collate_next_token
    from trifecta.run.opened import Run
    from trifecta.run.trainer import Result
    from trifecta.training.own import Loop
    from trifecta.types import IGNORE, Batch, LossSum, StepReport

# Read by OpenMP when torch is imported. Threads that spin while they wait make two threads on two busy cores up to ten
# times slower than one; threads that sleep cost little where the cores are free.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

_HOMES = {
    "Loop": "training.own", "NextToken": "objectives.plain", "collate_next_token": "objectives.plain",
    "LossModule": "objectives.loss", "Batch": "types", "LossSum": "types",
    "StepReport": "types", "IGNORE": "types", "attention_maps": "inspection.attention_maps",
}  # fmt: skip
"""Where each name that needs torch lives: it is imported when it is asked for."""

__all__ = [
    "IGNORE",
    "Batch",
    "Loop",
    "LossModule",
    "LossSum",
    "NextToken",
    "StepReport",
    "attention_maps",
    "build",
    "check",
    "collate_next_token",
    "evaluate",
    "finetune",
    "load",
    "predict",
    "steps",
    "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"trifecta.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'trifecta' has no attribute {name!r}")


def train(
    *data: str | Path,
    config: str | Path | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    resume: Literal["auto", "must", "never"] = "auto",
    hooks: Sequence[Callable[[dict[str, Any]], None]] = (),
) -> Result:
    """Trains a model on files; without any, on the text that needs no download.

    Args:
        data: files, folders or globs.
        config: a recipe file, or a preset's name.
        settings: recipe keys by their dotted names, `{"training.learning_rate": 1e-3}`.
        out: the run's folder; the same call again goes on with what is there.
        resume: auto, must or never.
        hooks: called with each event (a dict); they only watch.

    Raises:
        TrifectaError: with the cause, its place and the fix.
    """
    from trifecta.run import train as run_train

    request = _request(data, config, preset, settings)
    result: Result = run_train(request, out=Path(out) if out is not None else None, resume=resume, hooks=hooks)
    return result


def _request(
    data: Sequence[str | Path], config: str | Path | None, preset: str | None, settings: Mapping[str, Any] | None
) -> Any:
    from trifecta.run import Request

    return Request(
        config=str(config) if config is not None else None,
        preset=preset,
        flags={name: ("settings", value) for name, value in (settings or {}).items()},
        data=tuple(map(str, data)),
    )


def steps(
    *data: str | Path,
    config: str | Path | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    resume: Literal["auto", "must", "never"] = "auto",
    hooks: Sequence[Callable[[dict[str, Any]], None]] = (),
) -> Iterator[StepReport]:
    """Trains as `train` does, one update for each StepReport that is asked for; stopped, it saves nothing more."""
    from trifecta.run import Result, iterate

    request, place = _request(data, config, preset, settings), Path(out) if out is not None else None
    for report in iterate(request, out=place, resume=resume, hooks=hooks):
        if not isinstance(report, Result):
            yield report


def finetune(
    run: str | Path,
    *data: str | Path,
    task: str,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    hooks: Sequence[Callable[[dict[str, Any]], None]] = (),
) -> Result:
    """Trains a trained run further on labelled data.

    Args:
        task: classify, tag, answer, translate, summarize or chat.

    Raises:
        TrifectaError: with the cause, its place and the fix.
    """
    from trifecta.run import finetune as run_finetune
    from trifecta.run import train as run_train

    place = Path(out) if out is not None else None
    request, place, _ = run_finetune(_request(data, None, None, settings), source=str(run), task=task, out=place)
    result: Result = run_train(request, out=place, hooks=hooks)
    return result


def check(
    *data: str | Path,
    config: str | Path | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a run would be, without a step: recipe, parameters, memory in bytes, steps, expected time in seconds.

    Raises:
        RecipeErrors: with every conflict. DataError: the data can't be trained on.
    """
    from trifecta.run import check as run_check

    facts: dict[str, Any] = run_check(_request(data, config, preset, settings))
    return facts


def build(
    vocab_size: int,
    *,
    config: str | Path | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> torch.nn.Module:
    """A recipe's model with its first weights, and without a task's head: what `Loop` can train with a loss of yours.

    `model.hidden(tokens_BT).hidden_BTD` are the hidden states (B, T, D), `model(tokens_BT)` the logits (B, T, V).

    Args:
        vocab_size: V, the number of tokens.

    Raises:
        RecipeErrors: the recipe is wrong.
    """
    from trifecta.run.build import bare_model_of, seeded

    recipe = _request((), config, preset, settings).tree().resolve(None).recipe
    with seeded(recipe):
        return bare_model_of(recipe, vocab_size)


def load(path: str | Path) -> Run:
    """Opens a run: a run's folder (its newest checkpoint), or `checkpoints/best` or `checkpoints/final` in it.

    Raises:
        CheckpointError: there is no whole checkpoint.
    """
    from trifecta.run import load as run_load

    run: Run = run_load(path)
    return run


def evaluate(path: str | Path, *data: str | Path, attack: float | None = None) -> dict[str, Any]:
    """Loss and figures of a run on files, or on its own validation part.

    Args:
        attack: also under a change of the embeddings of this length that hurts most.

    Raises:
        CheckpointError: no such run, or its validation text changed. DataError: the files can't be used.
    """
    from trifecta.run import evaluate as run_evaluate

    figures: dict[str, Any] = run_evaluate(str(path), tuple(map(str, data)), attack=attack)
    return figures


def predict(path: str | Path, texts: Sequence[str | Sequence[str] | Path | LabelledImage], **options: Any) -> list[Any]:
    """What a run says of each text: labels, tagged words, answers, translations, or what fills its gaps.

    Args:
        texts: texts; pairs of them (a question and its context); or the files of images.
        options: top_k, context, batch_size; of runs that write max_tokens and beams.

    Raises:
        RecipeError: the run makes no predictions. DataError: a text that can't be judged.
    """
    from trifecta.run import predict_texts

    made: list[Any] = predict_texts(load(path), texts, **options)
    return made
