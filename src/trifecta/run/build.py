"""From a recipe's rows to the parts they name. Every table is looked up here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, overload

import torch

from trifecta.data.cache import default_cache_dir
from trifecta.data.prepare import Prepared, prepare, prepare_corpora
from trifecta.data.sources import Sources
from trifecta.data.units import Unit
from trifecta.execution.attention import choose_attention, slow_attention
from trifecta.execution.compile import Switch, Tell, compile_blocks
from trifecta.execution.device import resolve_device
from trifecta.execution.memory import checkpoint_activations, require_memory
from trifecta.execution.precision import LossScaler, autocast
from trifecta.models import MODELS, T5, Bert, Gpt, Vit, roles, without_memory
from trifecta.models.layers import freeze, freeze_trained, learning_rate_ratios
from trifecta.models.vit import positions
from trifecta.nn.lora import add_lora
from trifecta.objectives import OBJECTIVES, LossModule, Objective, Text
from trifecta.objectives.loss import Penalties
from trifecta.optim import OPTIMIZERS, SCHEDULES, Optimizers, Schedule, Span, Trainable, gradients
from trifecta.optim.ema import Ema
from trifecta.optim.gradients import Transform
from trifecta.optim.perturbations import ADVERSARIES, Micro, Passes
from trifecta.randomness import key
from trifecta.recipe import components
from trifecta.recipe.components import Section
from trifecta.recipe.schema import Data, Recipe
from trifecta.registry import build
from trifecta.run.tasks import TaskData, TaskText, prepare_task, texts_around, texts_of
from trifecta.tokenizers import TEXT_NEEDED, TOKENIZERS, Tokenizer, from_json, tokenizer_key
from trifecta.training.plan import Course, Phases, Plan
from trifecta.training.spikes import WATCHES, Watch
from trifecta.types import LossSum

_TRAINING_BYTES = 16
_FROZEN_BYTES = 4
"""A parameter's weight, gradient and two moments in fp32, and its weight alone."""

Model = Gpt | Bert | T5 | Vit

Report = Callable[[str, float | None], None]
"""What is being done, and which share of it is done (None when unknown)."""


def fields(section: Section) -> dict[str, Any]:
    """A component's fields as keyword arguments, less its type."""
    return {name: getattr(section, name) for name in type(section).model_fields if name != "type"}


def cache_dir(data: Data) -> Path:
    """Where tokenized text is kept: the recipe's folder, $TRIFECTA_CACHE, or the user's cache folder."""
    return Path(data.cache_dir).expanduser() if data.cache_dir else default_cache_dir()


_UNITS: Mapping[str, Unit] = {
    "windows": "document", "documents": "document", "paragraphs": "paragraph", "lines": "line", "sentences": "sentence",
}  # fmt: skip
"""data.samples -> what the text is split into."""


def sources(data: Data, tokenizer_type: str, paths: Iterable[str] | None = None) -> Sources:
    """The text that a recipe names; with `paths`, other files read in the same way."""
    chosen = list(data.paths if paths is None else paths)
    return Sources(
        chosen,
        builtin=None if chosen else data.builtin or "auto",
        text_field=data.text_field or "text",
        invalid_utf8=data.invalid_utf8,
        remove_control_characters=data.remove_control_characters,
        collapse_whitespace=data.collapse_whitespace,
        cache_dir=cache_dir(data),
        allow_nul=tokenizer_type == "byte",
        unit=_UNITS[data.samples],
    )


@overload
def data_of(recipe: Recipe, text: Sources, report: Report | None = None) -> Prepared[Tokenizer]: ...
@overload
def data_of(recipe: Recipe, text: TaskText, report: Report | None = None) -> TaskData: ...
@overload
def data_of(
    recipe: Recipe, text: Sources | TaskText, report: Report | None = None
) -> Prepared[Tokenizer] | TaskData: ...
def data_of(recipe: Recipe, text: Sources | TaskText, report: Report | None = None) -> Prepared[Tokenizer] | TaskData:
    """Tokenizer and token stores of a recipe's text, from the cache where they are there already; or its examples."""

    def make_tokenizer(texts: Iterable[str]) -> Tokenizer:
        section = recipe.tokenizer
        tokenizer: Tokenizer = build(TOKENIZERS, section.type, "tokenizer", texts, **fields(section))
        return tokenizer

    if isinstance(text, TaskText):
        tokenizer = make_tokenizer([*texts_of(text.divided.train), *texts_around(recipe)])
        return prepare_task(recipe, text, tokenizer, objective_of(recipe, tokenizer), report)

    validation = recipe.data.validation_paths
    held_out = sources(recipe.data, recipe.tokenizer.type, validation) if validation else None
    if recipe.data.weights is not None:
        each = [sources(recipe.data, recipe.tokenizer.type, [path]) for path in recipe.data.paths]
        return prepare_corpora(each, held_out, make_tokenizer=make_tokenizer, **_preparing(recipe, report))
    return prepare(text, held_out, make_tokenizer=make_tokenizer, **_preparing(recipe, report))


