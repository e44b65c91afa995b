"""Keys that can't act in a run, because of what another key says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trifecta.recipe import components
from trifecta.recipe.schema import Recipe

_TEXT_ENDINGS = (".txt", ".txt.gz", ".txt.zst", ".md", ".md.gz", ".md.zst")


@dataclass(frozen=True)
class Inert:
    """A key without effect: what silences it, when, and in words."""

    key: str
    by: tuple[str, ...]
    when: Callable[[Recipe], bool]
    because: str
    fix: str


def _only_plain_text(recipe: Recipe) -> bool:
    paths = [*recipe.data.paths, *recipe.data.validation_paths]
    if recipe.data.builtin is not None and not recipe.data.paths:
        return True
    return bool(recipe.data.paths) and all(path.lower().endswith(_TEXT_ENDINGS) for path in paths)


def _own_dropouts(recipe: Recipe) -> bool:
    model = recipe.model
    return None not in (model.attention_dropout, model.feedforward_dropout, model.embedding_dropout)


def _position(recipe: Recipe) -> str:
    return getattr(recipe.model, "position", "relative")


def _no_nesterov(recipe: Recipe) -> bool:
    optimizer = recipe.training.optimizer
    return isinstance(optimizer, (components.Sgd, components.Muon)) and optimizer.momentum == 0 and optimizer.nesterov


def _no_scale(recipe: Recipe) -> bool:
    optimizer = recipe.training.optimizer
    return isinstance(optimizer, components.Adafactor) and not optimizer.scale_parameter


def _no_spans(recipe: Recipe) -> bool:
    return isinstance(recipe.objective, components.Masked) and recipe.objective.choose != "span"


def steps_of(recipe: Recipe) -> int | None:
    """Updates of the run; None where it is measured in epochs."""
    training = recipe.training
    if training.phases is None:
        return training.max_steps
    each = [phase.steps for phase in training.phases]
    return None if None in each else sum(filter(None, each))


def _beyond_last_step(steps: int | None, recipe: Recipe) -> bool:
    last = steps_of(recipe)
    return steps is not None and last is not None and steps > last


def epochs_of(recipe: Recipe) -> int | None:
    """Epochs of the run; None where it is measured in steps."""
    training = recipe.training
    if training.phases is None:
        return training.epochs if training.max_steps is None else None
    each = [phase.epochs for phase in training.phases]
    return None if None in each else sum(filter(None, each))


def _too_patient(recipe: Recipe) -> bool:
    """Validated once an epoch, n epochs can't hold n validations without a better loss: the first is the best."""
    training = recipe.training
    patience, epochs = training.early_stopping_patience, epochs_of(recipe)
    by_epochs = training.evaluate_every_n_steps is None and epochs is not None
    return patience is not None and epochs is not None and by_epochs and patience >= epochs


def _beyond_last_epoch(epochs: int | None, recipe: Recipe) -> bool:
    last = epochs_of(recipe)
    return epochs is not None and last is not None and epochs > last


_SHOWN = ("causal", "masked", "span")
"""Objectives that learn from plain text."""
_SEEN = ("images",)
"""Objectives that read no text at all."""
_PAIRED = ("seq2seq", "prompted")
"""Objectives that learn from sources and targets."""
_MARKED = ("tag", "answer")
"""Objectives whose data has fields of fixed names."""
_WRITTEN = ("causal", "span", *_PAIRED)
"""Objectives whose samples are written token by token."""


def _no_smoothing(recipe: Recipe) -> bool:
    objective = recipe.objective
    apart = objective.type == "answer" or (objective.type == "classify" and objective.kind == "regression")
    return apart and bool(recipe.training.label_smoothing)


EDITED = ("classify", "tag", "answer", "seq2seq")
"""Objectives whose training texts can be changed without changing what is to be learned."""
_WORD_EDITS = ("replace", "insert", "swap", "delete")


