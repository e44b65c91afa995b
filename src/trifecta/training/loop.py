"""The one loop: a generator of StepReports. It steps, and between steps does whatever is due.

What is due follows from the progress alone, so a run that was killed anywhere goes on as if it had not been:
validation, sample and save of a step happen once, in that order, before the next step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from trifecta.errors import NumericsError, ResourceError
from trifecta.evaluation.evaluate import Evaluation
from trifecta.evaluation.metrics import perplexity
from trifecta.execution.compile import Again
from trifecta.execution.memory import release
from trifecta.execution.precision import LossScaler
from trifecta.optim import Schedule
from trifecta.optim.gradients import Transform
from trifecta.optim.perturbations import Passes, plain
from trifecta.training.plan import Course, MicroBatch
from trifecta.training.spikes import Watch
from trifecta.training.state import TrainState
from trifecta.training.step import UNLIMITED, OutOfMemory, Update, update
from trifecta.types import Batch, Spike, StepReport

Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Stepping:
    """How updates are made."""

    module: torch.nn.Module
    plan: Course
    schedule: Schedule
    learning_rate: float
    transforms: Sequence[Transform]
    max_nonfinite_steps: int
    seed: int
    device: torch.device
    autocast: Callable[[], AbstractContextManager[object]]
    load: Callable[[Iterator[list[MicroBatch]]], Iterator[list[Batch]]]
    scaler: LossScaler | None = None
    passes: Passes = plain
    shrink: Callable[[int, str], Course] | None = None
    """When so many samples at once didn't fit, for this reason: a plan with smaller micro-batches."""
    watch: Watch | None = None
    go_back: Callable[[int], bool] = lambda _: False
    """Loads weights and moments of a step's checkpoint; False if there is none."""


@dataclass(frozen=True)
class Cadence:
    """How often what is done between updates; None is never, except that the end always validates and saves."""

    evaluate_every_n_steps: int | None = None
    early_stopping_patience: int | None = None
    sample_every_n_epochs: int | None = None
    save_every_n_epochs: int | None = None
    save_every_n_steps: int | None = None
    save_every_minutes: float | None = None
    return_every_n_steps: int | None = None
    save_best: bool = True


@dataclass(frozen=True)
class Services:
    """What the loop calls between updates; handed in, so that the loop knows neither text nor files.

    evaluate: validation of the whole split, None if interrupted. sample: (prompt, text) or None. save: gets the reason.
    stop_requested: the reason of a signal ("interrupted", "terminated") or None. emit: an event for journal and hooks.
    phase_event: what is said at the beginning of each phase. samples_of: numbers of the samples of the update that
    begins after so many; said of one that wasn't made.
    """

    evaluate: Callable[[], Evaluation | None]
    sample: Callable[[], tuple[str, str]] | None
    save: Callable[[str], None]
    emit: Emit
    stop_requested: Callable[[], str | None] = lambda: None
    phase_event: Callable[[], dict[str, Any]] = dict
    samples_of: Callable[[int], list[int]] = lambda _: []
    clock: Callable[[], float] = time.monotonic


def steps(state: TrainState, how: Stepping) -> Generator[StepReport, None, None]:
    """Updates without end; each one has happened, and is counted in the state, when its report comes."""
    progress = state.progress
    seen = progress.samples_seen
    started = time.perf_counter()
    loaded = how.load(how.plan.updates(seen))
    for batches in loaded:
        epoch = how.plan.finished_epochs(progress.samples_seen) + 1
        number = progress.step + 1
        learning_rate = how.learning_rate * how.schedule(number)
        if not math.isfinite(learning_rate):
            raise NumericsError(
                f"the learning rate of step {number} is {learning_rate}; no weight was touched by it",
                fix="give a schedule whose factors are finite numbers",
            )
        limits = how.watch.limits(progress) if how.watch else UNLIMITED
        done = update(
            how.module, state.optimizers, batches, number=number, learning_rate=learning_rate,
            transforms=how.transforms, seed=how.seed, device=how.device, autocast=how.autocast,
            scaler=how.scaler, passes=how.passes, limits=limits,
        )  # fmt: skip
        spike = Spike(limits.loss, limits.grad_norm, _go_back(how, progress.step)) if done.beyond_limits else None
        if how.watch:
            how.watch.note(progress, done.loss, done.grad_norm)
        now = time.perf_counter()
        if state.ema is not None and not done.skipped:
            state.ema.update(number)
        _count(state, done, now - started, how.scaler)
        yield StepReport(
            step=number, epoch=epoch, loss=done.loss, grad_norm=done.grad_norm, learning_rate=learning_rate,
            tokens=done.tokens, seconds=now - started, skipped=done.skipped, spike=spike, terms=done.terms,
            metrics=done.metrics,
        )  # fmt: skip
        if progress.nonfinite_in_a_row >= how.max_nonfinite_steps:
            raise NumericsError(
                f"loss or gradient was not finite in {progress.nonfinite_in_a_row} steps in a row, the last of them "
                f"step {number} (loss {done.loss}, gradient norm {done.grad_norm}); no weight was touched by them",
                fix="lower training.learning_rate (a tenth), lengthen training.warmup_steps, or use precision fp32",
            )
        started = time.perf_counter()


