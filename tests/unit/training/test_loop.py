"""The loop: what happens between steps, in which order, and what a resume repeats."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from trifecta.errors import NumericsError
from trifecta.evaluation.evaluate import Evaluation
from trifecta.execution.precision import LossScaler
from trifecta.optim import OPTIMIZERS, Schedule, Trainable
from trifecta.training.loop import Cadence, Services, Stepping, train
from trifecta.training.plan import MicroBatch, Plan
from trifecta.training.state import Progress, TrainState
from trifecta.types import Batch, LossSum


class Module(nn.Module):
    """Learns a constant; loss is a sum over samples. `poison` makes steps not finite, `overflow` their gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, 1))
        self.poison = self.overflow = False
        self.w.register_hook(lambda gradient: gradient * float("inf") if self.overflow else gradient)

    def forward(self, batch: Batch) -> LossSum:
        error = (self.w[0, 0] - batch.inputs["x_BT"][:, 0]).square().sum()
        return LossSum({"error": (error * float("nan") if self.poison else error, batch.weights["error"])})


class World:
    """A run with scripted validation losses, and a list of what happened."""

    most_nonfinite = 3

    def __init__(self, losses: list[float], *, samples: int = 8, epochs: int = 2, **cadence: Any):
        self.module = Module()
        trainable = Trainable({"w": self.module.w}, {"w": "matrix"})
        optimizers = OPTIMIZERS["sgd"](trainable, 0.1, momentum=0.9, nesterov=False, weight_decay=0.0)
        self.state = TrainState(self.module, optimizers, Progress())
        self.plan = Plan(samples=samples, batch_size=2, gradient_accumulation_steps=1, epochs=epochs, max_steps=None)
        self.losses = losses
        self.stop: str | None = None
        self.happened: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.now = 0.0
        self.scaler: LossScaler | None = None
        self.schedule: Schedule = lambda _: 1.0
        self.saved: list[Progress] = []
        self.cadence = Cadence(**cadence)

    def load(self, updates: Iterator[list[MicroBatch]]) -> Iterator[list[Batch]]:
        for update in updates:
            yield [self.batch(m.start, m.stop) for m in update]

    def batch(self, start: int, stop: int) -> Batch:
        x_BT = torch.arange(start, stop).float()[:, None]
        return Batch({"x_BT": x_BT}, {}, {"error": float(stop - start)}, samples=stop - start, tokens=stop - start)

    def evaluate(self) -> Evaluation:
        loss = self.losses[min(len(self.losses) - 1, sum(h.startswith("evaluate") for h in self.happened))]
        self.happened.append(f"evaluate {self.state.progress.step}")
        return Evaluation(loss=loss, perplexity=1.0, bits_per_byte=1.0, tokens=1, seconds=0.0)

    def sample(self) -> tuple[str, str]:
        self.happened.append(f"sample {self.state.progress.step}")
        return "The", "The end"

    def save(self, reason: str) -> None:
        progress = self.state.progress
        best = self.cadence.save_best and progress.best_step == progress.step == progress.evaluated_step
        self.happened.append(f"save {self.state.progress.step} {reason}" + (" best" if best else ""))
        self.saved.append(copy.deepcopy(self.state.progress))

    def run(self) -> World:
        stepping = Stepping(
            module=self.module, plan=self.plan, schedule=self.schedule, learning_rate=0.01, transforms=(),
            max_nonfinite_steps=self.most_nonfinite, seed=1, device=torch.device("cpu"), autocast=nullcontext,
            load=self.load, scaler=self.scaler,
        )  # fmt: skip
        services = Services(
            evaluate=self.evaluate, sample=self.sample, save=self.save, emit=self.events.append,
            stop_requested=lambda: self.stop, clock=lambda: self.now,
        )  # fmt: skip
        for report in train(self.state, stepping, self.cadence, services):
            self.happened.append(f"step {report.step}")
            self.on_step(report.step)
        return self

    def on_step(self, step: int) -> None:
        """What a test wants to happen during a step."""

    def not_steps(self) -> list[str]:
        return [h for h in self.happened if not h.startswith("step")]