def changes_words(recipe: Recipe) -> bool:
    """Whether words of training texts are changed."""
    return recipe.objective.type in EDITED and any(getattr(recipe.data.augment, name) for name in _WORD_EDITS)


def changes_text(recipe: Recipe) -> bool:
    """Whether training texts are changed at all."""
    augment = recipe.data.augment
    hidden = recipe.objective.type in (*EDITED, "causal") and augment.mask_tokens
    return changes_words(recipe) or bool(hidden or (recipe.objective.type in EDITED and augment.drop_tokens))


def wants_synonyms(recipe: Recipe) -> bool:
    """Whether words become synonyms."""
    return changes_words(recipe) and bool(recipe.data.augment.replace or recipe.data.augment.insert)


def _no_micro_batch(recipe: Recipe) -> bool:
    micro, training = recipe.execution.micro_batch_size, recipe.training
    updates = [
        (phase.batch_size or training.batch_size)
        * (phase.gradient_accumulation_steps or training.gradient_accumulation_steps)
        for phase in training.phases or [components.Phase()]
    ]
    return recipe.execution.fit_batch or (micro or 0) > max(updates)


def _no_cuda(recipe: Recipe) -> bool:
    return recipe.execution.device in ("cpu", "mps")


OWN_RISE = ("one_cycle", "cosine_decay")
"""Schedules that training.warmup_steps doesn't move."""

