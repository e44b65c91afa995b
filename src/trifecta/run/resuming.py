"""Going on with a run: from which checkpoint, with which recipe, and what mustn't have changed since."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from trifecta.data.prepare import Prepared
from trifecta.errors import CheckpointError, DataError
from trifecta.recipe.schema import Recipe
from trifecta.run import fitting, folder, rates
from trifecta.run.resolution import Resolution
from trifecta.run.tasks import TaskData
from trifecta.tokenizers import Tokenizer, fingerprint
from trifecta.training import checkpoint
from trifecta.training.state import TrainState

Resume = Literal["auto", "must", "never"]
_CHOSEN_ONCE = ("device", "precision", "threads")
"""Keys of execution that the first start settled."""


def wanted(place: Path, resume: Resume, tell: Callable[[str], None]) -> checkpoint.Checkpoint | None:
    """The checkpoint of a run's folder to go on from, if there is one and it is wanted.

    Raises:
        CheckpointError: there is one and `never` was asked for, or none and `must`.
    """
    found = checkpoint.newest(place / folder.CHECKPOINTS, tell)
    if found and resume == "never":
        raise CheckpointError(
            f"a run is here already, at step {found.step}, and --resume never was given", where=str(place),
            fix="choose another folder with -o, or remove this one",
        )  # fmt: skip
    if not found and resume == "must":
        raise CheckpointError(
            "nothing to resume here, and --resume must was given", where=str(place),
            fix="check the folder's name (`trifecta runs` lists them), or leave --resume out to start",
        )  # fmt: skip
    return found


def reconciled(
    resolution: Resolution, saved: checkpoint.Checkpoint | None, place: Path, tokenizer: Tokenizer
) -> tuple[Recipe, list[str]]:
    """The recipe to run, and what changed: what the first start measured is kept unless it is asked for otherwise.

    Raises:
        CheckpointError: a key changed that a resume can't change.
    """
    recipe = resolution.recipe
    if saved is None:
        return recipe, []
    old = folder.read_recipe(saved.folder)
    kept = {
        name: getattr(old.execution, name)
        for name in _CHOSEN_ONCE
        if f"execution.{name}" not in resolution.resolved.written or getattr(recipe.execution, name) == "auto"
    }
    recipe = recipe.model_copy(update={"execution": recipe.execution.model_copy(update=kept)})
    recipe = fitting.kept(rates.kept(recipe, old), old)
    compared = recipe
    trained_with = checkpoint.read_progress(saved).fingerprints.get("tokenizer")
    if recipe.tokenizer.type == "file" and trained_with == fingerprint(tokenizer):
        compared = recipe.model_copy(update={"tokenizer": old.tokenizer})  # the same one, wherever it lies now
    changed = folder.check_resumable(old, compared, place)
    return recipe, [
        f"changed on resume: {change.key}: {_yaml(change.old)} -> {_yaml(change.new)}" for change in changed
    ]


def fingerprints_of(data: Prepared[Tokenizer] | TaskData) -> dict[str, str]:
    """What a run is trained on, by name."""
    found = {"data": data.fingerprint, "tokenizer": fingerprint(data.tokenizer)}
    return found | getattr(data, "fingerprints", {})


def restore(
    state: TrainState, saved: checkpoint.Checkpoint | None, fingerprints: Mapping[str, str], place: Path, text: str
) -> list[str]:
    """Lets a state be what was saved; notes of what is different now.

    Args:
        saved: None at the first start. text: the data, in words.

    Raises:
        DataError: what the run is trained on changed. CheckpointError: the checkpoint doesn't fit.
    """
    versions, notes = _versions(), []
    if saved is not None:
        before = checkpoint.read_progress(saved).fingerprints
        # Synonyms come and go with keys that a resume may change; where they were and are, they must be the same.
        different = [name for name in fingerprints.keys() & before.keys() if before[name] != fingerprints[name]]
        if different:
            raise DataError(
                f"the {' and the '.join(sorted(different))} changed since this run was saved; the text now is {text}",
                where=str(place), fix="restore the old text, or train the new one in another folder with -o",
            )  # fmt: skip
        checkpoint.load_state(saved, state)
        state.progress.saved_step = state.progress.step
        notes = [
            f"saved under {name} {state.progress.versions.get(name)}, going on under {version}: results may differ in "
            "the last bits"
            for name, version in versions.items()
            if state.progress.versions.get(name) != version
        ]
    state.progress.fingerprints = dict(fingerprints)  # an imported model has none
    state.progress.versions = versions
    return notes


def _yaml(value: Any) -> str:
    """A value as a recipe has it: null, true, 3."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _versions() -> dict[str, str]:
    from trifecta import __version__

    return {"trifecta": __version__, "torch": torch.__version__, "python": sys.version.split()[0]}
