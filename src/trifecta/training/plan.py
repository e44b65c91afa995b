"""Which samples each update sees, and how many updates there are, computed from the samples seen so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Protocol


@dataclass(frozen=True)
class MicroBatch:
    """Samples start..stop-1 of one epoch's order. Epochs are counted from 0 in each phase, and phases from 0."""

    epoch: int
    start: int
    stop: int
    phase: int = 0


class Course(Protocol):
    """A run's way through its samples: one Plan, or several, one after the other (Phases)."""

    @property
    def steps_per_epoch(self) -> int:
        """Updates in a whole epoch, of the first phase where there are several."""

    def total_steps(self, step: int, samples_seen: int) -> int:
        """All updates of the run, of which `step` are done."""

    def update(self, samples_seen: int) -> list[MicroBatch]:
        """The micro-batches of the update that begins after this many samples."""

    def updates(self, samples_seen: int) -> Iterator[list[MicroBatch]]:
        """Updates without end from a position on."""

    def step_in_epoch(self, samples_seen: int) -> int:
        """Updates that the epoch has had so far."""

    def epochs_in_all(self, step: int, samples_seen: int) -> int:
        """Epochs that the whole run touches."""

    def finished_epochs(self, samples_seen: int) -> int:
        """Epochs that are over: whole ones, and those that a phase's end cut off."""

    def at_epoch_end(self, samples_seen: int) -> bool:
        """Whether the last of these samples was its epoch's last."""

    def phase(self, samples_seen: int) -> int:
        """The phase, from 0, to which the next sample belongs."""

    def begins_phase(self, samples_seen: int) -> bool:
        """Whether the next sample is the first of one of several phases."""


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
        return _updates(self, samples_seen)

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

    def at_epoch_end(self, samples_seen: int) -> bool:
        """Whether the last of these samples was its epoch's last."""
        return samples_seen > 0 and samples_seen % self.samples == 0

    def phase(self, samples_seen: int) -> int:
        """0: there is one phase."""
        del samples_seen
        return 0

    def begins_phase(self, samples_seen: int) -> bool:
        """No: there are no phases."""
        del samples_seen
        return False

    @property
    def length(self) -> int:
        """Samples of the whole run."""
        if self.max_steps is None:
            return self.epochs * self.samples
        epochs, steps = divmod(self.max_steps, self.steps_per_epoch)
        return epochs * self.samples + min(steps * self._samples_per_step, self.samples)

    def steps_to(self, samples_seen: int) -> int:
        """Updates of this size until so many samples were seen."""
        epoch, position = divmod(samples_seen, self.samples)
        return epoch * self.steps_per_epoch + -(-position // self._samples_per_step)


@dataclass(frozen=True)
class Phases:
    """Plans one after the other, each with its own samples and batch size; the last goes on if the run does.

    Where a phase ends follows from the plans, so the cursor stays one number. A phase's end is an epoch's end.
    """

    plans: Sequence[Plan]

    def _ends(self) -> list[int]:
        return list(accumulate(plan.length for plan in self.plans))

    def _place(self, samples_seen: int) -> tuple[int, int]:
        """The phase, and the samples seen in it."""
        ends = self._ends()
        phase = next((i for i, end in enumerate(ends[:-1]) if samples_seen < end), len(ends) - 1)
        return phase, samples_seen - (ends[phase - 1] if phase else 0)

    @property
    def steps_per_epoch(self) -> int:
        """Updates in a whole epoch of the first phase."""
        return self.plans[0].steps_per_epoch

    def total_steps(self, step: int, samples_seen: int) -> int:
        """All updates of the run, of which `step` are done."""
        phase, position = self._place(samples_seen)
        plan = self.plans[phase]
        here = max(0, plan.steps_to(plan.length) - plan.steps_to(position))
        return step + here + sum(plan.steps_to(plan.length) for plan in self.plans[phase + 1 :])

    def update(self, samples_seen: int) -> list[MicroBatch]:
        """The micro-batches of the update that begins after this many samples."""
        phase, position = self._place(samples_seen)
        return [replace(micro, phase=phase) for micro in self.plans[phase].update(position)]

    def updates(self, samples_seen: int) -> Iterator[list[MicroBatch]]:
        """Updates without end from a position on."""
        return _updates(self, samples_seen)

    def step_in_epoch(self, samples_seen: int) -> int:
        """Updates that the epoch has had so far."""
        phase, position = self._place(samples_seen)
        return self.plans[phase].step_in_epoch(position)

    def epochs_in_all(self, step: int, samples_seen: int) -> int:
        """Epochs of all phases, the last of each perhaps cut off."""
        del step, samples_seen
        return sum(map(_epochs, self.plans))

    def finished_epochs(self, samples_seen: int) -> int:
        """Epochs that are over: whole ones, and those that a phase's end cut off."""
        phase, position = self._place(samples_seen)
        plan = self.plans[phase]
        here = position // plan.samples if position < plan.length else _epochs(plan)
        return sum(map(_epochs, self.plans[:phase])) + here

    def at_epoch_end(self, samples_seen: int) -> bool:
        """Whether the last of these samples was its epoch's last, or its phase's."""
        phase, position = self._place(samples_seen)
        if position == 0:
            return phase > 0
        return position % self.plans[phase].samples == 0 or position == self.plans[phase].length

    def phase(self, samples_seen: int) -> int:
        """The phase, from 0, to which the next sample belongs."""
        return self._place(samples_seen)[0]

    def begins_phase(self, samples_seen: int) -> bool:
        """Whether the next sample is the first of a phase."""
        return self._place(samples_seen)[1] == 0


def _epochs(plan: Plan) -> int:
    """Epochs that a phase touches."""
    return -(-plan.length // plan.samples)


def _updates(course: Course, samples_seen: int) -> Iterator[list[MicroBatch]]:
    while True:
        update = course.update(samples_seen)
        yield update
        samples_seen += sum(micro.stop - micro.start for micro in update)