def steps_that_fit(state: TrainState, how: Stepping) -> Generator[StepReport, None, None]:
    """The same, with smaller micro-batches after memory ran out, and uncompiled after what was compiled failed: the
    update begins again.
    """
    while True:
        try:
            yield from steps(state, how)
            return
        except Again:
            continue
        except OutOfMemory as error:
            if how.shrink is None:
                raise ResourceError(f"out of memory: {error}", fix="use a smaller training.batch_size") from None
            samples, reason = error.samples, str(error)
        release(how.device)
        how = replace(how, plan=how.shrink(samples, reason))


def _go_back(how: Stepping, step: int) -> int | None:
    """The step whose weights and moments are back, if any are."""
    place = how.watch.place_before(step) if how.watch else None
    return place if place is not None and how.go_back(place) else None


def _count(state: TrainState, done: Update, seconds: float, scaler: LossScaler | None) -> None:
    progress = state.progress
    if scaler is not None:
        progress.loss_scale, progress.loss_scale_good_steps = scaler.scale, scaler.good_steps
    progress.step += 1
    progress.samples_seen += done.samples
    progress.tokens_seen += done.tokens
    progress.seconds += seconds
    progress.nonfinite_in_a_row = progress.nonfinite_in_a_row + 1 if done.skipped and not done.beyond_limits else 0
    if done.skipped:
        return
    progress.loss = done.loss
    progress.epoch_nats += done.loss * done.weight
    progress.epoch_weight += done.weight


def train(state: TrainState, how: Stepping, cadence: Cadence, services: Services) -> Generator[StepReport, None, None]:
    """Steps until the plan is done, early stopping or a signal, doing between steps what is due.

    The last thing it does is to save; `state.progress.status` then says why it ended.
    """
    between = _Between(state, how.plan, cadence, services)
    reports = steps_that_fit(state, how)
    try:
        while not between.do_what_is_due():
            if how.plan.begins_phase(state.progress.samples_seen):
                services.emit(services.phase_event())
            seen = state.progress.samples_seen
            report = next(reports)
            services.emit(_step_event(report) | ({"samples": services.samples_of(seen)} if report.skipped else {}))
            yield report
    finally:
        reports.close()
    services.emit(end_event(state))
    if progress_only_skipped(state):
        raise NumericsError(
            f"no update happened: loss or gradient was not finite in all {state.progress.step} steps",
            fix="lower training.learning_rate or training.adversary.epsilon, or use precision fp32",
        )


def progress_only_skipped(state: TrainState) -> bool:
    """Whether a run that is over has never changed a weight."""
    progress = state.progress
    return 0 < progress.step == progress.nonfinite_in_a_row and progress.status == "finished"


def end_event(state: TrainState) -> dict[str, Any]:
    """How a run stands when it ends."""
    progress = state.progress
    return {
        "event": "end", "step": progress.step, "status": progress.status, "seconds": progress.seconds,
        "loss": progress.loss, "best_loss": progress.best_loss, "best_step": progress.best_step,
    }  # fmt: skip


def _step_event(report: StepReport) -> dict[str, Any]:
    return {
        "event": "step", "step": report.step, "epoch": report.epoch, "loss": report.loss,
        "learning_rate": report.learning_rate, "grad_norm": report.grad_norm, "tokens": report.tokens,
        "seconds": report.seconds, "skipped": report.skipped, **report.metrics,
        **({"spike": asdict(report.spike)} if report.spike else {}),
    }  # fmt: skip


