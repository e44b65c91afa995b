"""Phases are plans one after the other: every position is computed, every sample of every epoch is seen."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trifecta.training.plan import MicroBatch, Phases, Plan

pytestmark = pytest.mark.fast

by_epochs = st.builds(
    Plan, samples=st.integers(1, 40), batch_size=st.integers(1, 9), gradient_accumulation_steps=st.integers(1, 3),
    epochs=st.integers(1, 3), max_steps=st.none(),
)  # fmt: skip
by_steps = st.builds(
    Plan, samples=st.integers(1, 40), batch_size=st.integers(1, 9), gradient_accumulation_steps=st.integers(1, 3),
    epochs=st.just(1), max_steps=st.integers(1, 20),
)  # fmt: skip
courses = st.builds(Phases, st.lists(by_epochs | by_steps, min_size=1, max_size=4))


def walk(phases: Phases, seen: int = 0, step: int = 0) -> list[list[MicroBatch]]:
    made = []
    while step < phases.total_steps(step, seen):
        made.append(phases.update(seen))
        seen += sum(micro.stop - micro.start for micro in made[-1])
        step += 1
    return made


@settings(max_examples=50)
@given(courses)
def test_phases_are_their_plans_one_after_the_other(phases: Phases) -> None:
    """Against walking through each plan by itself."""
    alone: list[list[tuple[int, int, int, int]]] = []
    for number, plan in enumerate(phases.plans):
        seen = 0
        for _ in range(plan.total_steps(0, 0)):
            update = plan.update(seen)
            alone.append([(number, micro.epoch, micro.start, micro.stop) for micro in update])
            seen += sum(micro.stop - micro.start for micro in update)
        assert seen == plan.length
    assert [[(m.phase, m.epoch, m.start, m.stop) for m in update] for update in walk(phases)] == alone
    assert phases.total_steps(0, 0) == len(alone)


@settings(max_examples=50)
@given(courses)
def test_what_is_said_of_a_position_follows_from_it_alone(phases: Phases) -> None:
    """All steps, the epoch's number, and where epochs and phases end, at every step of a run."""
    seen, ended, epochs = 0, 0, phases.epochs_in_all(0, 0)
    updates = walk(phases)
    for step, update in enumerate(updates):
        assert phases.total_steps(step, seen) == len(updates)
        assert phases.finished_epochs(seen) == ended
        first = update[0]
        assert phases.phase(seen) == first.phase
        assert phases.begins_phase(seen) == (first.epoch == first.start == 0)
        seen += sum(micro.stop - micro.start for micro in update)
        following = updates[step + 1][0] if step + 1 < len(updates) else None
        ends = following is None or following.start == 0
        assert phases.at_epoch_end(seen) == ends
        ended += ends
    assert ended == epochs == phases.finished_epochs(seen)


@settings(max_examples=50)
@given(courses, st.data())
def test_a_run_that_is_taken_up_anywhere_goes_on_as_it_was(phases: Phases, data: st.DataObject) -> None:
    updates = walk(phases)
    step = data.draw(st.integers(0, len(updates)))
    seen = sum(micro.stop - micro.start for update in updates[:step] for micro in update)
    assert walk(phases, seen, step) == updates[step:]


def test_control_an_epoch_counted_by_samples_alone_is_noticed() -> None:
    """A phase cut off in mid-epoch ends an epoch, which division by an epoch's samples doesn't see."""
    phases = Phases([Plan(10, 4, 1, 1, 2), Plan(10, 5, 1, 1, None)])
    assert [len(update) and update[0].phase for update in walk(phases)] == [0, 0, 1, 1]
    assert phases.at_epoch_end(8)
    assert not phases.plans[0].at_epoch_end(8)
