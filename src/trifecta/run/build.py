"""From a recipe's rows to the parts they name. Every table is looked up here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trifecta.data.cache import default_cache_dir
from trifecta.data.loader import load_batches
from trifecta.data.packing import Windows
from trifecta.data.prepare import Prepared, prepare
from trifecta.data.sampler import Sampler
from trifecta.data.sources import Sources
from trifecta.data.store import TokenStore
from trifecta.execution.device import resolve_device
from trifecta.execution.memory import checkpoint_activations, require_memory
from trifecta.execution.precision import LossScaler, autocast
from trifecta.models import MODELS, Gpt, roles, without_memory
from trifecta.objectives import OBJECTIVES, LossModule
from trifecta.optim import OPTIMIZERS, SCHEDULES, Optimizers, Schedule, Span, Trainable
from trifecta.randomness import Int64, key
from trifecta.recipe.components import Section
from trifecta.recipe.schema import Data, Recipe
from trifecta.registry import build
from trifecta.tokenizers import TEXT_NEEDED, TOKENIZERS, Tokenizer, from_json, tokenizer_key
from trifecta.training.plan import MicroBatch, Plan
from trifecta.types import Batch

_TRAINING_BYTES = 16
"""A parameter's weight, gradient and two moments in fp32."""

Report = Callable[[str, float | None], None]
"""What is being done, and which share of it is done (None when unknown)."""


def fields(section: Section) -> dict[str, Any]:
    """A component's fields as keyword arguments, less its type."""
    return {name: getattr(section, name) for name in type(section).model_fields if name != "type"}


def cache_dir(data: Data) -> Path:
    """Where tokenized text is kept: the recipe's folder, $TRIFECTA_CACHE, or the user's cache folder."""
    return Path(data.cache_dir).expanduser() if data.cache_dir else default_cache_dir()


def sources(data: Data, tokenizer_type: str, paths: Iterable[str] | None = None) -> Sources:
    """The text that a recipe names; with `paths`, other files read in the same way."""
    chosen = list(data.paths if paths is None else paths)
    return Sources(
        chosen,
        builtin=None if chosen else data.builtin or "auto",
        text_field=data.text_field,
        invalid_utf8=data.invalid_utf8,
        remove_control_characters=data.remove_control_characters,
        collapse_whitespace=data.collapse_whitespace,
        cache_dir=cache_dir(data),
        allow_nul=tokenizer_type == "byte",
    )


def data_of(recipe: Recipe, text: Sources, report: Report | None = None) -> Prepared[Tokenizer]:
    """Tokenizer and token stores of a recipe's text, from the cache where they are there already."""

    def make_tokenizer(texts: Iterable[str]) -> Tokenizer:
        section = recipe.tokenizer
        tokenizer: Tokenizer = build(TOKENIZERS, section.type, "tokenizer", texts, **fields(section))
        return tokenizer

    validation = recipe.data.validation_paths
    return prepare(
        text,
        sources(recipe.data, recipe.tokenizer.type, validation) if validation else None,
        make_tokenizer=make_tokenizer,
        load_tokenizer=from_json,
        tokenizer_key=tokenizer_key(recipe.tokenizer.type, **fields(recipe.tokenizer)),
        tokenizer_text=TEXT_NEEDED[recipe.tokenizer.type],
        validation_split=recipe.training.validation_split,
        seed=recipe.training.seed,
        sequence_length=recipe.data.sequence_length,
        cache_dir=cache_dir(recipe.data),
        progress=report,
    )


def bare_model_of(recipe: Recipe, vocab_size: int) -> Gpt:
    """The model, its first weights drawn from torch's default generator."""
    options = fields(recipe.model)
    if options["max_sequence_length"] is None:
        options["max_sequence_length"] = recipe.data.sequence_length
    model: Gpt = build(MODELS, recipe.model.type, "model", vocab_size, **options)
    return model


def count_parameters(recipe: Recipe, vocab_size: int) -> int:
    """Parameters of the model, from two shallow ones that hold no memory: blocks are all alike."""

    def count(num_layers: int) -> int:
        shallow = recipe.model.model_copy(update={"num_layers": num_layers})
        with without_memory():
            model = bare_model_of(recipe.model_copy(update={"model": shallow}), vocab_size)
        return sum(parameter.numel() for parameter in model.parameters())

    one, two = count(1), count(2)
    return one + (recipe.model.num_layers - 1) * (two - one)


