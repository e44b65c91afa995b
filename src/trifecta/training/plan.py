"""Which samples each update sees, and how many updates there are, computed from the samples seen so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class MicroBatch:
    """Samples start..stop-1 of one epoch's order (epoch counted from 0)."""

    epoch: int
    start: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """An epoch is cut into micro-batches of batch_size (the last may be smaller), and these into updates.

    No update crosses an epoch's end. The cursor is the number of samples seen, so any position is found by division,
    and another batch size on resume goes on from the same sample.

    Args:
        samples: in one epoch. epochs: to run, unless max_steps is given.
        micro_batch_size: computed at once, where that isn't batch_size; an update has as many samples all the same.
    """

    samples: int
    batch_size: int
    gradient_accumulation_steps: int
    epochs: int
    max_steps: int | None
    micro_batch_size: int | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Updates in a whole epoch."""
        return -(-self.samples // self._samples_per_step)

    @property
    def _samples_per_step(self) -> int:
        return self.batch_size * self.gradient_accumulation_steps

    def total_steps(self, step: int, samples_seen: int) -> int:
        """All updates of the run, of which `step` are done: the same at every step of a run that goes unchanged."""
        if self.max_steps is not None:
            return self.max_steps
        epoch, position = divmod(samples_seen, self.samples)
        if epoch >= self.epochs:
            return step
        here = -(-(self.samples - position) // self._samples_per_step)
        return step + here + (self.epochs - epoch - 1) * self.steps_per_epoch

    def update(self, samples_seen: int) -> list[MicroBatch]:
        """The micro-batches of the update that begins after this many samples."""
        epoch, position = divmod(samples_seen, self.samples)
        stop = min(position + self._samples_per_step, self.samples)
        cuts = [*range(position, stop, self.micro_batch_size or self.batch_size), stop]
        return [MicroBatch(epoch, a, b) for a, b in pairwise(cuts)]

    def updates(self, samples_seen: int) -> Iterator[list[MicroBatch]]:
        """Updates without end from a position on."""
        while True:
            update = self.update(samples_seen)
            yield update
            samples_seen += sum(micro.stop - micro.start for micro in update)

    def step_in_epoch(self, samples_seen: int) -> int:
        """Updates of this size that the epoch has had so far, or would have had after another size."""
        return samples_seen % self.samples // self._samples_per_step

    def epochs_in_all(self, step: int, samples_seen: int) -> int:
        """Epochs that the whole run touches."""
        epoch, position = divmod(samples_seen, self.samples)
        ahead = self.total_steps(step, samples_seen) - step
        here = -(-(self.samples - position) // self._samples_per_step) if position else 0
        return epoch + (position > 0) + max(0, -(-(ahead - here) // self.steps_per_epoch))

    def finished_epochs(self, samples_seen: int) -> int:
        """Whole epochs seen."""
        return samples_seen // self.samples
