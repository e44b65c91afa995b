"""Checkpoints: complete and verified, or not there.

A checkpoint is a folder `checkpoints/step-00000500` with a manifest of every other file, its length and SHA-256.
It is written beside its place, each file synced, the manifest last, then renamed, then the folder is synced.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trifecta.errors import CheckpointError
from trifecta.optim.ema import Ema
from trifecta.training import files
from trifecta.training.state import Progress, TrainState

FORMAT = 1
MANIFEST = "manifest.json"
PARTIAL = ".partial-"
EMA = "ema.safetensors"
NEEDED = frozenset({"model.safetensors", "optimizer.safetensors", "state.json", "recipe.yaml", "tokenizer.json"})
"""What a checkpoint without which isn't one."""


def failpoint(stage: str) -> None:
    """Kills this process at a named stage if TRIFECTA_FAILPOINT names it: how tests prove that a kill loses nothing."""
    if os.environ.get("TRIFECTA_FAILPOINT") == stage:
        os.kill(os.getpid(), 9)


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint's folder and the step it was taken at."""

    folder: Path
    step: int


def model_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers by name, a shared one once."""
    seen: dict[int, str] = {}
    tensors = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen or tensor.numel() == 0:
            seen[tensor.data_ptr()] = name
            tensors[name] = tensor
    return tensors


def save(root: Path, state: TrainState, texts: dict[str, str], *, reason: str) -> Checkpoint:
    """Writes the checkpoint of the current step below `root` (the run's `checkpoints` folder).

    Args:
        texts: further files by name (tokenizer.json, recipe.yaml).
        reason: why it is saved; written into state.json.

    Raises:
        ResourceError: the disk is full or the folder can't be written; what was there before is untouched.
    """
    model, optimizer = model_tensors(state.model), state.optimizers.state_tensors()
    tensors = {"model.safetensors": model, "optimizer.safetensors": optimizer}
    if state.ema is not None:
        tensors[EMA] = state.ema.averages
    needed = sum(map(files.safetensors_bytes, tensors.values())) + sum(map(len, texts.values()))
    step = state.progress.step
    state_text = json.dumps({"format": FORMAT, "reason": reason, "progress": state.progress.to_json()}, indent=1)
    place = root / folder_name(step)
    partial = root / f"{PARTIAL}{place.name}-{os.getpid()}"
    with files.disk_errors(root, needed, "a checkpoint"):
        try:
            root.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            failpoint("begin")
            manifest: dict[str, Any] = {"format": FORMAT, "step": step, "files": {}}
            listed = manifest["files"]
            write: dict[str, Callable[[files.HashingWriter], None]] = {
                **{name: _tensor_writer(found) for name, found in tensors.items()},
                **{name: _text_writer(text) for name, text in {**texts, "state.json": state_text}.items()},
            }
            for name, writer in write.items():
                listed[name] = files.write_file(partial / name, writer)
                failpoint(name)
            files.write_file(partial / MANIFEST, _text_writer(json.dumps(manifest, indent=1)))
            files.sync_folder(partial)
            failpoint("manifest")
            _move_into_place(partial, place)
            failpoint("renamed")
            files.sync_folder(root)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return Checkpoint(place, step)


def _tensor_writer(tensors: dict[str, torch.Tensor]) -> Callable[[files.HashingWriter], None]:
    return lambda writer: files.write_safetensors(writer, tensors)


def _text_writer(text: str) -> Callable[[files.HashingWriter], None]:
    return lambda writer: writer.write(text.encode())


def _move_into_place(partial: Path, place: Path) -> None:
    """Renames; an older checkpoint of the same step (saved again for another reason) gives way only then."""
    if place.exists():
        replaced = place.with_name(f"{PARTIAL}replaced-{place.name}-{os.getpid()}")
        place.rename(replaced)
        failpoint("replaced")
        partial.rename(place)
        shutil.rmtree(replaced)
    else:
        partial.rename(place)


def verify(folder: Path) -> Checkpoint:
    """Holds every file against the manifest.

    Raises:
        CheckpointError: no manifest, a file missing, truncated or changed; the message names it.
    """
    listed, step = _read_manifest(folder)
    for name, entry in listed.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise CheckpointError(f"{name} is missing", where=str(folder))
        if path.stat().st_size != entry["bytes"]:
            raise CheckpointError(f"{name} has {path.stat().st_size} bytes instead of {entry['bytes']}",
                                  where=str(folder))  # fmt: skip
        if files.sha256_of(path) != entry["sha256"]:
            raise CheckpointError(f"{name} is damaged: its SHA-256 differs from the manifest's", where=str(folder))
    return Checkpoint(folder, step)


def _read_manifest(folder: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """The listed files and the step, if the manifest is one of ours and lists everything that a checkpoint needs."""
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError("no manifest.json, so it isn't a complete checkpoint", where=str(folder))
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        listed, step, version = manifest["files"], manifest["step"], manifest["format"]
        known = isinstance(step, int) and all({"bytes", "sha256"} <= entry.keys() for entry in listed.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"manifest.json is damaged ({type(error).__name__})", where=str(folder)) from error
    if version != FORMAT:
        raise CheckpointError(
            f"checkpoint format {version}, this trifecta reads {FORMAT}", where=str(folder), fix="update trifecta"
        )
    missing = NEEDED - listed.keys()
    if not known or missing or folder.name not in (folder_name(step), "best", "final"):
        lacks = f" and lists no {', '.join(sorted(missing))}" if missing else ""
        raise CheckpointError(f"manifest.json isn't this checkpoint's{lacks}", where=str(folder))
    return listed, step


def is_intact(folder: Path, name: str) -> bool:
    """Whether one small file of a checkpoint is what its manifest says, without reading the others."""
    try:
        listed, _ = _read_manifest(folder)
        return bool(files.sha256_of(folder / name) == listed[name]["sha256"])
    except (CheckpointError, OSError):
        return False


def folder_name(step: int) -> str:
    """The name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def step_of(folder: Path) -> int | None:
    """The reverse of `folder_name`; None of another name."""
    digits = folder.name.removeprefix("step-")
    return int(digits) if digits.isdecimal() else None


def candidates(root: Path) -> list[Path]:
    """Folders that look like checkpoints, newest first."""
    return sorted((p for p in root.glob("step-*") if p.is_dir() and not p.is_symlink()), reverse=True)


_LOOKS = 20
"""How often to look for the newest checkpoint while a training process keeps replacing it."""


def newest(root: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; damaged ones are named and passed over. None if there never was one.

    Raises:
        CheckpointError: there are checkpoints, and none is whole.
    """
    for _ in range(_LOOKS):
        damaged, pruned = [], False
        for folder in candidates(root):
            try:
                return verify(folder)
            except (CheckpointError, FileNotFoundError) as error:
                if folder.exists():
                    damaged.append(str(error))
                    warn(f"damaged checkpoint passed over: {error}")
                else:
                    pruned = True
        if not pruned:
            break
    if damaged:
        raise CheckpointError(
            "none of the checkpoints is whole:\n  " + "\n  ".join(damaged), where=str(root),
            fix="restore one from a backup, or start again with --resume never and another -o",
        )  # fmt: skip
    return None


def clean(root: Path) -> list[str]:
    """Removes what a killed save left behind; the names of what was removed.

    A checkpoint that was being replaced is put back if its successor never came.
    """
    removed = []
    for stray in root.glob(f"{PARTIAL}*"):
        original = stray.name.removeprefix(f"{PARTIAL}replaced-").rpartition("-")[0]
        if stray.name.startswith(f"{PARTIAL}replaced-") and not (root / original).exists():
            stray.rename(root / original)
            continue
        if stray.is_symlink() or not stray.is_dir():
            stray.unlink()
        else:
            shutil.rmtree(stray)
        removed.append(stray.name)
    return removed


def read_progress(checkpoint: Checkpoint) -> Progress:
    """The saved progress.

    Raises:
        CheckpointError: state.json doesn't hold what this version writes.
    """
    try:
        state = json.loads((checkpoint.folder / "state.json").read_text(encoding="utf-8"))
        progress = Progress.from_json(state["progress"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"state.json doesn't fit this version: {error}", where=str(checkpoint.folder)) from error
    if progress.step != checkpoint.step:
        raise CheckpointError(
            f"state.json is of step {progress.step}, not {checkpoint.step}", where=str(checkpoint.folder)
        )
    return progress


def load_model(checkpoint: Checkpoint, model: torch.nn.Module) -> None:
    """Copies the saved weights into a model.

    Raises:
        CheckpointError: names or shapes differ, or a weight isn't finite; each is named.
    """
    _take(files.read_safetensors(checkpoint.folder / "model.safetensors"), model, checkpoint.folder)


def averaged(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The weights that were validated: the averages where there are some, else those of the last update."""
    tensors = files.read_safetensors(checkpoint.folder / "model.safetensors")
    if (checkpoint.folder / EMA).exists():
        tensors |= files.read_safetensors(checkpoint.folder / EMA)
    return tensors


def load_averaged(checkpoint: Checkpoint, model: torch.nn.Module) -> None:
    """Copies the weights that were validated into a model; errors as in `load_model`."""
    _take(averaged(checkpoint), model, checkpoint.folder)


def _take(tensors: dict[str, torch.Tensor], model: torch.nn.Module, folder: Path) -> None:
    wanted = model_tensors(model)
    problems = [f"{name} is missing" for name in wanted.keys() - tensors.keys()]
    problems += [f"{name} isn't part of this model" for name in tensors.keys() - wanted.keys()]
    for name in wanted.keys() & tensors.keys():
        if wanted[name].shape != tensors[name].shape:
            problems.append(f"{name} is {list(tensors[name].shape)}, the model's is {list(wanted[name].shape)}")
        elif wanted[name].dtype != tensors[name].dtype:
            problems.append(f"{name} is {tensors[name].dtype}, the model's is {wanted[name].dtype}")
        elif tensors[name].is_floating_point() and not tensors[name].isfinite().all():
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        raise CheckpointError("the weights don't fit the model:\n  " + "\n  ".join(sorted(problems)), where=str(folder))
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(tensors[name])


def load_state(checkpoint: Checkpoint, state: TrainState) -> None:
    """Copies weights, moments and progress into a state."""
    progress = read_progress(checkpoint)
    load_tensors(checkpoint, state)
    state.progress = progress


def load_tensors(checkpoint: Checkpoint, state: TrainState) -> None:
    """Copies weights, moments and averages into a state, whose progress stays."""
    load_model(checkpoint, state.model)
    moments = files.read_safetensors(checkpoint.folder / "optimizer.safetensors")
    problems = state.optimizers.misfits(moments)
    if problems:
        raise CheckpointError(
            "optimizer.safetensors doesn't fit the model:\n  " + "\n  ".join(problems), where=str(checkpoint.folder)
        )
    state.optimizers.load_state_tensors(moments)
    if state.ema is not None:
        _load_ema(checkpoint, state.ema)


def _load_ema(checkpoint: Checkpoint, ema: Ema) -> None:
    path = checkpoint.folder / EMA
    if not path.exists():
        raise CheckpointError(f"{EMA} is missing: this run had no average of its weights", where=str(checkpoint.folder))
    try:
        ema.load(files.read_safetensors(path))
    except KeyError as error:
        raise CheckpointError(f"{EMA} doesn't fit the model: {error}", where=str(checkpoint.folder)) from error


def point(root: Path, name: str, checkpoint: Checkpoint) -> None:
    """Lets `best` or `final` lead to a checkpoint, in one rename.

    A folder of that name gives way: some programs copy what a link leads to instead of the link.
    """
    link = root / name
    if link.is_symlink() and link.readlink().name == checkpoint.folder.name:
        return
    with files.disk_errors(root, 0, f"the link {name!r}"):
        beside = root / f"{PARTIAL}{name}-{os.getpid()}.link"
        beside.unlink(missing_ok=True)
        beside.symlink_to(checkpoint.folder.name)
        if link.is_dir() and not link.is_symlink():
            _remove(link)
        beside.replace(link)
        files.sync_folder(root)


def _is_whole(folder: Path) -> bool:
    try:
        verify(folder)
    except CheckpointError:
        return False
    return True


def prune(root: Path, keep_last_n: int | None, keep: set[Path]) -> None:
    """Removes all but the newest n checkpoints, those that `best` and `final` lead to, and those in `keep`.

    One that stays is verified first, unless this process wrote it: the only good one is never removed.
    """
    if keep_last_n is None:
        return
    found = candidates(root)
    linked = {(root / name).resolve() for name in ("best", "final") if (root / name).exists()}
    doomed = [p for p in found[keep_last_n:] if p.resolve() not in linked and p not in keep]
    if not doomed:
        return
    if not keep and not any(_is_whole(path) for path in found[:keep_last_n]):
        return
    for folder in doomed:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Renames, then empties, so that a kill leaves no half checkpoint under a checkpoint's name."""
    hidden = folder.with_name(f"{PARTIAL}removed-{folder.name}-{os.getpid()}")
    folder.rename(hidden)
    failpoint("removed")
    shutil.rmtree(hidden)