def model_of(recipe: Recipe, vocab_size: int) -> Gpt:
    """The model with its first weights, which follow from training.seed alone.

    Raises:
        ResourceError: its weights, gradients and moments can't fit into this machine's memory.
    """
    device = resolve_device(recipe.execution.device)
    require_memory(_TRAINING_BYTES * count_parameters(recipe, vocab_size), device, "training this model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(recipe.training.seed, "init"))
        return bare_model_of(recipe, vocab_size)


def optimizers_of(recipe: Recipe, model: torch.nn.Module) -> Optimizers:
    """The optimizer, its groups by the roles of the model's parameters."""
    trainable = Trainable(dict(model.named_parameters()), roles(model))
    section = recipe.training.optimizer
    optimizers: Optimizers = build(
        OPTIMIZERS, section.type, "optimizer", trainable, recipe.training.learning_rate, **fields(section)
    )
    return optimizers


def plan_of(recipe: Recipe, samples: int) -> Plan:
    """Which samples each update sees."""
    training = recipe.training
    return Plan(
        samples=samples,
        batch_size=training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        epochs=training.epochs,
        max_steps=training.max_steps,
    )


def warmup_steps_of(recipe: Recipe, total_steps: int) -> int:
    """training.warmup_steps, or by default 100 but at most a tenth of all steps, and none with one_cycle."""
    if recipe.training.warmup_steps is not None:
        return recipe.training.warmup_steps
    return 0 if recipe.training.scheduler.type == "one_cycle" else min(100, total_steps // 10)


def schedule_of(recipe: Recipe, total_steps: int, steps_per_epoch: int) -> Schedule:
    """The learning rate's factor at each update."""
    section = recipe.training.scheduler
    span = Span(warmup_steps_of(recipe, total_steps), total_steps, steps_per_epoch)
    schedule: Schedule = build(SCHEDULES, section.type, "scheduler", span, **fields(section))
    return schedule


@dataclass(frozen=True)
class Feed:
    """Batches of one token store: shuffled for training, in order for evaluation."""

    objective: Any
    windows: Windows
    sampler: Sampler
    num_workers: int

    @classmethod
    def of(cls, recipe: Recipe, store: TokenStore, *, shuffle: bool) -> Feed:
        """A feed of a recipe's windows over a store."""
        windows = Windows(store, recipe.data.sequence_length)
        sampler = Sampler(len(windows), seed=recipe.training.seed, shuffle=shuffle)
        return cls(objective_of(recipe), windows, sampler, recipe.data.num_workers)

    def batch(self, indices: Int64) -> Batch:
        """The batch of these windows."""
        examples = [self.objective.prepare(self.windows[int(i)]) for i in indices]
        batch: Batch = self.objective.collate(examples)
        return batch

    def updates(self, updates: Iterator[list[MicroBatch]]) -> Iterator[list[Batch]]:
        """Each update's micro-batches as batches, prepared in worker processes if asked for."""
        sizes: list[int] = []

        def requests() -> Iterator[Int64]:
            for update in updates:
                sizes.append(len(update))
                for micro in update:
                    yield self.sampler.indices(micro.epoch, micro.start, micro.stop)

        batches = load_batches(requests(), self.batch, self.num_workers)
        while True:
            first = next(batches)
            yield [first, *(next(batches) for _ in range(sizes.pop(0) - 1))]

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All windows once, in order."""
        for start in range(0, len(self.windows), batch_size):
            yield self.batch(self.sampler.indices(0, start, min(start + batch_size, len(self.windows))))


def objective_of(recipe: Recipe) -> Any:
    """What is to be learned."""
    return build(OBJECTIVES, recipe.objective.type, "objective", **fields(recipe.objective))


def module_of(recipe: Recipe, model: Gpt) -> LossModule:
    """Model and objective as the module that the loop runs."""
    if recipe.execution.gradient_checkpointing:
        checkpoint_activations(model.blocks)
    return LossModule(model, objective_of(recipe))


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
