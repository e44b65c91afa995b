"""Positions are computed, and every sample of an epoch is seen once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trifecta.training.plan import Plan

plans = st.builds(
    Plan, samples=st.integers(1, 60), batch_size=st.integers(1, 9), gradient_accumulation_steps=st.integers(1, 4),
    epochs=st.integers(1, 3), max_steps=st.none(),
)  # fmt: skip


@pytest.mark.fast
@given(plans)
def test_each_epoch_sees_each_sample_once_and_no_update_crosses_an_end(plan: Plan) -> None:
    seen, step, total = 0, 0, plan.total_steps(0, 0)
    order: list[tuple[int, int]] = []
    while step < total:
        assert plan.total_steps(step, seen) == total
        update = plan.update(seen)
        assert len(update) <= plan.gradient_accumulation_steps
        assert len({micro.epoch for micro in update}) == 1
        for micro in update:
            assert 1 <= micro.stop - micro.start <= plan.batch_size
            order += [(micro.epoch, i) for i in range(micro.start, micro.stop)]
            seen += micro.stop - micro.start
        step += 1
    assert order == [(e, i) for e in range(plan.epochs) for i in range(plan.samples)]
    assert total == plan.epochs * plan.steps_per_epoch
    assert plan.finished_epochs(seen) == plan.epochs


@pytest.mark.fast
def test_another_batch_size_goes_on_from_the_same_sample() -> None:
    before = Plan(samples=100, batch_size=10, gradient_accumulation_steps=1, epochs=2, max_steps=None)
    after = Plan(samples=100, batch_size=30, gradient_accumulation_steps=1, epochs=2, max_steps=None)
    assert before.total_steps(0, 0) == 20
    assert [(m.start, m.stop) for m in after.update(50)] == [(50, 80)]
    assert after.total_steps(5, 50) == 5 + 2 + 4


@pytest.mark.fast
def test_positions_far_out_are_computed_not_replayed() -> None:
    plan = Plan(samples=10**12, batch_size=32, gradient_accumulation_steps=2, epochs=10**6, max_steps=None)
    (first, second) = plan.update(10**17 + 64)
    assert (first.epoch, first.start, second.stop) == (10**5, 64, 128)


@pytest.mark.fast
@given(plans, st.integers(1, 9), st.data())
def test_where_a_run_stands_and_ends_after_another_batch_size(plan: Plan, batch_size: int, data: st.DataObject) -> None:
    """What the console says: steps of the new size within the epoch, and epochs in all, against walking there."""
    seen, done = 0, data.draw(st.integers(0, plan.total_steps(0, 0)))
    for _ in range(done):
        seen += sum(micro.stop - micro.start for micro in plan.update(seen))
    after = Plan(plan.samples, batch_size, 1, plan.epochs, data.draw(st.none() | st.integers(done, done + 50)))
    assert after.step_in_epoch(seen) == seen % plan.samples // batch_size
    end = seen
    for _ in range(after.total_steps(done, seen) - done):
        end += sum(micro.stop - micro.start for micro in after.update(end))
    assert after.epochs_in_all(done, seen) == -(-end // plan.samples)