INERT: tuple[Inert, ...] = (
    Inert("model.rope_theta", ("model.position",), lambda r: _position(r) != "rope",
          "only rotary positions have a base", "remove it, or set model.position to rope"),
    Inert("model.max_sequence_length", ("model.position",), lambda r: _position(r) != "learned",
          "only a learned position table has a length", "remove it, or set model.position to learned"),
    Inert("model.dropout", ("model.attention_dropout", "model.feedforward_dropout", "model.embedding_dropout"),
          _own_dropouts, "each of the places that it stands for has its own rate", "remove it, or one of those"),
    Inert("objective.mean_span_length", ("objective.choose",), _no_spans,
          "only runs of tokens have a length", "remove it, or set objective.choose to span"),
    Inert("tracking.sample.every_n_epochs", ("objective.type",), lambda r: r.objective.type not in (*_SHOWN, *_PAIRED),
          "this objective has no samples to show", "remove it"),
    Inert("tracking.sample.prompt", ("objective.type",), lambda r: r.objective.type != "causal",
          "only what goes on with a text begins with one of yours; others get held-out texts", "remove it"),
    Inert("tracking.sample.max_tokens", ("objective.type",), lambda r: r.objective.type not in _WRITTEN,
          "only what writes has a length", "remove it"),
    Inert("tracking.sample.temperature", ("objective.type",),
          lambda r: r.objective.type not in _WRITTEN or r.objective.type == "seq2seq",
          "only what goes on with a text, fills gaps of several tokens or answers draws its tokens", "remove it"),
    Inert("data.samples", ("objective.type",), lambda r: r.objective.type not in _SHOWN,
          "a sample is a labelled text", "remove it"),
    *(Inert(f"data.{name}", ("objective.type",), lambda r: r.objective.type in (*_SHOWN, *_SEEN),
            "only labelled texts have it", "remove it, or choose another objective")
      for name in ("too_long",)),
    *(Inert(f"data.{name}", ("objective.type",), lambda r: r.objective.type in (*_SHOWN, *_PAIRED, *_MARKED, *_SEEN),
            "only texts with labels have it", "remove it, or choose another objective")
      for name in ("pair_field", "label_field")),
    *(Inert(f"data.{name}", ("objective.type",), lambda r: r.objective.type not in _PAIRED,
            "only sources with targets have it", "remove it, or choose another objective")
      for name in ("source_field", "target_field")),
    Inert("data.text_field", ("objective.type",), lambda r: r.objective.type in (*_PAIRED, *_MARKED, *_SEEN),
          "pairs, tagged texts, questions and images have no such field",
          "remove it; those of pairs are data.source_field and data.target_field"),
    *(Inert(f"data.{name}", ("objective.type",), lambda r: r.objective.type in _SEEN,
            "images have no text", "remove it")
      for name in ("sequence_length", "invalid_utf8", "remove_control_characters", "collapse_whitespace", "cache_dir")),
    *(Inert(f"data.augment.{name}", ("objective.type",), lambda r: r.objective.type not in EDITED,
            f"only in labelled texts ({', '.join(EDITED)}) what is to be learned stays the same", "remove it")
      for name in (*_WORD_EDITS, "drop_tokens")),
    Inert("data.augment.mask_tokens", ("objective.type",), lambda r: r.objective.type not in (*EDITED, "causal"),
          f"only labelled texts ({', '.join(EDITED)}) and plain text with the objective causal can be read with gaps",
          "remove it"),
    Inert("data.augment.share", ("data.augment.delete",), lambda r: not changes_text(r),
          "no text is changed", "set data.augment.delete, say, or remove it"),
    Inert("data.augment.synonyms", ("data.augment.replace",), lambda r: not wants_synonyms(r),
          "no word becomes a synonym", "set data.augment.replace or data.augment.insert, or remove it"),
    Inert("data.augment.synonyms_path", ("data.augment.synonyms",),
          lambda r: not wants_synonyms(r) or r.data.augment.synonyms in (None, "wordnet"),
          "no synonyms are read from a file", "set data.augment.synonyms to file, mythes or embeddings, or remove it"),
    Inert("data.near_duplicates", ("objective.type",), lambda r: r.objective.type in _SEEN,
          "images have no words", "remove it"),
    Inert("objective.class_weights", ("objective.kind",),
          lambda r: isinstance(r.objective, components.Classify) and r.objective.class_weights == "auto"
          and r.objective.kind in ("multi", "regression"),
          "only where a text has one class the rare ones can weigh more", "remove it"),
    *(Inert(f"objective.{name}", ("objective.kind",),
            lambda r: isinstance(r.objective, components.Classify) and r.objective.kind in ("single", "multi"),
            "classes aren't numbers", "remove it")
      for name in ("label_mean", "label_scale")),
    Inert("objective.label_counts", ("objective.class_weights",),
          lambda r: getattr(r.objective, "class_weights", None) == "equal",
          "all classes weigh the same", "remove it, or set objective.class_weights to auto"),
    Inert("objective.no_answer_threshold", ("objective.no_answer",),
          lambda r: isinstance(r.objective, components.Answer) and not r.objective.no_answer,
          "every question has an answer", "remove it, or set objective.no_answer to true"),
    Inert("objective.mixup_alpha", ("training.batch_size",),
          lambda r: r.training.batch_size == 1 and isinstance(r.objective, components.Classify),
          "a batch of one text has nothing to blend it with", "raise training.batch_size, or remove it"),
    Inert("data.builtin", ("data.paths",), lambda r: bool(r.data.paths) and r.data.builtin is not None,
          "the text comes from data.paths", "keep one of them"),
    Inert("data.invalid_utf8", ("data.builtin",), lambda r: r.data.builtin is not None and not r.data.paths,
          "the built-in texts are all UTF-8", "remove it"),
    Inert("data.text_field", ("data.paths", "data.builtin"), _only_plain_text,
          "only .jsonl, .csv, .tsv and .parquet have fields", "remove it"),
    Inert("training.validation_split", ("data.validation_paths",), lambda r: bool(r.data.validation_paths),
          "validation has files of its own", "remove it, or data.validation_paths"),
    Inert("training.epochs", ("training.max_steps",), lambda r: r.training.max_steps is not None,
          "the number of updates is given", "remove it, or set training.max_steps to null"),
    *(Inert(f"training.{name}", ("training.phases",), lambda r: r.training.phases is not None,
            "the phases say how long the run is", "remove it, or training.phases")
      for name in ("epochs", "max_steps")),
    Inert("training.gradient_accumulation_steps", ("training.phases",),
          lambda r: all(p.gradient_accumulation_steps is not None for p in r.training.phases or [components.Phase()]),
          "every phase has its own", "remove it"),
    Inert("data.weights", ("objective.type",), lambda r: r.objective.type not in _SHOWN,
          "only plain text is mixed", "remove it"),
    Inert("training.warmup_steps", ("training.scheduler.type",),
          lambda r: r.training.scheduler.type in OWN_RISE and bool(r.training.warmup_steps),
          "this schedule has its own rise",
          "remove it, and set training.scheduler.rise_ratio (one_cycle) or warmup_steps (cosine_decay)"),
    Inert("training.scheduler.start_ratio", ("training.scheduler.warmup_steps",),
          lambda r: isinstance(r.training.scheduler, components.CosineDecay) and not r.training.scheduler.warmup_steps,
          "without warm-up there is no other start than the peak", "set training.scheduler.warmup_steps, or remove it"),
    Inert("training.freeze_layers", ("training.freeze_body",), lambda r: r.training.freeze_body,
          "no layer is trained at all", "keep one of them"),
    Inert("training.layer_decay", ("training.freeze_body",),
          lambda r: r.training.freeze_body and r.training.layer_decay != 1,
          "nothing but the head is trained", "keep one of them"),
    Inert("training.freeze_layers", ("training.lora_rank",), lambda r: r.training.lora_rank is not None,
          "LoRA keeps all trained weights as they are", "remove it, or training.lora_rank"),
    Inert("training.freeze_body", ("training.lora_rank",),
          lambda r: r.training.lora_rank is not None and r.training.freeze_body,
          "LoRA keeps all trained weights as they are", "remove it, or training.lora_rank"),
    *(Inert(f"training.{name}", ("training.lora_rank",), lambda r: r.training.lora_rank is None,
            "without a rank there is no LoRA", "set training.lora_rank, or remove it")
      for name in ("lora_alpha", "lora_dropout", "lora_targets")),
    Inert("training.optimizer.nesterov", ("training.optimizer.momentum",), _no_nesterov,
          "without momentum there is nothing to look ahead with", "set training.optimizer.momentum, or remove it"),
    Inert("training.optimizer.minimal_scale", ("training.optimizer.scale_parameter",), _no_scale,
          "the weights' size doesn't count", "set training.optimizer.scale_parameter, or remove it"),
    *(Inert(f"execution.{name}", ("execution.gradient_checkpointing",),
            lambda r: not r.execution.gradient_checkpointing,
            "no activations are computed again", "set execution.gradient_checkpointing to true, or remove it")
      for name in ("checkpoint_every_n_layers", "checkpoint_policy")),
    Inert("execution.checkpoint_policy", ("execution.compile",),
          lambda r: r.execution.compile and r.execution.checkpoint_policy == "selective",
          "of a compiled block nothing inside can be kept", "remove one of them"),
    Inert("execution.attention", ("model.attention",),
          lambda r: r.model.attention == "explicit" and r.execution.attention not in ("auto", "explicit"),
          "the model's attention is an explicit matrix", "remove it, or set model.attention to fused"),
    Inert("execution.compile_backend", ("execution.compile",), lambda r: not r.execution.compile,
          "nothing is compiled", "set execution.compile to true, or remove it"),
    Inert("execution.tf32", ("execution.device",), lambda r: r.execution.tf32 and _no_cuda(r),
          "only CUDA devices have it", "remove it"),
    Inert("execution.cudnn_benchmark", ("execution.device", "training.deterministic"),
          lambda r: r.execution.cudnn_benchmark and (_no_cuda(r) or r.training.deterministic),
          "only CUDA devices have it, and a deterministic run tries nothing out", "remove it"),
    Inert("execution.micro_batch_size",
          ("execution.fit_batch", "training.batch_size", "training.gradient_accumulation_steps"), _no_micro_batch,
          "it is measured, or an update has fewer sequences", "choose a smaller number, or remove it"),
    Inert("training.label_smoothing", ("objective.type",), _no_smoothing,
          "numbers and places in a text have no neighbours to share with", "remove it"),
    Inert("training.z_loss", ("objective.type",),
          lambda r: bool(r.training.z_loss) and r.objective.type not in (*_SHOWN, *_PAIRED),
          "only tokens have such a loss", "remove it"),
    Inert("training.gradient_noise_decay", ("training.gradient_noise",), lambda r: not r.training.gradient_noise,
          "there is no noise", "set training.gradient_noise, or remove it"),
    Inert("training.evaluate_every_n_steps", ("training.max_steps", "training.phases"),
          lambda r: _beyond_last_step(r.training.evaluate_every_n_steps, r),
          "the run ends before", "choose a smaller number, or remove it"),
    Inert("training.save_every_n_steps", ("training.max_steps", "training.phases"),
          lambda r: _beyond_last_step(r.training.save_every_n_steps, r),
          "the run ends before", "choose a smaller number, or remove it"),
    Inert("training.save_every_n_epochs", ("training.epochs", "training.phases"),
          lambda r: _beyond_last_epoch(r.training.save_every_n_epochs, r),
          "the run ends before", "choose a smaller number, or remove it"),
    Inert("training.early_stopping_patience", ("training.epochs", "training.phases"), _too_patient,
          "there is one validation an epoch", "choose a smaller number, or set training.evaluate_every_n_steps"),
    *(Inert(f"execution.{name}", ("execution.precision",), lambda r: r.execution.precision != "fp16",
            "only fp16 scales its loss", "remove it, or set execution.precision to fp16")
      for name in ("loss_scale", "loss_scale_growth", "loss_scale_backoff", "loss_scale_growth_steps")),
    Inert("tracking.sample.prompt", ("tracking.sample.every_n_epochs",),
          lambda r: r.tracking.sample.every_n_epochs is None,
          "no samples are written", "remove it, or set tracking.sample.every_n_epochs"),
    Inert("tracking.sample.max_tokens", ("tracking.sample.every_n_epochs",),
          lambda r: r.tracking.sample.every_n_epochs is None,
          "no samples are written", "remove it, or set tracking.sample.every_n_epochs"),
    Inert("tracking.sample.temperature", ("tracking.sample.every_n_epochs",),
          lambda r: r.tracking.sample.every_n_epochs is None,
          "no samples are written", "remove it, or set tracking.sample.every_n_epochs"),
)  # fmt: skip
"""Every key that some other key can silence."""