class _Between:
    """What happens between two steps, decided by the progress alone."""

    def __init__(self, state: TrainState, plan: Course, cadence: Cadence, services: Services):
        self.state, self.plan, self.cadence, self.services = state, plan, cadence, services
        self.progress = state.progress
        self.total_steps = plan.total_steps(self.progress.step, self.progress.samples_seen)
        self.saved_at = services.clock()

    def do_what_is_due(self) -> bool:
        """Validates, samples and saves as far as due; True when the run is over."""
        progress = self.progress
        stop = self.services.stop_requested()
        improved = False
        if not stop and self._evaluation_due():
            improved = self._evaluate()
            stop = self.services.stop_requested()
        if not stop:
            self._report_epoch()
        over = None if stop else self._is_over()
        progress.status = over or stop or progress.status
        reason = over or stop or self._save_due() or ("best" if improved and self.cadence.save_best else None)
        if reason and (progress.saved_step != progress.step or over or improved):
            progress.saved_step = progress.step
            self.services.save(reason)
            self.saved_at = self.services.clock()
        return bool(over or stop)

    @property
    def _at_epoch_end(self) -> bool:
        return self.plan.at_epoch_end(self.progress.samples_seen)

    @property
    def _at_end(self) -> bool:
        return self.progress.step >= self.total_steps

    def _evaluation_due(self) -> bool:
        every, progress = self.cadence.evaluate_every_n_steps, self.progress
        if progress.evaluated_step == progress.step or progress.step == 0:
            return False
        return self._at_end or (progress.step % every == 0 if every else self._at_epoch_end)

    def _evaluate(self) -> bool:
        """Validates; True if the loss is the best so far."""
        progress = self.progress
        evaluation = self.services.evaluate()
        if evaluation is None:
            return False
        progress.evaluated_step = progress.step
        improved = evaluation.loss == evaluation.loss and (
            progress.best_loss is None or evaluation.loss < progress.best_loss
        )
        if improved:
            progress.best_loss, progress.best_step = evaluation.loss, progress.step
            progress.evaluations_without_gain = 0
        else:
            progress.evaluations_without_gain += 1
        self.services.emit(
            {
                "event": "evaluation", "step": progress.step, "epoch": self._epoch, "split": "validation",
                "loss": evaluation.loss, "perplexity": evaluation.perplexity,
                "bits_per_byte": evaluation.bits_per_byte, "tokens": evaluation.tokens,
                "seconds": evaluation.seconds, "best": improved, **evaluation.metrics,
            }
        )  # fmt: skip
        return improved

    @property
    def _epoch(self) -> int:
        """Of the samples just seen, from 1."""
        finished = self.plan.finished_epochs(self.progress.samples_seen)
        return max(1, finished if self._at_epoch_end else finished + 1)

    def _report_epoch(self) -> None:
        progress = self.progress
        if self._at_epoch_end and progress.reported_epoch < self._epoch:
            loss = progress.epoch_nats / progress.epoch_weight if progress.epoch_weight else float("nan")
            self.services.emit(
                {
                    "event": "epoch", "epoch": self._epoch, "step": progress.step,
                    "loss": loss, "perplexity": perplexity(loss),
                }
            )  # fmt: skip
            progress.epoch_nats = progress.epoch_weight = 0.0
            progress.reported_epoch = self._epoch
        every = self.cadence.sample_every_n_epochs
        sample_due = every and ((self._at_epoch_end and self._epoch % every == 0) or self._at_end)
        if sample_due and self.services.sample is not None and progress.sampled_step != progress.step:
            prompt, text = self.services.sample()
            progress.sampled_step = progress.step
            self.services.emit({"event": "sample", "step": progress.step, "prompt": prompt, "text": text})

    def _is_over(self) -> str | None:
        patience = self.cadence.early_stopping_patience
        if patience is not None and self.progress.evaluations_without_gain >= patience:
            return "stopped_early"
        return "finished" if self._at_end else None

    def _save_due(self) -> str | None:
        progress, cadence = self.progress, self.cadence
        if progress.step == 0 or progress.saved_step == progress.step:
            return None
        if cadence.save_every_n_steps and progress.step % cadence.save_every_n_steps == 0:
            return "steps"
        if cadence.return_every_n_steps and progress.step % cadence.return_every_n_steps == 0:
            return "to go back to"
        if cadence.save_every_n_epochs and self._at_epoch_end and self._epoch % cadence.save_every_n_epochs == 0:
            return "epochs"
        minutes = cadence.save_every_minutes
        return "minutes" if minutes and self.services.clock() - self.saved_at >= 60 * minutes else None
