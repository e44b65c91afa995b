"""Runs out of Hugging Face's folders, and such folders out of runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from trifecta.errors import CheckpointError, RecipeError
from trifecta.interop import folders, heads, hf, vocabularies
from trifecta.models.heads import Headed, Paired
from trifecta.models.layers import bare
from trifecta.objectives.prompted import Prompted
from trifecta.randomness import key
from trifecta.recipe.components import Images
from trifecta.recipe.inert import normalised
from trifecta.recipe.names import check_run_name
from trifecta.recipe.schema import Recipe
from trifecta.run import build, folder
from trifecta.run.opened import Run, load
from trifecta.tokenizers import Tokenizer, from_json
from trifecta.tokenizers.nothing import NoTokenizer
from trifecta.training import checkpoint, files
from trifecta.training.state import Progress, TrainState

LONGEST = 1024
"""Tokens of an imported run's sequences, where the model can take more."""
_T5_LENGTH, _TOKENS_PER_GAP = 512, 15


@dataclass(frozen=True)
class Conversion:
    """What was made. folder: where. model_type: Hugging Face's. notes: what the user should know of it. new_head: its
    head for tokens isn't theirs, but drawn anew."""

    folder: Path
    model_type: str
    parameters: int
    vocab_size: int
    notes: tuple[str, ...]
    new_head: bool = False


def import_folder(source: Path, out: Path | None = None, *, allow_pickle: bool = False) -> Conversion:
    """Makes a run of a folder with config.json, weights and tokenizer: recipe, tokenizer and a checkpoint of step 0.

    Args:
        out: the run's folder; by default runs/<name of the folder>.
        allow_pickle: read pickled weights where there are no others; nothing but tensors is read of them.

    Raises:
        CheckpointError: a file is missing or damaged, or our models can't express theirs.
        UnsafeError: code of its own would be needed, or the weights are pickled. RecipeError: `out` isn't empty.
    """
    place = out or Path("runs") / check_run_name(source.resolve().name)
    refuse_full(place)
    try:
        found = folders.read_folder(source, files.read_safetensors, allow_pickle=allow_pickle)
        _require_sane(found.config)
        imported = hf.from_hf(found.config, found.tensors)
        tokenizer, recipe = recipe_of_folder(imported, found, place)
        model, drawn = _model_of(recipe, imported)
    except CheckpointError as error:
        if not error.where or (os.sep not in error.where and not error.where.startswith(str(source))):
            error.where = str(source / (error.where or ""))
        raise
    notes = [*found.notes]
    if imported.left_out:
        notes.append(f"a head for a task isn't taken over: {', '.join(imported.left_out)}")
    if drawn:
        notes.append(f"not in the file, and drawn anew: {', '.join(drawn)}")
    with new_folder(place) as beside:
        texts = folder.write_identity(beside, recipe, tokenizer.to_json())
        state = TrainState(model, build.optimizers_of(recipe, model), Progress())
        checkpoint.save(beside / folder.CHECKPOINTS, state, texts, reason="import")
    return Conversion(place, found.config["model_type"], _count(model), imported.vocab_size, tuple(notes),
                      new_head=any(name.startswith("head_") for name in drawn))  # fmt: skip


def _require_sane(config: Mapping[str, Any]) -> None:
    """Sizes that no model has would take hours to be found out as wrong.

    Raises:
        CheckpointError: one is such a size.
    """
    limits = {"num_hidden_layers": 1000, "n_layer": 1000, "num_layers": 1000, "n_layers": 1000,
              "vocab_size": 10_000_000}  # fmt: skip
    for name, limit in limits.items():
        value = config.get(name)
        if isinstance(value, int) and value > limit:
            raise CheckpointError(f"{name} is {value:,}, more than any model has", where=folders.CONFIG,
                                  fix="check that config.json belongs to these weights")  # fmt: skip


