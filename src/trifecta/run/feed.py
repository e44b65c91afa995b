"""From a token store to batches: which samples, what is random about them, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from trifecta.data.loader import load_updates
from trifecta.data.packing import Documents, Several, Windows
from trifecta.data.sampler import Draws, Mixture, Order, Sampler
from trifecta.data.store import Corpora, TokenStore
from trifecta.objectives import Objective
from trifecta.randomness import numpy_generator
from trifecta.recipe.schema import Recipe
from trifecta.run import build
from trifecta.run.augmenting import Stage, stage_of
from trifecta.run.tasks import Examples
from trifecta.tokenizers import Tokenizer
from trifecta.training.plan import MicroBatch
from trifecta.types import Batch, Example

Request = Draws
"""Which visit it is of each sample of a batch, and the samples."""


@dataclass(frozen=True)
class Feed:
    """Batches of one part of the data: shuffled for training, in order for evaluation.

    What is random about a sample (gaps, say) follows from seed, part, epoch and the sample's number; in evaluation it
    is the same each time, so that losses can be compared, and where it is `only_training` there is none. How the
    samples of a batch are mixed follows from seed, epoch and the first one's number. augment: of training.
    """

    objective: Objective
    samples: Any
    sampler: Order
    seed: int
    part: str
    num_workers: int
    phase: int = 0
    augment: Stage | None = None

    @classmethod
    def of(
        cls, recipe: Recipe, objective: Objective, store: TokenStore | Corpora | Examples, *, training: bool,
        phase: int = 0,
    ) -> Feed:  # fmt: skip
        """A feed of a recipe's samples over a store, or of labelled examples."""
        samples: Any
        sizes = []
        if isinstance(store, Examples):
            samples = store.examples
        else:
            kind = Windows if recipe.data.samples == "windows" else Documents
            parts = [kind(each, objective.window, objective.overlap) for each in store.stores]
            samples, sizes = parts[0] if len(parts) == 1 else Several(parts), [len(part) for part in parts]
        augment = None
        if training:
            augment = store.augment if isinstance(store, Examples) else stage_of(recipe, objective)
        seed, shuffle = recipe.training.seed, training and recipe.data.shuffle
        purpose = _of_phase("shuffle", phase)
        sampler: Order = Sampler(len(samples), seed, shuffle, purpose)
        if training and recipe.data.weights is not None and sizes:
            sampler = Mixture(sizes, recipe.data.weights, seed=seed, shuffle=shuffle, purpose=purpose)
        part = "train" if training else "validation"
        return cls(objective, samples, sampler, seed, part, recipe.data.num_workers, phase, augment)

    @property
    def full_rows(self) -> bool:
        """Whether every sample fills its row."""
        return isinstance(self.samples, Windows | Several)

    def at(self, epoch: int, start: int, stop: int) -> Batch:
        """The samples at these positions of an epoch as one batch."""
        return self.batch(self.sampler.draws(epoch, start, stop))

    def batch(self, request: Request) -> Batch:
        """The batch of these samples."""
        visits, indices = request
        examples = []
        for visit, index in zip(visits.tolist(), indices.tolist(), strict=True):
            sample = self.samples[index]
            example = sample if isinstance(sample, Example) else self.objective.prepare(sample)
            if self.augment is not None:
                example = self.augment(example, visit + (self.phase << 40), index)
            if self.objective.corrupts and (self._training or not getattr(self.objective, "only_training", False)):
                generator = numpy_generator(self.seed, _of_phase(f"corrupt {self.part}", self.phase), visit, index)
                if getattr(self.objective, "partners", False):
                    other = self.objective.prepare(self.samples[int(generator.integers(len(self.samples)))])
                    example = Example({**example.arrays, "other": other.arrays["tokens"]}, example.cut)
                example = self.objective.corrupt(example, generator)
            examples.append(example)
        if self._training and getattr(self.objective, "mixes", False):
            mix = cast(Any, self.objective).mix
            purpose = _of_phase("mix", self.phase)
            examples = mix(examples, numpy_generator(self.seed, purpose, int(visits[0]), int(indices[0])))
        return self.objective.collate(examples)

    @property
    def _training(self) -> bool:
        return self.part == "train"

    def updates(self, updates: Iterator[list[MicroBatch]]) -> Iterator[list[Batch]]:
        """Each update's micro-batches as batches, prepared in worker processes if asked for."""
        return Feeds((self,)).updates(updates)

    def first(self, batch_size: int, batches: int) -> list[Batch]:
        """The first epoch's first batches, as many as there are."""
        starts = range(0, min(batches * batch_size, len(self.samples)), batch_size)
        return [self.at(0, start, start + batch_size) for start in starts]

    def padding_share(self, batch_size: int, batches: int = 4) -> float:
        """The share of padding among all positions of the first batches."""
        made = self.first(batch_size, batches)
        positions = sum(batch.positions for batch in made)
        return 1 - sum(batch.tokens for batch in made) / max(1, positions)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All samples once, in order."""
        for start in range(0, len(self.samples), batch_size):
            yield self.at(0, start, min(start + batch_size, len(self.samples)))


@dataclass(frozen=True)
class Feeds:
    """The feeds of a run's phases."""

    phases: tuple[Feed, ...]

    @classmethod
    def of(cls, recipe: Recipe, objective: Objective, store: TokenStore | Corpora | Examples,
           tokenizer: Tokenizer) -> Feeds:  # fmt: skip
        """For training: one feed for each phase, with an objective of its length."""
        phases = build.phases_of(recipe)
        objectives = [objective] if len(phases) == 1 else [build.objective_of(phase, tokenizer) for phase in phases]
        return cls(
            tuple(
                Feed.of(phase, made, store, training=True, phase=number)
                for number, (phase, made) in enumerate(zip(phases, objectives, strict=True))
            )
        )

    def batch(self, request: tuple[int, Request]) -> Batch:
        """The batch of a phase's samples."""
        phase, drawn = request
        return self.phases[phase].batch(drawn)

    def updates(self, updates: Iterator[list[MicroBatch]]) -> Iterator[list[Batch]]:
        """Each update's micro-batches as batches, prepared in worker processes if asked for."""

        def drawn(micro: MicroBatch) -> tuple[int, Request]:
            return micro.phase, self.phases[micro.phase].sampler.draws(micro.epoch, micro.start, micro.stop)

        requests = (list(map(drawn, update)) for update in updates)
        return load_updates(requests, self.batch, self.phases[0].num_workers)

    def numbers(self, update: Sequence[MicroBatch]) -> list[int]:
        """Which samples of the training data an update learns from, counted from 0."""
        drawn = (self.phases[m.phase].sampler.draws(m.epoch, m.start, m.stop) for m in update)
        return [number for _, indices in drawn for number in indices.tolist()]


def _of_phase(purpose: str, phase: int) -> str:
    """A purpose of random choices, which is another in each phase."""
    return f"{purpose} phase {phase}" if phase else purpose
