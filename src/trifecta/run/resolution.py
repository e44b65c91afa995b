"""What a request means here and now: a whole recipe, its text, its device, and where the run is to live."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from trifecta.data.sources import Sources
from trifecta.errors import DataError, RecipeError
from trifecta.execution.attention import require_attention
from trifecta.execution.device import resolve_device
from trifecta.execution.precision import resolve_precision, time_products
from trifecta.optim import custom
from trifecta.recipe.changes import refused_hash
from trifecta.recipe.components import Custom, FileTokenizer
from trifecta.recipe.inert import silenced
from trifecta.recipe.names import check_run_name
from trifecta.recipe.schema import Recipe
from trifecta.recipe.sources import Facts, Resolved, Tree
from trifecta.run import build, folder, tasks
from trifecta.run.request import Request
from trifecta.run.tasks import TaskText


@dataclass(frozen=True)
class Resolution:
    """A request with its recipe, its text and where the run is to live."""

    recipe: Recipe
    resolved: Resolved
    text: Sources | TaskText
    preset: str


def resolve(request: Request, out: Path | None = None, notify: Callable[[str], None] = lambda _: None) -> Resolution:
    """The recipe that a request means, sized to data and device where it is left to `auto`.

    With an `out` that holds a run, its recipe is meant where the request names neither recipe nor data, and its text
    where the request names a recipe without a text.
    """
    here = folder.recipe_file(out) if out is not None else None
    if here is not None and request.config is None and request.preset is None and not request.data:
        request = replace(request, config=str(here))
    tree = _collect(request)
    draft = tree.resolve(None)
    if here is not None and not draft.written & {"data.paths", "data.builtin"}:
        data = folder.read_recipe(here.parent).data
        if data.paths:
            flags = dict(request.flags)
            if data.validation_paths and "data.validation_paths" not in draft.written:
                flags["data.validation_paths"] = ("the run", data.validation_paths)
            tree = _collect(replace(request, data=tuple(data.paths), flags=flags))
            draft = tree.resolve(None)
    check_optimizer(draft)
    tokenizer = draft.recipe.tokenizer
    if out is not None and here is not None and isinstance(tokenizer, FileTokenizer):
        own = out / folder.TOKENIZER
        if not Path(tokenizer.path).exists() and own.is_file():  # the run was moved
            flags = {**request.flags, "tokenizer.path": ("the run", str(own.absolute()))}
            tree = _collect(replace(request, flags=flags))
            draft = tree.resolve(None)
    try:
        return _with_text(tree, draft.recipe, notify)
    except DataError as error:
        if here is not None and not request.data and not all(Path(path).exists() for path in draft.recipe.data.paths):
            moved = f"if the text was moved: trifecta train -o {out} 'data.paths=[FILE]' (- for standard input)"
            error.fix = f"{error.fix}; {moved}" if error.fix else moved
        raise


def _collect(request: Request) -> Tree:
    return request.tree()


def _with_text(tree: Tree, draft: Recipe, notify: Callable[[str], None]) -> Resolution:
    device = resolve_device(draft.execution.device)
    tasks.refuse_unknown_builtin(draft)
    if tasks.is_task(draft):
        return _with_records(tree, draft, device)
    text = build.sources(draft.data, draft.tokenizer.type)
    notify(f"reading {text.name}")
    resolved = tree.resolve(Facts(characters=text.scan().characters, device=device.type))
    if resolved.recipe.tokenizer.type != draft.tokenizer.type:
        text = build.sources(resolved.recipe.data, resolved.recipe.tokenizer.type)
    return Resolution(_concrete(resolved.recipe, text, device, resolved), resolved, text, tree.preset)


def _with_records(tree: Tree, draft: Recipe, device: torch.device) -> Resolution:
    text = tasks.read_task(draft)
    resolved = tree.resolve(Facts(characters=text.scan().characters, device=device.type))
    chosen = {key for key in text.divided.found if f"objective.{key}" in resolved.written and key != "kind"}
    found = {key: value for key, value in text.divided.found.items() if key not in chosen}
    objective = resolved.recipe.objective.model_copy(update=found)
    filled = resolved.recipe.model_copy(update={"objective": objective})
    _require_effect(resolved, filled)
    return Resolution(
        _concrete(filled, text, device, resolved),
        resolved,
        text,
        tree.preset,
    )


_PLACES = {"execution.device": "on this machine"}


def _require_effect(resolved: Resolved, filled: Recipe) -> None:
    """What is found in the data, or on the machine, may silence a key that was written.

    Raises:
        RecipeError: it does.
    """
    before = silenced(resolved.recipe)
    for rule in silenced(filled):
        if rule not in before and rule.key in resolved.written:
            raise RecipeError(
                f"{rule.key} can't take effect {_PLACES.get(rule.by[0], 'on this data')}: {rule.because}", fix=rule.fix
            )


def _written_over(resolved: Resolved, key: str, other: str) -> bool:
    """Whether a key is written in a source of higher precedence than another."""
    origins = resolved.origins
    return key in origins and other in origins and origins[key].rank > origins[other].rank


def _concrete(recipe: Recipe, text: Sources | TaskText, device: torch.device, resolved: Resolved) -> Recipe:
    """With device, precision, threads and data paths as they are here and now, so that a resume measures nothing.

    A CPU's `auto` precision stays: only a run that hasn't decided it yet measures it.
    """
    precision = recipe.execution.precision
    timed = precision == "auto" and device.type == "cpu"  # by a run that doesn't know it yet
    # --batch-size 8 over a file's auto means 8
    fit = recipe.execution.fit_batch and not _written_over(resolved, "training.batch_size", "execution.fit_batch")
    execution = recipe.execution.model_copy(
        update={
            "device": str(device),
            "precision": resolve_precision(precision, device) if not timed else precision,
            "fit_batch": fit,
            "threads": recipe.execution.threads or torch.get_num_threads(),
        }
    )
    require_attention(
        execution.attention, device, dropout=build.attention_dropout_of(recipe), trained_bias=recipe.model.type == "t5"
    )
    _require_effect(resolved, recipe.model_copy(update={"execution": execution}))
    augment = recipe.data.augment
    if augment.synonyms_path is not None:
        augment = augment.model_copy(update={"synonyms_path": _from_anywhere(augment.synonyms_path)})
    data = recipe.data.model_copy(
        update={
            "augment": augment,
            "paths": [_from_anywhere(path) for path in text.lasting_paths],
            "validation_paths": [_from_anywhere(path) for path in recipe.data.validation_paths],
        }
    )
    return recipe.model_copy(update={"execution": execution, "data": data})


def with_precision(recipe: Recipe, device: torch.device) -> tuple[Recipe, list[str]]:
    """The recipe with a CPU's `auto` decided by a short timing, and what is to be said of it.

    Models too small to be timed go by the processor's instructions.
    """
    execution, model = recipe.execution, recipe.model
    if execution.precision != "auto":
        return recipe, []
    rows = recipe.training.batch_size * build.sequence_length_of(recipe)
    timing = time_products(rows, model.d_model, model.d_ff, torch.get_num_threads()) if device.type == "cpu" else None
    precision = resolve_precision("auto", device) if timing is None else timing.faster
    recipe = recipe.model_copy(update={"execution": execution.model_copy(update={"precision": precision})})
    return recipe, [] if timing is None else [str(timing)]


def _from_anywhere(path: str) -> str:
    """The path as any folder sees it; links aren't followed, so that a moved target stays a moved target."""
    return path if path == "-" else os.path.abspath(path)  # noqa: PTH100


def run_name(resolution: Resolution) -> str:
    """<data>-<preset>-<hash of the data and of the keys refused on resume>."""
    parts = refused_hash(resolution.recipe) + resolution.text.scan().fingerprint
    digest = hashlib.sha256(parts.encode()).hexdigest()[:8]
    return check_run_name(f"{resolution.text.name}-{resolution.preset}-{digest}")


def check_optimizer(resolved: Resolved) -> None:
    """Tries an optimizer of the user's own out, before anything is read.

    Raises:
        RecipeError: at the key that is wrong.
    """
    section = resolved.recipe.training.optimizer
    if not isinstance(section, Custom):
        return
    try:
        custom.check(section.class_name, section.arguments)
    except custom.Unfit as error:
        origin = resolved.origins.get(f"training.optimizer.{error.key}") or resolved.origins.get(
            "training.optimizer.class_name"
        )
        where, excerpt = (origin.where, origin.excerpt) if origin else (None, None)
        what = f"training.optimizer: {error.what}"
        raise RecipeError(what, where=where, fix=error.fix, excerpt=excerpt) from error