def recipe_of_folder(imported: hf.Imported, found: folders.Folder, place: Path) -> tuple[Tokenizer, Recipe]:
    """What `recipe_of` gives; a model of images has no tokenizer, and how it sees stands in another file.

    Raises:
        CheckpointError: as there, or images are prepared otherwise than ours.
    """
    if imported.kind != "vit":
        return recipe_of(imported, from_json(found.tokenizer), place)
    mean, std = folders.read_image_settings(found.images, imported.fields["channels"])
    tree = {
        "model": {"type": "vit", **imported.fields},
        "tokenizer": {"type": "none"},
        "objective": {"type": "images", "labels": list(imported.labels), "mean": mean, "std": std},
    }
    return NoTokenizer(), _validated(tree)


def recipe_of(imported: hf.Imported, tokenizer: Tokenizer, place: Path) -> tuple[Tokenizer, Recipe]:
    """The tokenizer with as many tokens as the model, and the recipe of a run in the folder `place`.

    Raises:
        CheckpointError: no recipe can say this, or the tokenizer has more tokens than the model.
    """
    room = imported.vocab_size - tokenizer.vocab_size
    objective, length = _objective_of(imported, tokenizer, room)
    path = os.path.abspath(place / folder.TOKENIZER)  # noqa: PTH100  (links stay)
    tree = {
        "model": {"type": imported.kind, **imported.fields},
        "tokenizer": {"type": "file", "path": path},
        "data": {"sequence_length": length},
        "objective": objective,
    }
    recipe = _validated(tree)
    vocabulary = build.objective_of(recipe, tokenizer).vocabulary
    if vocabulary.size > imported.vocab_size:
        raise CheckpointError(
            f"with the special tokens of the objective {objective['type']} the tokenizer has {vocabulary.size} tokens, "
            f"the model only {imported.vocab_size}",
            where=folders.TOKENIZER, fix="use the tokenizer that belongs to this model",
        )  # fmt: skip
    if room > 0:
        new = {name: token_id for name, token_id in vocabulary.ids.items() if token_id >= tokenizer.vocab_size}
        tokenizer = from_json(vocabularies.with_tokens(tokenizer.to_json(), new, imported.vocab_size))
    return tokenizer, recipe


def _validated(tree: Mapping[str, Any]) -> Recipe:
    try:
        return normalised(Recipe.model_validate(tree))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}, found {first['input']!r}"
        raise CheckpointError(f"no recipe can say this: {what}", where=folders.CONFIG) from error


def _objective_of(imported: hf.Imported, tokenizer: Tokenizer, room: int) -> tuple[dict[str, Any], int]:
    """What the model was trained for, and how long its sequences are to be."""
    if imported.kind != "t5":
        type_ = "causal" if imported.kind == "gpt" else "masked"
        return {"type": type_}, min(imported.fields.get("max_sequence_length") or LONGEST, LONGEST)
    own = 0
    while tokenizer.special_id(f"<extra_id_{own}>") is not None:
        own += 1
    sentinels = own or min(100, room)
    if sentinels < 1:
        raise CheckpointError("the tokenizer has no sentinels (<extra_id_0>), and the model no room for them")
    return {"type": "span", "sentinels": sentinels}, min(_T5_LENGTH, _TOKENS_PER_GAP * sentinels)