@pytest.mark.fast
def test_order_of_things_and_final_save() -> None:
    world = World([1.0, 0.5], sample_every_n_epochs=1).run()
    assert world.happened == [
        "step 1", "step 2", "step 3", "step 4", "evaluate 4", "sample 4", "save 4 best best",
        "step 5", "step 6", "step 7", "step 8", "evaluate 8", "sample 8", "save 8 finished best",
    ]  # fmt: skip
    kinds = [e["event"] for e in world.events]
    assert kinds.count("step") == 8
    assert kinds[-1] == "end"
    assert [e["loss"] for e in world.events if e["event"] == "epoch"][1] > 0
    assert world.state.progress.status == "finished"


@pytest.mark.fast
def test_saves_by_steps_epochs_and_minutes() -> None:
    world = World([1.0], save_best=False, save_every_n_steps=3).run()
    assert [h for h in world.happened if h.startswith("save")] == ["save 3 steps", "save 6 steps", "save 8 finished"]
    world = World([1.0], epochs=3, save_best=False, save_every_n_epochs=2).run()
    assert [h for h in world.happened if h.startswith("save")] == ["save 8 epochs", "save 12 finished"]
    world = World([1.0], save_best=False, save_every_minutes=1.0)
    world.on_step = lambda _: setattr(world, "now", world.now + 25)  # type: ignore[method-assign]
    world.run()
    assert [h for h in world.happened if h.startswith("save")] == [
        "save 3 minutes",
        "save 6 minutes",
        "save 8 finished",
    ]


@pytest.mark.fast
def test_fault_017_first_metric_nan_then_a_finite_one_becomes_best() -> None:
    """A NaN is never best; the first finite loss after it is."""
    world = World([float("nan"), 0.7]).run()
    assert (world.state.progress.best_loss, world.state.progress.best_step) == (0.7, 8)


