"""Trains a recipe in a folder, or goes on where it stopped."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trifecta.data.prepare import Prepared
from trifecta.errors import CheckpointError, RecipeError, ResourceError
from trifecta.evaluation.evaluate import Evaluation, evaluate
from trifecta.execution.compile import Again
from trifecta.execution.device import describe, resolve_device, set_deterministic, set_threads, switches
from trifecta.execution.memory import keep_freed_memory
from trifecta.execution.precision import LossScaler
from trifecta.optim import Optimizers
from trifecta.recipe.schema import Recipe
from trifecta.run import build, fitting, folder, rates, resuming
from trifecta.run.curriculum import Samples, unseen, with_curriculum
from trifecta.run.feed import Feed, Feeds
from trifecta.run.initial import require, take_weights
from trifecta.run.length import check_length
from trifecta.run.request import Request
from trifecta.run.resolution import Resolution, resolve, run_name, with_precision
from trifecta.run.resuming import Resume
from trifecta.run.samples import Sample, sample_of
from trifecta.run.tasks import TaskData
from trifecta.tokenizers import Tokenizer
from trifecta.tracking.journal import Journal
from trifecta.training import checkpoint, files, lock
from trifecta.training.hooks import Events, Hook, guarded
from trifecta.training.loop import Cadence, Services, Stepping, end_event
from trifecta.training.loop import train as loop
from trifecta.training.plan import Course
from trifecta.training.signals import StopRequest, stop_on_signals
from trifecta.training.state import Progress, TrainState
from trifecta.types import StepReport

FINISHED = "finished already; raise training.epochs or training.max_steps to go on"
PHASES_OVER = "finished already, all its phases; to train it further begin another run with training.init_from"
COMPILING = "the blocks are compiled on the way: the first steps, and those of a new length, take seconds to minutes"


@dataclass(frozen=True)
class Result:
    """How a run ended. status: finished, stopped_early, interrupted or terminated."""

    folder: Path
    status: str
    step: int
    loss: float | None
    best_loss: float | None
    seconds: float
    resume_command: str


def train(
    request: Request,
    *,
    out: Path | None = None,
    resume: Resume = "auto",
    hooks: Sequence[Hook] = (),
    report: build.Report | None = None,
) -> Result:
    """Trains until the recipe's end, early stopping or a signal.

    Args:
        out: the run's folder; by default runs/<data>-<preset>-<hash>, so that the same command goes on with it.
        resume: auto continues what is there; must refuses to start anew; never refuses to continue.
        hooks: get every event, and only watch.
        report: told what is being prepared, and how far a validation is.

    Raises:
        TrifectaError: with the cause, its place and the fix.
    """
    (last,) = deque(iterate(request, out=out, resume=resume, hooks=hooks, report=report), maxlen=1)
    assert isinstance(last, Result), "a run ends with its result"
    return last


def iterate(
    request: Request,
    *,
    out: Path | None = None,
    resume: Resume = "auto",
    hooks: Sequence[Hook] = (),
    report: build.Report | None = None,
) -> Iterator[StepReport | Result]:
    """The same, step by step: yields a StepReport after each update, and the Result at the end."""
    with ExitStack() as stack:
        resolution = resolve(request, out, lambda what: report(what, None) if report else None)
        place = out or Path("runs") / run_name(resolution)
        stack.enter_context(_folder_of_a_run(place))
        checkpoint.clean(place / folder.CHECKPOINTS)
        if (base := resolution.recipe.training.init_from) and not checkpoint.candidates(place / folder.CHECKPOINTS):
            require(base)
        data = build.data_of(resolution.recipe, resolution.text, report)
        stack.callback(set_deterministic, torch.are_deterministic_algorithms_enabled())
        run = _Training(place, resolution, data, resume, hooks, report)
        stack.enter_context(keep_freed_memory(run.device))
        execution = run.recipe.execution
        stack.enter_context(switches(tf32=execution.tf32, cudnn_benchmark=execution.cudnn_benchmark))
        stop = stack.enter_context(stop_on_signals())
        yield from run.reports(stop)
        progress = run.state.progress
        yield Result(
            folder=place, status=progress.status, step=progress.step, loss=progress.loss,
            best_loss=progress.best_loss, seconds=progress.seconds,
            resume_command=f"trifecta train -o {place}",
        )  # fmt: skip


@contextmanager
def _folder_of_a_run(place: Path) -> Iterator[None]:
    """Makes and locks the folder; if the block fails before anything was written, no new folder stays behind."""
    before = place.exists()
    with ExitStack() as stack:
        with files.disk_errors(place.parent, 0, "the run's folder"):
            place.mkdir(parents=True, exist_ok=True)
            folder.refuse_foreign(place)
            stack.enter_context(lock.hold(place))
        try:
            yield
        finally:
            if not before and {path.name for path in place.iterdir()} <= {lock.NAME}:
                shutil.rmtree(place)


class _Training:
    """One run in one process: the parts, and the services that the loop calls."""

    def __init__(
        self,
        place: Path,
        resolution: Resolution,
        data: Prepared[Tokenizer] | TaskData,
        resume: Resume,
        hooks: Sequence[Hook],
        report: build.Report | None,
    ):
        self.place, self.resolution, self.data = place, resolution, data
        self.notes = list(data.notes)
        self.saved = resuming.wanted(place, resume, self.notes.append)
        self.recipe, recorded = resuming.reconciled(resolution, self.saved, place, data.tokenizer)
        self.device = resolve_device(self.recipe.execution.device)
        set_threads(self.recipe.execution.threads)
        set_deterministic(self.recipe.training.deterministic)
        self.recipe, timed = with_precision(self.recipe, self.device)
        self.notes += timed
        self.objective = build.objective_of(self.recipe, data.tokenizer)
        model = build.model_of(self.recipe, self.objective)
        if self.saved is None and self.recipe.training.init_from is not None:
            self.notes += take_weights(model, self.recipe.training.init_from, build.fields(self.recipe.model))
        model = build.adapted(self.recipe, model).to(self.device)
        self.model = model
        optimizers, ema = build.optimizers_of(self.recipe, model), build.ema_of(self.recipe, model)
        self.state = TrainState(model, optimizers, Progress(), ema)
        self.switch = build.switch_of(self.recipe, self._note)
        self.module = build.module_of(self.recipe, model, self.objective, self.switch)
        self.root = place / folder.CHECKPOINTS
        self._restore()
        feeds = Feeds.of(self.recipe, self.objective, data.train, data.tokenizer).phases
        self.feeds = Feeds(
            tuple(with_curriculum(Samples(feed, data.tokenizer, place, report), self.recipe) for feed in feeds)
        )
        self.validation = Feed.of(self.recipe, self.objective, data.validation, training=False)
        feed = self.feeds.phases[0]
        if not feed.full_rows and self.objective.vocabulary.size:
            share = feed.padding_share(self.recipe.training.batch_size)
            self.notes.append(f"padding is {share:.1%} of the positions")
        if self.recipe.execution.fit_batch:
            self._fit(optimizers)
        if self.switch is not None and self.switch.on:
            self.notes.append(COMPILING)
        self.plan = self._course()
        progress = self.state.progress
        self.total_steps = self.plan.total_steps(progress.step, progress.samples_seen)
        if self.recipe.training.learning_rate is None:
            parameters = sum(parameter.numel() for parameter in model.parameters())
            self.recipe, why = rates.automatic(self.recipe, parameters, self.total_steps)
            self.notes.append(why)
        self.notes += build.warnings_of(self.recipe, self.device, data)
        in_all = self.total_steps * self.recipe.training.batch_size * self.recipe.training.gradient_accumulation_steps
        self.notes += filter(None, [unseen(feed, in_all)])
        self.watch = build.watch_of(self.recipe)
        check_length(self.recipe, self.resolution.resolved, self.total_steps, self.plan.steps_per_epoch)
        self._check_end()
        self.hooks = hooks
        self.tell = guarded(report, lambda event: self.emit(event))
        self.notes += recorded

    def _note(self, what: str) -> None:
        """Says it in the journal, now or when that begins."""
        if hasattr(self, "emit"):
            self.emit({"event": "note", "message": what})
        else:
            self.notes.append(what)

    def _fit(self, optimizers: Optimizers) -> None:
        """Micro-batches of what fits in the phase whose updates are largest."""
        phases = list(zip(build.phases_of(self.recipe), self.feeds.phases, strict=True))
        recipe, feed = max(phases, key=lambda phase: _tokens_per_step(phase[0]))

        def measure() -> tuple[Recipe, str]:
            with self.switch.guarded() if self.switch else nullcontext():
                return fitting.measured(recipe, feed, self.module, optimizers, self.device)

        try:
            measured, why = measure()
        except Again:  # uncompiled
            measured, why = measure()
        size = measured.execution.micro_batch_size
        assert size is not None
        self.recipe = fitting.with_micro_batch(self.recipe, size)
        self.notes.append(why)

    def _course(self) -> Course:
        return build.course_of(self.recipe, [len(feed.samples) for feed in self.feeds.phases])

    def _restore(self) -> None:
        text = ", ".join(self.resolution.recipe.data.paths) or self.resolution.text.name
        self.notes += resuming.restore(self.state, self.saved, resuming.fingerprints_of(self.data), self.place, text)
        if self.saved is not None:
            self._point_to(self.saved)

    def _point_to(self, saved: checkpoint.Checkpoint) -> None:
        """Lets `best` and `final` lead here if the progress says so: a kill can come between a save and its links."""
        progress = self.state.progress
        if progress.best_step == progress.step and self.recipe.training.save_best:
            checkpoint.point(self.root, "best", saved)
        if progress.status in ("finished", "stopped_early"):
            checkpoint.point(self.root, "final", saved)

    def _check_end(self) -> None:
        """A run can't be made shorter than it is."""
        progress, training = self.state.progress, self.recipe.training
        if training.phases is not None:
            return  # they can't be changed
        done, wanted, key = progress.step, training.max_steps, "training.max_steps"
        if wanted is None:
            done, wanted, key = self.plan.finished_epochs(progress.samples_seen), training.epochs, "training.epochs"
        if done > wanted:
            raise RecipeError(
                f"{key} is {wanted}, but this run has {done} already", where=str(self.place),
                fix=f"raise {key}, or begin another run with another -o",
            )  # fmt: skip

    @property
    def _is_over(self) -> bool:
        progress, patience = self.state.progress, self.recipe.training.early_stopping_patience
        if progress.status == "stopped_early":
            return patience is not None and progress.evaluations_without_gain >= patience
        return progress.status == "finished" and progress.step >= self.total_steps

    def reports(self, stop: StopRequest) -> Iterator[StepReport]:
        """Trains; yields each step's report. A run that is over already is told so, and nothing of it is touched."""
        if self._is_over:
            self.emit = Events(lambda _: None, self.hooks)
            self.emit(self._start_event())
            over = FINISHED if self.recipe.training.phases is None else PHASES_OVER
            self.emit({"event": "note", "message": over})
            self.emit(end_event(self.state))
            return
        self.texts = folder.write_identity(self.place, self.recipe, self.data.tokenizer.to_json())
        with ExitStack() as stack:
            with self._explain_disk_errors():
                self.journal = stack.enter_context(Journal(self.place / folder.JOURNAL))
                self.journal.truncate_to(self.state.progress.journal_offset)
            self.emit = Events(self._write, self.hooks)
            self.emit(self._start_event())
            for note in self.notes:
                self.emit({"event": "note", "message": note})
            try:
                yield from self._loop(stop)
            except Exception:
                with suppress(ResourceError):  # a full disk, say, which is why the run ends
                    self.emit({**end_event(self.state), "status": "failed"})
                raise

    def _write(self, event: dict[str, Any]) -> None:
        with self._explain_disk_errors():
            self.journal(event)

    def _explain_disk_errors(self) -> AbstractContextManager[None]:
        return files.disk_errors(self.place, 0, "the journal")

    def _loop(self, stop: StopRequest) -> Iterator[StepReport]:
        recipe, training = self.recipe, self.recipe.training
        progress = self.state.progress
        how = Stepping(
            module=self.module,
            plan=self.plan,
            schedule=build.schedule_of(recipe, self.total_steps, self.plan.steps_per_epoch),
            learning_rate=training.learning_rate or 0.0,  # auto is a number by now
            transforms=build.transforms_of(recipe),
            max_nonfinite_steps=training.max_nonfinite_steps,
            seed=training.seed,
            device=self.device,
            autocast=build.autocast_of(recipe, self.device),
            load=self.feeds.updates,
            scaler=self._scaler(),
            passes=build.passes_of(recipe, self.model, self.switch),
            shrink=self._shrink,
            watch=self.watch,
            go_back=self._go_back,
        )
        progress.status = "running"
        services = Services(
            evaluate=lambda: self._evaluate(stop), sample=self._sample(),
            save=self._save, emit=self.emit, stop_requested=stop, phase_event=self._phase_event,
            samples_of=lambda seen: self.feeds.numbers(self.plan.update(seen)),
        )  # fmt: skip
        cadence = Cadence(
            evaluate_every_n_steps=training.evaluate_every_n_steps,
            early_stopping_patience=training.early_stopping_patience,
            sample_every_n_epochs=recipe.tracking.sample.every_n_epochs,
            save_every_n_epochs=training.save_every_n_epochs,
            save_every_n_steps=training.save_every_n_steps,
            save_every_minutes=training.save_every_minutes,
            return_every_n_steps=self.watch.every_n_steps if self.watch else None,
            save_best=training.save_best,
        )
        self.model.train()
        yield from loop(self.state, how, cadence, services)

    def _shrink(self, samples: int, reason: str) -> Course:
        """Smaller micro-batches from here on, which the run's recipe and its journal say."""

        number = self.plan.phase(self.state.progress.samples_seen)
        phase, feed = build.phases_of(self.recipe)[number], self.feeds.phases[number]

        def estimate() -> str:
            return fitting.estimated(phase, feed, self.device)

        update = phase.training.batch_size * phase.training.gradient_accumulation_steps
        self.recipe, what = fitting.halved(self.recipe, update, samples, reason, estimate)
        self.plan = self._course()
        self.texts = folder.write_identity(self.place, self.recipe, self.data.tokenizer.to_json())
        self.emit({"event": "note", "message": what})
        return self.plan

    def _go_back(self, step: int) -> bool:
        """Loads a step's weights and moments; that there are none is said, since the run goes another way without."""
        place = self.root / checkpoint.folder_name(step)
        try:
            checkpoint.load_tensors(checkpoint.verify(place), self.state)
        except CheckpointError as error:
            why = f"damaged ({error.what})" if place.exists() else "gone"
            self.emit({"event": "note", "message": f"{place}, to which a spike was to go back, is {why}"})
            return False
        return True

    def _scaler(self) -> LossScaler | None:
        scaler, progress = build.scaler_of(self.recipe), self.state.progress
        if scaler and progress.loss_scale is not None:
            scaler.scale, scaler.good_steps = progress.loss_scale, progress.loss_scale_good_steps
        return scaler

    def _start_event(self) -> dict[str, Any]:
        data, recipe = self.data, self.recipe
        return {
            "event": "start",
            "run": str(self.place),
            "dataset": self.resolution.text.name,
            "preset": self.resolution.preset,
            "characters": data.train.characters + data.validation.characters,
            "train_characters": data.train.characters,
            "validation_characters": data.validation.characters,
            "train_tokens": len(data.train),
            "validation_tokens": len(data.validation),
            "objective": recipe.objective.type,
            "tokenizer": recipe.tokenizer.type,
            "vocab_size": self.objective.vocabulary.size,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "trained_parameters": sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            "device": describe(self.device),
            "precision": recipe.execution.precision,
            "threads": torch.get_num_threads(),
            **self._phase(),
            "train_samples": len(self.feeds.phases[0].samples),
            "validation_samples": len(self.validation.samples),
            "total_steps": self.total_steps,
            "log_every_n_steps": recipe.tracking.log_every_n_steps,
            "epoch": self.plan.finished_epochs(self.state.progress.samples_seen) + 1,
            "step_in_epoch": self.plan.step_in_epoch(self.state.progress.samples_seen),
            "epochs": self.plan.epochs_in_all(self.state.progress.step, self.state.progress.samples_seen),
            "resumed_from": self.saved.step if self.saved else None,
        }

    def _phase(self) -> dict[str, Any]:
        """What may differ between phases, of the one that the next step belongs to."""
        number = self.plan.phase(self.state.progress.samples_seen)
        recipe, samples = build.phases_of(self.recipe)[number], len(self.feeds.phases[number].samples)
        plan = build.plan_of(recipe, samples)
        return {
            "tokens_per_step": _tokens_per_step(recipe),
            "steps_per_epoch": plan.steps_per_epoch
            if self.recipe.training.phases is None
            else min(plan.steps_per_epoch, plan.total_steps(0, 0)),
        }

    def _phase_event(self) -> dict[str, Any]:
        progress = self.state.progress
        number = self.plan.phase(progress.samples_seen)
        recipe = build.phases_of(self.recipe)[number]
        return {
            "event": "phase", "step": progress.step, "phase": number + 1, "phases": len(self.feeds.phases),
            "sequence_length": build.sequence_length_of(recipe), "batch_size": recipe.training.batch_size,
            "gradient_accumulation_steps": recipe.training.gradient_accumulation_steps, **self._phase(),
        }  # fmt: skip

    def _evaluate(self, stop: StopRequest) -> Evaluation | None:
        with self.state.averaged():
            return evaluate(
                self.module,
                self.validation.in_order(build.rows_at_once(self.recipe)),
                device=self.device,
                autocast=build.autocast_of(self.recipe, self.device),
                text_bytes=self.data.validation.bytes if self.objective.covers_text else None,
                should_stop=lambda: stop() is not None,
                progress=lambda done: self.tell("validating", done / len(self.validation.samples)),
            )

    def _sample(self) -> Sample | None:
        sample = sample_of(self.recipe, self.model, self.validation)
        if sample is None:
            return None

        def averaged() -> tuple[str, str]:
            with self.state.averaged():
                return sample()

        return averaged

    def _save(self, reason: str) -> None:
        progress = self.state.progress
        place = self.root / f"step-{progress.step:08d}"
        self.emit({"event": "checkpoint", "step": progress.step, "path": str(place), "reason": reason})
        self.journal.sync()
        progress.journal_offset = self.journal.offset
        saved = checkpoint.save(self.root, self.state, self.texts, reason=reason)
        checkpoint.failpoint("unlinked")
        self._point_to(saved)
        checkpoint.prune(self.root, self.recipe.training.keep_last_n, {saved.folder, *self._places_to_go_back_to()})

    def _places_to_go_back_to(self) -> list[Path]:
        """Those of every checkpoint from which the run may have to go on."""
        if self.watch is None:
            return []
        newest = checkpoint.candidates(self.root)[: self.recipe.training.keep_last_n]
        steps = {self.watch.place_before(checkpoint.step_of(folder) or 0) for folder in newest}
        return [self.root / checkpoint.folder_name(step) for step in steps if step is not None]


def _tokens_per_step(recipe: Recipe) -> int:
    training = recipe.training
    return training.batch_size * training.gradient_accumulation_steps * build.sequence_length_of(recipe)