def _preparing(recipe: Recipe, report: Report | None) -> dict[str, Any]:
    """How a text is split and tokenized."""
    return {
        "load_tokenizer": from_json,
        "tokenizer_key": tokenizer_key(recipe.tokenizer.type, **fields(recipe.tokenizer)),
        "tokenizer_text": TEXT_NEEDED[recipe.tokenizer.type],
        "validation_split": recipe.training.validation_split,
        "near_duplicates": recipe.data.near_duplicates,
        "seed": recipe.training.seed,
        "sequence_length": recipe.data.sequence_length if recipe.data.samples == "windows" else 1,
        "cache_dir": cache_dir(recipe.data),
        "progress": report,
    }


def bare_model_of(recipe: Recipe, vocab_size: int) -> Model:
    """The model, its first weights drawn from torch's default generator."""
    options = fields(recipe.model)
    if "max_sequence_length" in options and options["max_sequence_length"] is None:
        options["max_sequence_length"] = recipe.data.sequence_length
    models: Mapping[str, Callable[..., Model]] = MODELS
    model: Model = build(models, recipe.model.type, "model", vocab_size, **options)
    return model


def count_parameters(recipe: Recipe, vocab_size: int) -> int:
    """Parameters of the model, from two shallow ones that hold no memory: blocks are all alike."""

    decoder_layers = getattr(recipe.model, "num_decoder_layers", None)

    def count(num_layers: int) -> int:
        layers = {"num_layers": num_layers} | ({"num_decoder_layers": 1} if decoder_layers else {})
        shallow = recipe.model.model_copy(update=layers)
        with without_memory():
            model = bare_model_of(recipe.model_copy(update={"model": shallow}), vocab_size)
        return sum(parameter.numel() for parameter in model.parameters())

    one, two = count(1), count(2)
    return one + (max(recipe.model.num_layers, decoder_layers or 0) - 1) * (two - one)


def model_of(recipe: Recipe, objective: Objective) -> Any:
    """The model with its first weights, which follow from training.seed alone.

    Raises:
        ResourceError: its weights, gradients and moments can't fit into this machine's memory.
    """
    device, training = resolve_device(recipe.execution.device), recipe.training
    each = _FROZEN_BYTES if training.freeze_body or training.lora_rank else _TRAINING_BYTES
    require_memory(each * count_parameters(recipe, objective.vocabulary.size), device, "training this model")
    with seeded(recipe):
        return headed(bare_model_of(recipe, objective.vocabulary.size), objective)


@contextmanager
def seeded(recipe: Recipe) -> Iterator[None]:
    """Inside, first weights follow from training.seed alone; outside, torch's generator is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(recipe.training.seed, "init"))
        yield


def headed(model: Model, objective: Objective) -> Any:
    """The model as the objective needs it: with a head of its own, or as it is.

    A pooler that the objective doesn't use is kept as it is: it would get no gradient.
    """
    make = getattr(objective, "headed", None)
    pooler = getattr(model, "pooler", None)
    if pooler is not None:
        pooler.requires_grad_(getattr(objective, "uses_pooler", False))
    return model if make is None else make(model)


def adapted(recipe: Recipe, model: Any) -> Any:
    """The model with what the recipe freezes frozen, and with LoRA's matrices, which follow from training.seed alone.

    The model has its first weights, or is about to get a checkpoint's.
    """
    training = recipe.training
    if training.lora_rank is None:
        freeze(model, body=training.freeze_body, layers=training.freeze_layers)
        return model
    freeze_trained(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(training.seed, "lora"))
        add_lora(
            model, rank=training.lora_rank, alpha=training.lora_alpha, dropout=training.lora_dropout,
            targets=training.lora_targets,
        )  # fmt: skip
    return model


def optimizers_of(recipe: Recipe, model: torch.nn.Module) -> Optimizers:
    """The optimizer, its groups by the roles of the model's parameters."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    ratios = learning_rate_ratios(dict(model.named_parameters()), recipe.training.layer_decay)
    trainable = Trainable(trained, roles(model), ratios)
    section = recipe.training.optimizer
    optimizers: Optimizers = build(
        OPTIMIZERS, section.type, "optimizer", trainable, recipe.training.learning_rate or 0.0, **fields(section)
    )
    return optimizers


