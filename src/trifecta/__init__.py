"""trifecta: train transformers on your own data.

import trifecta

result = trifecta.train("poems.txt", settings={"training.epochs": 3})
print(trifecta.load(result.folder).generate("The"))
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from trifecta.run.opened import Run
    from trifecta.run.trainer import Result

# Read by OpenMP when torch is imported. Threads that spin while they wait make two threads on two busy cores up to ten
# times slower than one; threads that sleep cost little where the cores are free.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

__all__ = ["load", "train"]


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
    from trifecta.run import Request
    from trifecta.run import train as run_train

    request = Request(
        config=str(config) if config is not None else None,
        preset=preset,
        flags={name: ("settings", value) for name, value in (settings or {}).items()},
        data=tuple(map(str, data)),
    )
    result: Result = run_train(request, out=Path(out) if out is not None else None, resume=resume, hooks=hooks)
    return result


def load(path: str | Path) -> Run:
    """Opens a run: a run's folder (its newest checkpoint), or `checkpoints/best` or `checkpoints/final` in it.

    Raises:
        CheckpointError: there is no whole checkpoint.
    """
    from trifecta.run import load as run_load

    run: Run = run_load(path)
    return run
