"""Keys that contradict each other, and written keys that can't act in this run. Found without torch.

A key that was written and can't act is an error, unless what silences it was written in a source of higher precedence:
`--max-steps 20` over a file that says `epochs: 10` is an override, both in one file are a contradiction. What a preset
says is never an error: it gives way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise

from trifecta.errors import RecipeError
from trifecta.recipe import components
from trifecta.recipe.dump import leaves, write_value
from trifecta.recipe.inert import OWN_RISE, Inert, has_key, silenced, value_of, wants_synonyms
from trifecta.recipe.schema import Recipe
from trifecta.recipe.tree import DEFAULT, Origin, Rank

Origins = Mapping[str, Origin]


@dataclass(frozen=True)
class Conflict:
    """Keys that contradict each other."""

    keys: tuple[str, ...]
    what: str
    fix: str


def check(recipe: Recipe, origins: Origins, faulty: AbstractSet[str]) -> list[tuple[Origin, RecipeError]]:
    """Every conflict with its main place; those that touch a faulty key are left out.

    Args:
        origins: of the keys that are written anywhere, by dotted key.
        faulty: keys that already have an error, whose values here are not the user's.
    """
    found = []
    for rule in silenced(recipe):
        if faulty.isdisjoint((rule.key, *rule.by)):
            fault = _inert(rule, recipe, origins)
            found += [fault] if fault else []
    for conflict in _contradictions(recipe):
        if faulty.isdisjoint(conflict.keys):
            found.append(_contradiction(conflict, recipe, origins))
    return found


def _inert(rule: Inert, recipe: Recipe, origins: Origins) -> tuple[Origin, RecipeError] | None:
    origin = origins.get(rule.key)
    if origin is None or origin.rank <= Rank.PRESET or value_of(recipe, rule.key) is None:
        return None
    if any(origins.get(key, DEFAULT).rank > origin.rank for key in rule.by):
        return None
    by = [key for key in rule.by if has_key(recipe, key)]
    causes = ", ".join(_stated(key, recipe, origins) for key in by if key in origins or len(by) == 1)
    what = f"{rule.key} can't take effect: {rule.because} ({causes})"
    return origin, RecipeError(what, where=origin.where, excerpt=origin.excerpt, fix=rule.fix)


def _contradiction(conflict: Conflict, recipe: Recipe, origins: Origins) -> tuple[Origin, RecipeError]:
    """The error stands at the place of highest precedence and names the others."""
    at = max(conflict.keys, key=lambda key: origins.get(key, DEFAULT).rank)
    origin = origins.get(at, DEFAULT)
    others = ", ".join(_stated(key, recipe, origins) for key in conflict.keys if key != at)
    what = f"{conflict.what} ({others})" if others else conflict.what
    return origin, RecipeError(what, where=origin.where, excerpt=origin.excerpt, fix=conflict.fix)


def _stated(key: str, recipe: Recipe, origins: Origins) -> str:
    value = dict(leaves(recipe))[key]
    return f"{key}: {write_value(value)} {origins.get(key, DEFAULT).short}"


def _contradictions(recipe: Recipe) -> Iterator[Conflict]:
    yield from _model(recipe)
    yield from _objective(recipe)
    yield from _length(recipe)
    yield from _schedule(recipe)
    yield from _trained(recipe)
    yield from _phases(recipe)
    yield from _order(recipe)
    yield from _synonyms(recipe)
    both = sorted(set(recipe.data.paths) & set(recipe.data.validation_paths) - {"-"})
    if both:
        yield Conflict(("data.validation_paths", "data.paths"),
                       f"data.validation_paths and data.paths both hold {both[0]!r}; the model would be tested on "
                       "what it has learned by heart", "validate on other files")  # fmt: skip
    if (recipe.data.paths + recipe.data.validation_paths).count("-") > 1:
        yield Conflict(("data.paths", "data.validation_paths"), "standard input (-) can be read only once",
                       "keep one -")  # fmt: skip


def _model(recipe: Recipe) -> Iterator[Conflict]:
    model = recipe.model
    if isinstance(model, components.Vit):
        yield from _vit(model)
        return
    if isinstance(model, components.T5):
        if model.head_width is None and model.d_model % model.num_heads:
            near = _nearest_multiple(model.d_model, model.num_heads)
            yield Conflict(("model.d_model", "model.num_heads"),
                           f"model.d_model {model.d_model} is not a multiple of model.num_heads {model.num_heads}",
                           f"set model.d_model to {near}, or model.head_width")  # fmt: skip
        return
    if model.d_model % model.num_heads:
        near = _nearest_multiple(model.d_model, model.num_heads * (2 if model.position == "rope" else 1))
        yield Conflict(("model.d_model", "model.num_heads"),
                       f"model.d_model {model.d_model} is not a multiple of model.num_heads {model.num_heads}",
                       f"set model.d_model to {near}, or choose another number of heads")  # fmt: skip
    elif model.position == "rope" and model.d_model // model.num_heads % 2:
        yield Conflict(("model.d_model", "model.num_heads", "model.position"),
                       f"rotary positions need heads of even width; model.d_model / model.num_heads is "
                       f"{model.d_model // model.num_heads}", "change one of them, or model.position")  # fmt: skip
    if model.num_kv_heads is not None and model.num_heads % model.num_kv_heads:
        yield Conflict(("model.num_heads", "model.num_kv_heads"),
                       f"model.num_heads {model.num_heads} is not a multiple of model.num_kv_heads "
                       f"{model.num_kv_heads}", "choose a divisor of model.num_heads")  # fmt: skip


def _vit(model: components.Vit) -> Iterator[Conflict]:
    if model.d_model % model.num_heads:
        near = _nearest_multiple(model.d_model, model.num_heads)
        yield Conflict(("model.d_model", "model.num_heads"),
                       f"model.d_model {model.d_model} is not a multiple of model.num_heads {model.num_heads}",
                       f"set model.d_model to {near}, or choose another number of heads")  # fmt: skip
    if model.image_size % model.patch_size:
        near = _nearest_multiple(model.image_size, model.patch_size)
        yield Conflict(("model.image_size", "model.patch_size"),
                       f"model.image_size {model.image_size} is not a multiple of model.patch_size {model.patch_size}",
                       f"set model.image_size to {near}, or choose another model.patch_size")  # fmt: skip
    if model.channels == 2:
        yield Conflict(("model.channels",), "images have 1 or 3 channels, not 2", "set model.channels to 1 or 3")


NEEDS = {
    "causal": ("gpt",),
    "masked": ("bert",),
    "span": ("t5",),
    "classify": ("bert",),
    "tag": ("bert",),
    "answer": ("bert",),
    "seq2seq": ("t5",),
    "prompted": ("gpt",),
    "images": ("vit",),
}
"""Objective -> the kinds of model that can learn it."""


def _objective(recipe: Recipe) -> Iterator[Conflict]:
    objective, model = recipe.objective, recipe.model
    if model.type not in (wanted := NEEDS[objective.type]):
        fitting = next(name for name, kinds in NEEDS.items() if model.type in kinds)
        yield Conflict(("objective.type", "model.type"),
                       f"objective.type {objective.type} can't train a model of type {model.type}",
                       f"set objective.type to {fitting}, or model.type to {wanted[0]}")  # fmt: skip
    labels = getattr(objective, "labels", [])
    if twice := [label for number, label in enumerate(labels) if label in labels[:number]]:
        yield Conflict(("objective.labels",), f"objective.labels has {twice[0]!r} twice", "write each label once")
    if isinstance(objective, components.Masked) and objective.masked_ratio + objective.random_ratio > 1:
        yield Conflict(("objective.masked_ratio", "objective.random_ratio"),
                       f"objective.masked_ratio {objective.masked_ratio:g} and objective.random_ratio "
                       f"{objective.random_ratio:g} are more than 1 together", "lower one of them")  # fmt: skip
    if isinstance(objective, components.Images):
        yield from _images(recipe, objective)
    elif recipe.tokenizer.type == "none":
        yield Conflict(("tokenizer.type", "objective.type"),
                       f"objective.type {objective.type} learns from tokens, and tokenizer.type is none",
                       "choose another tokenizer")  # fmt: skip
    least = {"causal": 1, "span": 4, "answer": 8}.get(objective.type, 3)
    if recipe.data.sequence_length < least:
        yield Conflict(("data.sequence_length", "objective.type"),
                       f"data.sequence_length {recipe.data.sequence_length} leaves no room for a text",
                       f"set it to {least} or more")  # fmt: skip


def _images(recipe: Recipe, objective: components.Images) -> Iterator[Conflict]:
    if recipe.tokenizer.type not in ("none", "file"):
        yield Conflict(("tokenizer.type", "objective.type"),
                       f"images have no text, and tokenizer.type is {recipe.tokenizer.type}", "remove it")  # fmt: skip
    channels = getattr(recipe.model, "channels", 1)
    for name in ("mean", "std"):
        if len(getattr(objective, name)) not in (1, channels):
            yield Conflict((f"objective.{name}", "model.channels"),
                           f"objective.{name} has {len(getattr(objective, name))} numbers for {channels} channels",
                           f"give one number, or {channels}")  # fmt: skip
    if channels == 1 and (objective.saturation or objective.hue):
        yield Conflict(("model.channels", "objective.saturation" if objective.saturation else "objective.hue"),
                       "grey images have neither saturation nor hue",
                       "remove it, or set model.channels to 3")  # fmt: skip


def _phases(recipe: Recipe) -> Iterator[Conflict]:
    training, name = recipe.training, "training.phases"
    for number, phase in enumerate(training.phases or [], 1):
        if (phase.epochs is None) == (phase.steps is None):
            both = "both epochs and steps" if phase.epochs is not None else "neither epochs nor steps"
            yield Conflict((name,), f"{name}[{number}] has {both}", "give one of them")
        if phase.sequence_length is None:
            continue
        if recipe.objective.type in PLAIN_TEXT:
            if phase.sequence_length > recipe.data.sequence_length:
                yield Conflict((name, "data.sequence_length"),
                               f"{name}[{number}]: sequence_length {phase.sequence_length} is longer than "
                               f"data.sequence_length {recipe.data.sequence_length}, which the model's positions and "
                               "the validation have", "raise data.sequence_length to the longest phase's")  # fmt: skip
        else:
            yield Conflict((name, "objective.type"),
                           f"{name}[{number}]: sequence_length, but labelled samples are as long as they are",
                           "remove it")  # fmt: skip
    if training.phases is not None and isinstance(training.scheduler, components.Step):
        yield Conflict((name, "training.scheduler.type"),
                       "the step schedule counts epochs, and those of phases differ in length",
                       "use piecewise, with boundaries in steps")  # fmt: skip


PLAIN_TEXT = ("causal", "masked", "span")
"""Objectives that learn from text without labels."""


def _order(recipe: Recipe) -> Iterator[Conflict]:
    """What data.weights and data.curriculum need."""
    data, curriculum = recipe.data, recipe.data.curriculum
    if data.weights is not None and len(data.weights) != len(data.paths):
        yield Conflict(("data.weights", "data.paths"),
                       f"data.weights has {len(data.weights)} numbers for {len(data.paths)} paths",
                       "give one number for each path")  # fmt: skip
    if data.weights is not None and data.near_duplicates is not None:
        yield Conflict(("data.weights", "data.near_duplicates"),
                       "with data.weights each text is divided by itself, so near-duplicates in two of them can't be "
                       "kept on one side", "keep one of them")  # fmt: skip
    if curriculum.type == "none":
        return
    key = "data.curriculum.type"
    for other, there in (("data.weights", data.weights), ("training.phases", recipe.training.phases)):
        if there is not None:
            yield Conflict((key, other), f"data.curriculum and {other} both say which samples come when",
                           "keep one of them")  # fmt: skip
    if recipe.objective.type == "images":
        yield Conflict((key, "objective.type"), "images have neither length nor tokens to be ordered by", "remove it")
    elif curriculum.type == "length" and recipe.objective.type in PLAIN_TEXT and data.samples == "windows":
        yield Conflict((key, "data.samples"), "windows are all equally long, so they can't be ordered by length",
                       "set data.samples to documents, paragraphs, lines or sentences, or order by rarity")  # fmt: skip


def _synonyms(recipe: Recipe) -> Iterator[Conflict]:
    augment = recipe.data.augment
    if not wants_synonyms(recipe):
        return
    asked = f"data.augment.{'replace' if augment.replace else 'insert'}"
    if augment.synonyms is None:
        yield Conflict((asked, "data.augment.synonyms"), f"{asked} needs synonyms, and it isn't said where they are",
                       "set data.augment.synonyms to file, mythes, wordnet or embeddings")  # fmt: skip
    elif augment.synonyms in ("file", "embeddings") and augment.synonyms_path is None:
        what = "a file with lines `word<TAB>synonym`" if augment.synonyms == "file" else "a trained run"
        yield Conflict(("data.augment.synonyms", "data.augment.synonyms_path"),
                       f"data.augment.synonyms is {augment.synonyms}, and data.augment.synonyms_path names none",
                       f"set data.augment.synonyms_path to {what}")  # fmt: skip


def _nearest_multiple(number: int, of: int) -> int:
    return max(1, round(number / of)) * of


def _length(recipe: Recipe) -> Iterator[Conflict]:
    if isinstance(recipe.model, components.T5 | components.Vit):
        return
    longest = recipe.model.max_sequence_length
    if recipe.model.position == "learned" and longest is not None and recipe.data.sequence_length > longest:
        yield Conflict(("data.sequence_length", "model.max_sequence_length"),
                       f"data.sequence_length {recipe.data.sequence_length} is longer than "
                       f"model.max_sequence_length {longest}", "shorten the one or raise the other")  # fmt: skip


_NEW_HEADS = ("classify", "tag", "answer", "images")
"""Objectives with a head of their own; others score tokens."""


def _trained(recipe: Recipe) -> Iterator[Conflict]:
    """What training.freeze_* and training.lora_* leave to be trained."""
    model, training, layers = recipe.model, recipe.training, recipe.training.freeze_layers
    if training.lora_rank is not None:
        yield from _lora(recipe)
        return
    tied = model.type != "bert" and getattr(model, "tie_embeddings", False)
    no_head = recipe.objective.type not in _NEW_HEADS and tied
    blocks = max(model.num_layers, getattr(model, "num_decoder_layers", None) or 0)
    if training.freeze_body and no_head:
        yield Conflict(("training.freeze_body", "model.tie_embeddings", "objective.type"),
                       "training.freeze_body leaves nothing to train: the head is the token embedding",
                       "freeze fewer parts, with training.freeze_layers")  # fmt: skip
    elif training.freeze_body and training.init_from is None:
        yield Conflict(("training.freeze_body", "training.init_from"),
                       "training.freeze_body keeps all but the head as it is, and without training.init_from that is "
                       "random", "set training.init_from, or train the body too")  # fmt: skip
    elif not training.freeze_body and layers is not None and layers > blocks:
        yield Conflict(("training.freeze_layers", "model.num_layers"),
                       f"training.freeze_layers {layers} is more than the model has, {blocks}",
                       f"set training.freeze_layers to {blocks} or less")  # fmt: skip
    elif layers == blocks and no_head and isinstance(model, components.Gpt) and model.norm_position == "post":
        yield Conflict(("training.freeze_layers", "model.num_layers", "model.norm_position"),
                       f"training.freeze_layers {layers} leaves nothing to train", "freeze fewer")  # fmt: skip


def _lora(recipe: Recipe) -> Iterator[Conflict]:
    model, training = recipe.model, recipe.training
    if training.init_from is None:
        yield Conflict(("training.lora_rank", "training.init_from"),
                       "training.lora_rank adapts weights that are trained already, and training.init_from names none",
                       "set training.init_from, or train without LoRA")  # fmt: skip
    width = model.d_model
    if training.lora_rank is not None and training.lora_rank > width:
        yield Conflict(("training.lora_rank", "model.d_model"),
                       f"training.lora_rank {training.lora_rank} is more than model.d_model {width}: it saves nothing",
                       f"set training.lora_rank far lower, to {max(1, min(8, width // 4))} say")  # fmt: skip
    if "gate" in training.lora_targets and not model.activation.startswith(("swiglu", "geglu")):
        yield Conflict(("training.lora_targets", "model.activation"),
                       f"training.lora_targets has gate, but model.activation {model.activation} has none",
                       "remove gate")  # fmt: skip


def _schedule(recipe: Recipe) -> Iterator[Conflict]:
    training = recipe.training
    scheduler, warmup = training.scheduler, training.warmup_steps
    total = training.max_steps if training.phases is None else None
    if warmup is not None and total is not None and warmup > total and scheduler.type not in OWN_RISE:
        yield Conflict(("training.warmup_steps", "training.max_steps"),
                       f"training.warmup_steps {warmup} is more than training.max_steps {total}",
                       "warm up for a tenth of the steps or less")  # fmt: skip
    elif isinstance(scheduler, components.Wsd) and warmup and total and warmup + scheduler.decay_ratio * total > total:
        yield Conflict(("training.warmup_steps", "training.scheduler.decay_ratio", "training.max_steps"),
                       f"warm-up ({warmup} steps) and decay ({scheduler.decay_ratio:g} of {total} steps) overlap",
                       "shorten one of them")  # fmt: skip
    if isinstance(scheduler, (components.Piecewise, components.PiecewiseConstantDecay)):
        yield from _piecewise(scheduler, total)
    if training.learning_rate is None and training.optimizer.type in ("sgd", "custom"):
        yield Conflict(("training.learning_rate", "training.optimizer.type"),
                       f"training.learning_rate auto knows no rate for {training.optimizer.type}",
                       "write a number")  # fmt: skip


def _piecewise(
    scheduler: components.Piecewise | components.PiecewiseConstantDecay, total: int | None
) -> Iterator[Conflict]:
    boundaries, factors = scheduler.boundaries, scheduler.factors
    of_boundaries, of_factors = "training.scheduler.boundaries", "training.scheduler.factors"
    if len(factors) != len(boundaries) + 1:
        yield Conflict((of_factors, of_boundaries),
                       f"{of_factors} has {len(factors)} items for {len(boundaries)} boundaries",
                       f"give {len(boundaries) + 1}: one more than boundaries")  # fmt: skip
    if any(b <= a for a, b in pairwise(boundaries)):
        yield Conflict((of_boundaries,), f"{of_boundaries} must ascend", f"write {sorted(set(boundaries))}")
    elif isinstance(scheduler, components.Piecewise) and total is not None and boundaries[-1] >= total:
        yield Conflict((of_boundaries, "training.max_steps"),
                       f"{of_boundaries}: {boundaries[-1]} is not before the last step, {total}",
                       "remove the boundaries that are never passed")  # fmt: skip
    if isinstance(scheduler, components.Piecewise) and any(b > a for a, b in pairwise(factors)):
        yield Conflict((of_factors,), f"{of_factors} must never rise", "use warm-up for a rising learning rate")
