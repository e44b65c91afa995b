"""From a token store to batches: which samples, what is random about them, in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from trifecta.data.loader import load_batches
from trifecta.data.packing import Documents, Windows
from trifecta.data.sampler import Sampler
from trifecta.data.store import TokenStore
from trifecta.objectives import Objective
from trifecta.randomness import Int64, numpy_generator
from trifecta.recipe.schema import Recipe
from trifecta.run.augmenting import Stage, stage_of
from trifecta.run.tasks import Examples
from trifecta.training.plan import MicroBatch
from trifecta.types import Batch, Example

Request = tuple[int, Int64]
"""An epoch, and the samples of a batch."""


@dataclass(frozen=True)
class Feed:
    """Batches of one part of the data: shuffled for training, in order for evaluation.

    What is random about a sample (gaps, say) follows from seed, part, epoch and the sample's number; in evaluation it
    is the same each time, so that losses can be compared, and where it is `only_training` there is none. How the
    samples of a batch are mixed follows from seed, epoch and the first one's number. augment: of training.
    """

    objective: Objective
    samples: Any
    sampler: Sampler
    seed: int
    part: str
    num_workers: int
    augment: Stage | None = None

    @classmethod
    def of(cls, recipe: Recipe, objective: Objective, store: TokenStore | Examples, *, training: bool) -> Feed:
        """A feed of a recipe's samples over a store, or of labelled examples."""
        samples: Any
        if isinstance(store, Examples):
            samples = store.examples
        else:
            kind = Windows if recipe.data.samples == "windows" else Documents
            samples = kind(store, objective.window, objective.overlap)
        augment = None
        if training:
            augment = store.augment if isinstance(store, Examples) else stage_of(recipe, objective)
        seed = recipe.training.seed
        sampler = Sampler(len(samples), seed=seed, shuffle=training and recipe.data.shuffle)
        part = "train" if training else "validation"
        return cls(objective, samples, sampler, seed, part, recipe.data.num_workers, augment)

    def batch(self, request: Request) -> Batch:
        """The batch of these samples."""
        epoch, indices = request
        examples = []
        for index in map(int, indices):
            sample = self.samples[index]
            example = sample if isinstance(sample, Example) else self.objective.prepare(sample)
            if self.augment is not None:
                example = self.augment(example, epoch, index)
            if self.objective.corrupts and (self._training or not getattr(self.objective, "only_training", False)):
                generator = numpy_generator(self.seed, f"corrupt {self.part}", epoch, index)
                if getattr(self.objective, "partners", False):
                    other = self.objective.prepare(self.samples[int(generator.integers(len(self.samples)))])
                    example = Example({**example.arrays, "other": other.arrays["tokens"]}, example.cut)
                example = self.objective.corrupt(example, generator)
            examples.append(example)
        if self._training and getattr(self.objective, "mixes", False):
            mix = cast(Any, self.objective).mix
            examples = mix(examples, numpy_generator(self.seed, "mix", epoch, int(indices[0])))
        return self.objective.collate(examples)

    @property
    def _training(self) -> bool:
        return self.part == "train"

    def updates(self, updates: Iterator[list[MicroBatch]]) -> Iterator[list[Batch]]:
        """Each update's micro-batches as batches, prepared in worker processes if asked for."""
        sizes: list[int] = []

        def requests() -> Iterator[Request]:
            for update in updates:
                sizes.append(len(update))
                for micro in update:
                    yield micro.epoch, self.sampler.indices(micro.epoch, micro.start, micro.stop)

        batches = load_batches(requests(), self.batch, self.num_workers)
        while True:
            first = next(batches)
            yield [first, *(next(batches) for _ in range(sizes.pop(0) - 1))]

    def first(self, batch_size: int, batches: int) -> list[Batch]:
        """The first epoch's first batches, as many as there are."""
        return [
            self.batch((0, indices))
            for start in range(0, batches * batch_size, batch_size)
            if len(indices := self.sampler.indices(0, start, start + batch_size))
        ]

    def padding_share(self, batch_size: int, batches: int = 4) -> float:
        """The share of padding among all positions of the first batches."""
        made = self.first(batch_size, batches)
        positions = sum(batch.positions for batch in made)
        return 1 - sum(batch.tokens for batch in made) / max(1, positions)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All samples once, in order."""
        for start in range(0, len(self.samples), batch_size):
            yield self.batch((0, self.sampler.indices(0, start, min(start + batch_size, len(self.samples)))))