def silenced(recipe: Recipe) -> list[Inert]:
    """The rules whose key is there and can't act in this run."""
    return [rule for rule in INERT if has_key(recipe, rule.key) and rule.when(recipe)]


def inert_keys(recipe: Recipe) -> frozenset[str]:
    """Keys that can't act in this run."""
    return frozenset(rule.key for rule in silenced(recipe))


def normalised(recipe: Recipe) -> Recipe:
    """The same run, with every key that can't act at its default, so that equal runs have equal recipes."""
    for key in sorted(inert_keys(recipe)):
        recipe = _reset(recipe, key.split("."))
    return recipe


def _reset(section: Any, path: list[str]) -> Any:
    name = path[0]
    default = type(section).model_fields[name].default
    value = _reset(getattr(section, name), path[1:]) if len(path) > 1 else default
    return section.model_copy(update={name: value})


def has_key(recipe: Recipe, key: str) -> bool:
    """Whether the chosen types have this key."""
    section: Any = recipe
    for name in key.split("."):
        if name not in getattr(type(section), "model_fields", ()):
            return False
        section = getattr(section, name)
    return True


def value_of(recipe: Recipe, key: str) -> Any:
    """The value at a dotted key."""
    value: Any = recipe
    for name in key.split("."):
        value = getattr(value, name)
    return value