def _model_of(recipe: Recipe, imported: hf.Imported) -> tuple[torch.nn.Module, list[str]]:
    """The model with their weights, and the parameters that they lack: a head's or a pooler's.

    Raises:
        CheckpointError: names or shapes differ, or a weight isn't finite; each is named.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(recipe.training.seed, "init"))
        model = build.bare_model_of(recipe, imported.vocab_size)
        if imported.kind == "vit":
            model = build.headed(model, build.objective_of(recipe, NoTokenizer()))
    wanted, given = {bare(name): tensor for name, tensor in checkpoint.model_tensors(model).items()}, imported.state
    lacking = sorted(wanted.keys() - given.keys())
    drawn = [name for name in lacking if name.startswith(("head_", "pooler", *(["head."] if imported.labels else [])))]
    problems = [f"{name} is missing" for name in lacking if name not in drawn]
    problems += [f"{name} isn't part of this model" for name in sorted(given.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & given.keys()):
        if wanted[name].shape != given[name].shape:
            problems.append(f"{name} is {list(given[name].shape)}, the model's is {list(wanted[name].shape)}")
        elif not given[name].isfinite().all():
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        raise CheckpointError("the weights don't fit config.json:\n  " + "\n  ".join(problems))
    with torch.no_grad():
        for name in wanted.keys() & given.keys():
            wanted[name].copy_(given[name])
    return model, drawn


def export_run(run: str | Path, out: Path) -> Conversion:
    """Writes a run's newest checkpoint as a folder that `transformers` loads.

    Raises:
        CheckpointError: no such run, or a tokenizer without an equal. RecipeError: none of their models can express it,
            or `out` isn't empty.
    """
    refuse_full(out)
    trained = load(run)
    if trained.recipe.model.type == "vit":
        return _export_images(trained, out)
    config, generation = _configs_of(trained)
    tokenizer, settings = _tokenizer_of(trained, config)
    state, notes = _state_of(trained, config)
    contents = {"config.json": config, "tokenizer_config.json": settings}
    if generation:
        contents["generation_config.json"] = generation
    texts = {name: folders.as_json(content) for name, content in contents.items()} | {folders.TOKENIZER: tokenizer}
    with new_folder(out) as beside:
        for name, text in texts.items():
            files.replace_text(beside / name, text)
        write_weights(beside / folders.WEIGHTS, state)
    return Conversion(out, config["model_type"], _count(trained.model), config["vocab_size"], notes)


def _export_images(trained: Run, out: Path) -> Conversion:
    """A ViT with its classifier, and how its images are prepared; it has no tokenizer."""
    fields, objective = build.fields(trained.recipe.model), trained.recipe.objective
    assert isinstance(objective, Images)
    config = hf.to_hf_config(fields, 0, kind="vit")
    config["id2label"] = {str(number): label for number, label in enumerate(objective.labels)}
    config["label2id"] = {label: number for number, label in enumerate(objective.labels)}
    channels = fields["channels"]
    mean, std = (list(n) * (channels if len(n) == 1 else 1) for n in (objective.mean, objective.std))
    state = hf.to_hf_state(
        {bare(name): tensor for name, tensor in trained.model.state_dict().items()}, "vit", channels=channels
    )
    with new_folder(out) as beside:
        files.replace_text(beside / folders.CONFIG, folders.as_json(config))
        settings = folders.image_settings(fields["image_size"], mean, std)
        files.replace_text(beside / folders.IMAGES, folders.as_json(settings))
        write_weights(beside / folders.WEIGHTS, state)
    return Conversion(out, "vit", _count(trained.model), 0, ())


def _configs_of(trained: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """config.json, and generation_config.json where the model writes."""
    recipe, kind = trained.recipe, trained.recipe.model.type
    fields = build.fields(recipe.model)
    if "max_sequence_length" in fields and fields["max_sequence_length"] is None:
        fields["max_sequence_length"] = recipe.data.sequence_length
    if isinstance(trained.model, Headed):
        fields = heads.without_token_head(fields)
    objective, eos_id, unk_id = trained.objective, trained.tokenizer.eos_id, trained.tokenizer.unk_id
    special: dict[str, int | None] = {}
    if kind == "bert":
        ids = objective.vocabulary.ids
        special = {"pad_token_id": ids.get("[PAD]", eos_id), "cls_token_id": ids.get("[CLS]"),
                   "sep_token_id": ids.get("[SEP]")}  # fmt: skip
    if kind == "t5":
        special = {"pad_token_id": objective.pad_id, "decoder_start_token_id": objective.start_id, "bos_token_id": None}
    config = hf.to_hf_config(fields, objective.vocabulary.size, kind=kind, eos_id=eos_id, special=special)
    if kind == "bert":
        return config, {}
    generation: dict[str, Any] = {"pad_token_id": eos_id, "eos_token_id": eos_id, "bos_token_id": eos_id, **special}
    if kind == "gpt" and unk_id is not None:
        generation["suppress_tokens"] = [unk_id]
    return config, {name: value for name, value in generation.items() if value is not None}


def _tokenizer_of(trained: Run, config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """tokenizer.json with every id of the model, and tokenizer_config.json."""
    tokenizer, vocabulary = trained.tokenizer, trained.objective.vocabulary
    new = {name: token_id for name, token_id in vocabulary.ids.items() if token_id >= tokenizer.vocab_size}
    text = vocabularies.with_tokens(vocabularies.library_json(tokenizer), new, vocabulary.size)
    names = vocabularies.names_of(text)
    ids = {
        "eos_token": tokenizer.eos_id,
        "bos_token": config["bos_token_id"],
        "unk_token": tokenizer.unk_id,
        "pad_token": config.get("pad_token_id", tokenizer.eos_id),
        **{f"{name}_token": vocabulary.ids.get(f"[{name.upper()}]") for name in ("cls", "sep", "mask")},
    }
    special = {name: None if token_id is None else names[token_id] for name, token_id in ids.items()}
    if special["cls_token"] and special["sep_token"] and not vocabularies.has_frame(text):
        first, last = ((str(special[f"{name}_token"]), int(ids[f"{name}_token"])) for name in ("cls", "sep"))
        text = vocabularies.with_frame(text, first, last)
    pairs = getattr(trained.recipe.model, "segment_types", 0) > 1
    length = trained.recipe.data.sequence_length  # a run with a head cuts there
    if not isinstance(trained.model, Headed):
        length = getattr(trained.recipe.model, "max_sequence_length", None) or length
    settings = folders.tokenizer_settings(special, length, pairs=pairs)
    if isinstance(trained.objective, Prompted):
        settings["chat_template"] = trained.objective.template.jinja(special["eos_token"] or "")
    return text, settings


def _state_of(trained: Run, config: dict[str, Any]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Their weights, and what the user should know; config.json is told of heads.

    Of a pair's two scores theirs has `together` first; ModernBERT has no such head.
    """
    model, objective = trained.model, trained.recipe.objective
    if not isinstance(model, Headed | Paired):
        return hf.to_hf_state(model.state_dict(), config["model_type"]), ()
    state = hf.to_hf_state(model.body.state_dict(), config["model_type"])
    if isinstance(model, Headed):
        head = heads.Head.of(objective.type, objective, model.head.weight, model.head.bias)
        state, notes = heads.with_head(state, head, config)
        config |= heads.settings(head, config["model_type"])
        return state, notes
    if config["model_type"] == "bert":
        config["architectures"] = ["BertForPreTraining"]
        state |= {f"cls.seq_relationship.{n}": p.detach().flip(0) for n, p in model.pair_head.named_parameters()}
    return state, ()


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    save_file(copies, path, metadata={"format": "pt"})


def _count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def refuse_full(place: Path) -> None:
    """Nothing of the user's is overwritten.

    Raises:
        RecipeError: there is something there.
    """
    if os.path.lexists(place) and not (place.is_dir() and not any(place.iterdir())):
        raise RecipeError("this is there already", where=str(place), fix="name a folder that is new or empty")


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """A folder beside its place, which takes it when the block is done; after an error nothing stays."""
    beside = place.with_name(f".{place.name}.partial-{os.getpid()}")
    with files.disk_errors(place.parent, 0, "the folder"):
        beside.mkdir(parents=True)
        try:
            yield beside
            if place.is_dir():
                place.rmdir()
            beside.replace(place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