def phases_of(recipe: Recipe) -> list[Recipe]:
    """The recipe of each phase, as if it were a run of its own: one, where the recipe has no phases."""
    training = recipe.training
    if training.phases is None:
        return [recipe]
    made = []
    for phase in training.phases:
        own = {
            "batch_size": phase.batch_size or training.batch_size,
            "gradient_accumulation_steps": phase.gradient_accumulation_steps or training.gradient_accumulation_steps,
            "epochs": phase.epochs or training.epochs, "max_steps": phase.steps, "phases": None,
        }  # fmt: skip
        length = phase.sequence_length or recipe.data.sequence_length
        made.append(
            recipe.model_copy(
                update={
                    "training": training.model_copy(update=own),
                    "data": recipe.data.model_copy(update={"sequence_length": length}),
                }
            )
        )
    return made


def course_of(recipe: Recipe, samples: Sequence[int]) -> Course:
    """Which samples each update sees. samples: of each phase."""
    plans = [plan_of(phase, count) for phase, count in zip(phases_of(recipe), samples, strict=True)]
    return plans[0] if recipe.training.phases is None else Phases(plans)


def plan_of(recipe: Recipe, samples: int) -> Plan:
    """The same, of a recipe without phases."""
    training = recipe.training
    return Plan(
        samples=samples,
        batch_size=training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        epochs=training.epochs,
        max_steps=training.max_steps,
        micro_batch_size=recipe.execution.micro_batch_size,
    )


def rows_at_once(recipe: Recipe) -> int:
    """Samples of a batch that isn't trained on: training.batch_size, or fewer where so many don't fit."""
    return min(recipe.training.batch_size, recipe.execution.micro_batch_size or recipe.training.batch_size)


