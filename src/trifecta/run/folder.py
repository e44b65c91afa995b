"""A run's folder: its name, what it says of itself, and whether a recipe may go on in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trifecta.errors import CheckpointError, RecipeError
from trifecta.recipe.changes import Change, changes
from trifecta.recipe.dump import dump
from trifecta.recipe.schema import Recipe
from trifecta.recipe.sources import collect
from trifecta.tracking.journal import ABANDONED, read
from trifecta.training import checkpoint, lock
from trifecta.training.checkpoint import Checkpoint

RECIPE, JOURNAL, TOKENIZER, CHECKPOINTS = "recipe.yaml", "journal.jsonl", "tokenizer.json", "checkpoints"


def read_recipe(folder: Path) -> Recipe:
    """The resolved recipe of a run or a checkpoint.

    Raises:
        CheckpointError: it holds none. RecipeErrors: it was changed into something wrong.
    """
    path = folder / RECIPE
    if not path.is_file():
        raise CheckpointError("no recipe.yaml, so it isn't a run", where=str(folder), fix=_fix_for(folder))
    return collect(config=str(path), preset=None, overrides=(), flags={}).resolve(None).recipe


def recipe_file(folder: Path) -> Path | None:
    """The recipe that a run goes on with: its newest whole one in a checkpoint, else the first one; None if no run."""
    for saved in checkpoint.candidates(folder / CHECKPOINTS):
        if checkpoint.is_intact(saved, RECIPE):
            return saved / RECIPE
    return folder / RECIPE if (folder / RECIPE).is_file() else None


def refuse_foreign(folder: Path) -> None:
    """A new run doesn't mix its files with somebody's.

    Raises:
        RecipeError: the folder holds something and isn't a run.
    """
    ours = {RECIPE, JOURNAL, TOKENIZER, CHECKPOINTS, ABANDONED, "plots", "samples"}
    others = sorted(p.name for p in folder.iterdir() if p.name not in ours and not p.name.startswith("."))
    if others and recipe_file(folder) is None:
        raise RecipeError(
            f"this folder isn't a run, and holds other files ({', '.join(others[:3])})", where=str(folder),
            fix="choose another folder with -o",
        )  # fmt: skip


def _fix_for(folder: Path) -> str:
    near = sorted(str(p.parent) for p in folder.parent.glob(f"*/{RECIPE}"))[:5] if folder.parent.is_dir() else []
    return "name a run's folder" + (f", for example {', '.join(near)}" if near else "; `trifecta runs` lists them")


def find_checkpoint(path: Path, warn: Callable[[str], None]) -> Checkpoint:
    """The checkpoint that a path means: a checkpoint itself, or a run's newest whole one.

    Raises:
        CheckpointError: there is none; the message says what there is.
    """
    if (path / checkpoint.MANIFEST).is_file():
        return checkpoint.verify(path.resolve())
    if not path.exists():
        raise CheckpointError("no such run", where=str(path), fix=_fix_for(path))
    found = checkpoint.newest(path / CHECKPOINTS, warn) if path.is_dir() else None
    if found is None:
        raise CheckpointError(
            "no checkpoint here" if path.is_dir() else "a file, where a run's folder or a checkpoint's is wanted",
            where=str(path),
            fix=_fix_for(path) if not (path / RECIPE).is_file() else "the run was stopped before its first save",
        )
    return found


def check_resumable(old: Recipe, new: Recipe, folder: Path) -> list[Change]:
    """What changed between a run's recipe and the one it is to go on with.

    Raises:
        CheckpointError: a key changed that a resume can't change; each is named with both values.
    """
    changed = changes(old, new)
    refused = [change for change in changed if change.policy == "refused"]
    if refused:
        lines = "\n".join(f"  {c.key}: {_short(c.old)} -> {_short(c.new)}" for c in refused)
        raise CheckpointError(
            f"this run was started with another recipe:\n{lines}", where=str(folder),
            fix="name only what is to change (`trifecta train -o RUN --learning-rate 1e-4` keeps the rest), or start "
            "another run with another -o",
        )  # fmt: skip
    return [change for change in changed if change.policy == "recorded"]


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def write_once(path: Path, text: str) -> None:
    """Writes a file whole if its content is new."""
    from trifecta.training.files import replace_text

    if not path.is_file() or path.read_bytes() != text.encode():
        replace_text(path, text)


def write_identity(folder: Path, recipe: Recipe, tokenizer_json: str) -> dict[str, str]:
    """Writes recipe.yaml and tokenizer.json; their texts, which every checkpoint repeats."""
    texts = {RECIPE: dump(recipe), TOKENIZER: tokenizer_json}
    for name, text in texts.items():
        write_once(folder / name, text)
    return texts


def list_runs(root: str | Path = "runs") -> list[dict[str, Any]]:
    """One dict for each run below a folder: name, status, step, total_steps, best_loss, updated (seconds).

    A run whose journal or lock can't be read has the status `damaged`; the others are listed all the same.
    """
    place = Path(root)
    if not place.is_dir() and place != Path("runs"):
        raise CheckpointError("no such folder", where=str(root), fix="name the folder that the runs lie in")
    if (place / RECIPE).is_file():
        return [_summary(place)]
    rows = [_summary(path.parent) for path in place.glob(f"*/{RECIPE}")]
    return sorted(rows, key=lambda row: row["updated"], reverse=True)


def _summary(folder: Path) -> dict[str, Any]:
    journal = folder / JOURNAL
    row: dict[str, Any] = {
        "name": folder.name, "path": str(folder), "status": "empty", "step": 0, "total_steps": None,
        "loss": None, "best_loss": None, "updated": 0.0,
    }  # fmt: skip
    try:
        row["updated"] = (journal if journal.exists() else folder / RECIPE).stat().st_mtime
        if journal.exists():
            _read_journal(journal, row)
        held = folder / lock.NAME
        if held.exists() and not held.is_file():
            raise CheckpointError("the lock isn't a file", where=str(held))
        if lock.is_held(folder):
            row["status"] = "running"
    except (CheckpointError, OSError):
        row["status"] = "damaged"
    return row


def _read_journal(path: Path, row: dict[str, Any]) -> None:
    row["status"] = "stopped"
    needed = {"start": ("total_steps",), "step": ("step", "loss"), "evaluation": ("loss",)}
    for event in read(path, needed):
        kind = event["event"]
        if kind == "start":
            row["total_steps"], row["status"] = event["total_steps"], "stopped"
        elif kind == "step":
            row["step"], row["loss"] = event["step"], event["loss"]
        elif kind == "evaluation" and event.get("best"):
            row["best_loss"] = event["loss"]
        elif kind == "end":
            row["status"] = str(event.get("status", "damaged"))