@pytest.mark.fast
def test_fault_018_early_stopping_stops_at_the_same_step_after_a_resume_and_stays_stopped() -> None:
    """Resumed from any save, early stopping stops at the same step; a stopped run stays stopped."""
    losses = [1.0, 1.1, 1.2, 1.3, 1.4]
    whole = World(losses, epochs=9, early_stopping_patience=3, save_every_n_steps=1).run()
    assert whole.state.progress.status == "stopped_early"
    assert whole.state.progress.step == 16
    for saved in whole.saved[:-1]:
        resumed = World(losses[saved.step // 4 :], epochs=9, early_stopping_patience=3, save_every_n_steps=1)
        resumed.state.progress = copy.deepcopy(saved)
        resumed.run()
        assert resumed.state.progress.step == 16, saved
    again = World([0.1], epochs=9, early_stopping_patience=3)
    again.state.progress = copy.deepcopy(whole.state.progress)
    again.run()
    assert "step 17" not in again.happened


@pytest.mark.fast
def test_fault_018_control_a_forgotten_counter_is_noticed() -> None:
    """With the counter forgotten at a resume, early stopping stops at another step."""
    losses = [1.0, 1.1, 1.2, 1.3, 1.4]
    whole = World(losses, epochs=9, early_stopping_patience=3, save_every_n_steps=1).run()
    forgetful = World(losses[2:], epochs=9, early_stopping_patience=3)
    forgetful.state.progress = copy.deepcopy(whole.saved[8])
    forgetful.state.progress.evaluations_without_gain = 0
    forgetful.run()
    assert forgetful.state.progress.step != 16


@pytest.mark.fast
@pytest.mark.parametrize("at", range(1, 9))
def test_resume_at_any_step_repeats_and_forgets_nothing(at: int) -> None:
    options: dict[str, Any] = {"sample_every_n_epochs": 1, "save_every_n_steps": 1}
    whole = World([1.0, 0.9], **options).run()
    first = World([1.0, 0.9], **options)
    first.on_step = lambda step: setattr(first, "stop", "terminated" if step == at else None)  # type: ignore[method-assign]
    first.run()
    assert first.state.progress.status == "terminated"
    second = World([1.0, 0.9][at // 4 - (at % 4 == 0) :] if at >= 4 else [1.0, 0.9], **options)
    second.module.load_state_dict(first.module.state_dict())
    second.state.optimizers.load_state_tensors(first.state.optimizers.state_tensors())
    second.state.progress = copy.deepcopy(first.saved[-1])
    second.state.progress.status = "running"
    second.run()
    together = [h for h in first.happened + second.happened if not h.startswith("save")]
    assert together == [h for h in whole.happened if not h.startswith("save")]
    assert torch.equal(second.module.w, whole.module.w)
    epochs = [e for world in (first, second) for e in world.events if e["event"] == "epoch"]
    assert epochs == [e for e in whole.events if e["event"] == "epoch"]


@pytest.mark.fast
def test_fault_024_a_signal_before_the_first_step_saves_and_ends() -> None:
    """A signal before the first step saves step 0 and ends the run."""
    world = World([1.0])
    world.stop = "terminated"
    world.run()
    assert world.happened == ["save 0 terminated"]


@pytest.mark.fast
def test_fault_031_n_nonfinite_steps_in_a_row_end_the_run() -> None:
    """`max_nonfinite_steps` non-finite steps in a row (3 in the test) end the run (5), and the weights are
    untouched."""
    world = World([1.0])
    world.module.poison = True
    with pytest.raises(NumericsError, match="3 steps in a row") as caught:
        world.run()
    assert caught.value.exit_code == 5
    assert float(world.module.w.detach()) == 0.0
    assert [e["skipped"] for e in world.events if e["event"] == "step"] == [True] * 3


@pytest.mark.fast
def test_fault_031_a_run_without_any_update_is_a_failure() -> None:
    """A run shorter than `max_nonfinite_steps` in which every step was skipped ends with an error (5), too."""
    world = World([1.0])
    world.module.poison = True
    world.most_nonfinite = 10
    with pytest.raises(NumericsError, match="no update happened") as caught:
        world.run()
    assert caught.value.exit_code == 5
    assert [e["event"] for e in world.events][-1] == "end"


@pytest.mark.fast
def test_fault_031_a_single_nonfinite_step_advances_step_and_data() -> None:
    """A single non-finite step is skipped; the run goes on with the next step and the next data."""
    world = World([1.0])
    world.on_step = lambda step: setattr(world.module, "poison", step == 2)  # type: ignore[method-assign]
    world.run()
    assert [e["step"] for e in world.events if e["event"] == "step" and e["skipped"]] == [3]
    assert world.state.progress.samples_seen == 16


class Overflowing(World):
    """Gradients are infinite in the steps named `bad`; what is there after each step is noted."""

    def __init__(self, bad: set[int], scaler: LossScaler | None, **options: Any):
        super().__init__([1.0], **options)
        self.bad, self.scaler = bad, scaler
        self.schedule = lambda step: 1.0 + 0.1 * step
        self.weights: list[float] = []
        self.momenta: list[float] = []
        self.scales: list[float | None] = []
        self.seen: list[int] = []
        self.prepare(1)

    def prepare(self, step: int) -> None:
        self.module.overflow = step in self.bad

    def on_step(self, step: int) -> None:
        progress = self.state.progress
        assert progress.step == step
        self.weights.append(float(self.module.w.detach()))
        self.momenta += [float(moment) for moment in self.state.optimizers.state_tensors().values() if moment.numel()]
        self.scales.append(progress.loss_scale)
        self.seen.append(progress.samples_seen)
        self.prepare(step + 1)


@pytest.mark.fast
def test_fault_033_an_infinite_gradient_halves_the_scale_and_skips_the_update() -> None:
    """At each infinite gradient the scale halves and neither weight nor momentum moves, while the step, the data and
    the learning rate go on; after three good steps the scale doubles. Otherwise the run is that of fp32."""
    world = Overflowing({3, 4}, LossScaler(1024.0, 2.0, 0.5, growth_interval=3))
    world.run()
    assert world.scales == [1024, 1024, 512, 256, 256, 256, 512, 512]
    assert (world.scaler.good_steps, world.state.progress.loss_scale_good_steps) == (1, 1)  # type: ignore[union-attr]
    assert world.weights[1] == world.weights[2] == world.weights[3]
    assert len(set(world.weights)) == 6
    assert world.momenta[1] == world.momenta[3] != world.momenta[4]
    assert world.seen == [2, 4, 6, 8, 10, 12, 14, 16]
    steps = [event for event in world.events if event["event"] == "step"]
    assert [event["skipped"] for event in steps] == [step in (3, 4) for step in range(1, 9)]
    assert [event["learning_rate"] for event in steps] == [0.01 * (1.0 + 0.1 * step) for step in range(1, 9)]
    assert world.state.progress.nonfinite_in_a_row == 0
    assert world.state.progress.status == "finished"
    plain = Overflowing({3, 4}, None)
    plain.run()
    assert (plain.weights, plain.momenta, plain.seen) == (world.weights, world.momenta, world.seen)
    assert plain.scales == [None] * 8


def _scale_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LossScaler, "update", lambda *_: None)


def _update_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trifecta.training.step.math.isfinite", lambda _: True)
    told, steps = LossScaler.update, itertools.count(1)
    monkeypatch.setattr(LossScaler, "update", lambda self, _: told(self, next(steps) not in (3, 4)))


def _step_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from trifecta.training import loop

    count = loop._count

    def forgetful(state: TrainState, done: Any, *others: Any) -> None:
        before = state.progress.samples_seen
        count(state, done, *others)
        if done.skipped:
            state.progress.samples_seen = before

    monkeypatch.setattr(loop, "_count", forgetful)


def _gradients_stay_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_foreach_mul_", lambda *_: None)


@pytest.mark.fast
@pytest.mark.parametrize("bug", [_scale_stays, _update_is_made, _step_is_tried_again, _gradients_stay_scaled])
def test_fault_033_control_an_overflow_handled_otherwise_is_noticed(
    bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scale that stays, an update that is made all the same, data that stand still, or gradients that stay scaled
    fail the test."""
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        test_fault_033_an_infinite_gradient_halves_the_scale_and_skips_the_update()


@pytest.mark.fast
def test_fault_033_a_scale_below_its_floor_ends_the_run() -> None:
    """Where no scale helps, the run ends with an error (5) before the scale falls below 2^-14, and no weight moved."""
    world = Overflowing(set(range(1, 100)), LossScaler(2.0**-12, 2.0, 0.5, growth_interval=3), samples=200)
    world.most_nonfinite = 100
    with pytest.raises(NumericsError, match="overflow even at a loss scale of") as caught:
        world.run()
    assert caught.value.exit_code == 5
    assert world.scales == [2.0**-13, 2.0**-14]
    assert set(world.weights) == {0.0}


@pytest.mark.fast
def test_fault_017_control_nan_taken_for_a_metric_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A NaN taken for a number fails the test."""

    class TakenForEqual(float):
        """NaN that passes for a number, as it does where nobody asks."""

        def __eq__(self, other: object) -> bool:
            return other is self

        __hash__ = float.__hash__

    monkeypatch.setattr(
        World, "evaluate", lambda self: Evaluation(
            TakenForEqual("nan") if self.state.progress.step == 4 else 0.7, 1.0, 1.0, 1, 0.0
        )
    )  # fmt: skip
    with pytest.raises(AssertionError):
        test_fault_017_first_metric_nan_then_a_finite_one_becomes_best()


@pytest.mark.fast
def test_the_default_cadence_is_by_minutes() -> None:
    """Nothing but time makes a run save by default: in an hour of half-minute steps six times, besides the best."""
    from trifecta.recipe.schema import Training

    defaults = Training()
    assert (defaults.save_every_n_steps, defaults.save_every_n_epochs) == (None, None)
    world = World([1.0], samples=240, epochs=1, save_best=False, save_every_minutes=defaults.save_every_minutes)
    world.on_step = lambda _: setattr(world, "now", world.now + 30)  # type: ignore[method-assign]
    world.run()
    assert [h for h in world.happened if h.startswith("save")] == [
        *(f"save {20 * n} minutes" for n in range(1, 6)), "save 120 finished",
    ]  # fmt: skip