def as_computed(recipe: Recipe) -> Recipe:
    """The same updates, with what is computed at once as training.batch_size."""
    micro, training = recipe.execution.micro_batch_size, recipe.training
    if micro is None:
        return recipe
    steps = -(-training.batch_size * training.gradient_accumulation_steps // micro)
    training = training.model_copy(update={"batch_size": micro, "gradient_accumulation_steps": steps})
    return recipe.model_copy(update={"training": training})


NO_WARMUP = ("one_cycle", "exponential_decay", "cosine_decay", "piecewise_constant_decay")
"""Schedules that begin as they are unless training.warmup_steps is written."""


def warmup_steps_of(recipe: Recipe, total_steps: int) -> int:
    """training.warmup_steps, or by default 100 but at most a tenth of all steps, and none with what has its own."""
    if recipe.training.warmup_steps is not None:
        return recipe.training.warmup_steps
    return 0 if recipe.training.scheduler.type in NO_WARMUP else min(100, total_steps // 10)


def schedule_of(recipe: Recipe, total_steps: int, steps_per_epoch: int) -> Schedule:
    """The learning rate's factor at each update."""
    section = recipe.training.scheduler
    span = Span(warmup_steps_of(recipe, total_steps), total_steps, steps_per_epoch)
    schedule: Schedule = build(SCHEDULES, section.type, "scheduler", span, **fields(section))
    return schedule


def sequence_length_of(recipe: Recipe) -> int:
    """Positions of a row: data.sequence_length, or what an image becomes."""
    model = recipe.model
    if isinstance(model, components.Vit):
        return positions(model.image_size, model.patch_size, model.pooling)
    return recipe.data.sequence_length


def objective_of(recipe: Recipe, tokenizer: Tokenizer) -> Any:
    """What is to be learned."""
    model = recipe.model
    text = Text(
        tokenizer, sequence_length_of(recipe), documents=recipe.data.samples != "windows",
        image=(model.image_size, model.channels) if isinstance(model, components.Vit) else None,
    )  # fmt: skip
    return build(OBJECTIVES, recipe.objective.type, "objective", text, **fields(recipe.objective))


_LITTLE_TEXT = 10_000
"""Characters below which a model can only learn its text by heart."""


def warnings_of(recipe: Recipe, device: torch.device, data: Prepared[Tokenizer] | TaskData) -> list[str]:
    """What will work and is likely not meant."""
    found = slow_attention(device, sequence_length_of(recipe), attention_dropout_of(recipe))
    notes = [found] if found else []
    if isinstance(data, Prepared) and recipe.training.init_from is None and data.scan.characters < _LITTLE_TEXT:
        notes.append(
            f"{data.scan.characters:,} characters are little text, which a model learns by heart: give "
            f"{_LITTLE_TEXT:,} at least; 100,000 to a million suit a small one, ten times as many a larger one"
        )
    return notes


def attention_dropout_of(recipe: Recipe) -> float:
    """The rate at attention weights."""
    rate = recipe.model.attention_dropout
    return recipe.model.dropout if rate is None else rate


def switch_of(recipe: Recipe, tell: Tell) -> Switch | None:
    """What ends compilation where it fails; None where nothing is compiled."""
    return Switch(tell) if recipe.execution.compile else None


def module_of(recipe: Recipe, model: Model, objective: Objective, switch: Switch | None = None) -> LossModule:
    """Model and objective as the module that the loop runs; its blocks are compiled where there is a switch."""
    choose_attention(model, recipe.execution.attention)
    if switch is not None:
        compile_blocks(model.blocks, recipe.execution.compile_backend, switch)
    if recipe.execution.gradient_checkpointing:
        blocks = list(model.blocks)[:: recipe.execution.checkpoint_every_n_layers]
        checkpoint_activations(blocks, recipe.execution.checkpoint_policy)
    training = recipe.training
    return LossModule(model, objective, Penalties(training.label_smoothing, training.z_loss))


def transforms_of(recipe: Recipe) -> list[Transform]:
    """What is done to the gradients of each update, in order: clipping, then noise."""
    training = recipe.training
    made = []
    if training.gradient_clip_norm is not None:
        made.append(gradients.clip_norm(training.gradient_clip_norm))
    if training.gradient_clip_value is not None:
        made.append(gradients.clip_value(training.gradient_clip_value))
    if training.gradient_clip_ratio is not None:
        made.append(gradients.clip_adaptive(training.gradient_clip_ratio))
    if training.gradient_noise:
        made.append(gradients.add_noise(training.gradient_noise, training.gradient_noise_decay, training.seed))
    return made


def passes_of(recipe: Recipe, model: Any, switch: Switch | None = None) -> Passes:
    """Forward and backward of a micro-batch: once, or against an adversary. switch: of what is compiled."""
    section = recipe.training.adversary
    passes: Passes = build(ADVERSARIES, section.type, "adversary", embedding_of(model), **fields(section))
    if switch is None:
        return passes

    def guarded(micro: Micro) -> LossSum:
        with switch.guarded():
            return passes(micro)

    return guarded


def watch_of(recipe: Recipe) -> Watch | None:
    """Which updates are spikes; None where none is looked for."""
    section = recipe.training.spikes
    watch: Watch | None = build(WATCHES, section.type, "spikes", **fields(section))
    return watch


def embedding_of(model: Any) -> Any:
    """What makes the vectors that the first block of a model gets."""
    return getattr(model, "body", model).embedding


def count_passes(recipe: Recipe) -> int:
    """Forward and backward passes over each micro-batch."""
    adversary = recipe.training.adversary
    steps: int = getattr(adversary, "steps", 1)
    return {"none": 1, "fgm": 2, "pgd": steps + 1, "freelb": steps}[adversary.type]


def ema_of(recipe: Recipe, model: torch.nn.Module) -> Ema | None:
    """The running average of the model's weights."""
    return None if recipe.training.ema_decay is None else Ema(model, recipe.training.ema_decay)


def scaler_of(recipe: Recipe) -> LossScaler | None:
    """What keeps fp16 gradients from vanishing; None in other formats."""
    execution = recipe.execution
    if execution.precision != "fp16":
        return None
    return LossScaler(
        execution.loss_scale, execution.loss_scale_growth, execution.loss_scale_backoff,
        execution.loss_scale_growth_steps,
    )  # fmt: skip


def autocast_of(recipe: Recipe, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """The context of each forward pass."""
    return lambda: autocast(recipe.execution.precision, device)
