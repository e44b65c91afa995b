"""The loop over parts of the user's own: any module that gives a LossSum, any data set, any optimizer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from trifecta.data.loader import load_updates
from trifecta.data.sampler import Sampler
from trifecta.errors import CheckpointError, RecipeError, TrifectaError
from trifecta.evaluation.evaluate import Evaluation, evaluate
from trifecta.execution.device import resolve_device
from trifecta.execution.precision import autocast
from trifecta.optim import OPTIMIZERS, Optimizers, Schedule, Span, Trainable, schedules
from trifecta.optim.foreign import Foreign
from trifecta.optim.gradients import clip_norm
from trifecta.training import checkpoint
from trifecta.training.loop import Stepping, steps
from trifecta.training.plan import MicroBatch, Plan
from trifecta.training.state import Progress, TrainState
from trifecta.types import Batch, LossSum, StepReport

MakeOptimizer = Callable[..., torch.optim.Optimizer]
_TEXTS = {"recipe.yaml": "# Parts of the user's own: trifecta.Loop reads this, trifecta.load can't.\n",
          "tokenizer.json": "null\n"}  # fmt: skip
_IDENTITY = "loop.json"


class Dataset(Protocol):
    """Samples by number."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Any: ...


class Loop:
    """The loop that every run uses, over parts of your own; iterating it trains, and yields each update's StepReport.

    What it is iterated for again goes on; `save` and `resume` continue in another process, bit for bit.

    Args:
        module: its forward takes a Batch and gives a LossSum: of each term the total, and its weight as the Batch has
            it. The loop divides totals by weights once, over all micro-batches.
        dataset: samples, by number. collate: samples -> Batch; in worker processes where there are num_workers.
        optimizer: makes one, `torch.optim.NAdam` or a partial of such; takes parameters and `lr`. Default: AdamW as in
            recipes (0.9, 0.999, 1e-8, weight decay 0.01, none for norms and biases).
        learning_rate: the peak. schedule: update's number, from 1, -> factor. Default: a tenth of the steps, at most
            100, of warm-up, then cosine to a tenth.
        batch_size: samples in a micro-batch. epochs: unless max_steps says how many updates.
        gradient_clip_norm: longest global L2 norm of the gradient; None for no limit.

    Raises:
        RecipeError: an argument is out of bounds, the data set is empty, or nothing is to be trained; in training,
            what collate or module give isn't what the loop needs.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        dataset: Dataset,
        collate: Callable[[list[Any]], Batch],
        *,
        optimizer: MakeOptimizer | None = None,
        learning_rate: float = 3e-4,
        schedule: Schedule | None = None,
        batch_size: int = 32,
        gradient_accumulation_steps: int = 1,
        epochs: int = 1,
        max_steps: int | None = None,
        gradient_clip_norm: float | None = 1.0,
        shuffle: bool = True,
        seed: int = 42,
        device: str = "auto",
        precision: Literal["fp32", "bf16"] = "fp32",
        num_workers: int = 0,
    ):
        _require_samples(dataset)
        for name, count in (("batch_size", batch_size), ("gradient_accumulation_steps", gradient_accumulation_steps),
                            ("epochs", epochs), ("max_steps", max_steps)):  # fmt: skip
            if count is not None and (not isinstance(count, int) or count < 1):
                raise RecipeError(f"{name} should be a whole number of 1 or more, not {count}", where="Loop")
        for name, number in (("learning_rate", learning_rate), ("gradient_clip_norm", gradient_clip_norm)):
            if number is not None and not 0 < number < math.inf:
                raise RecipeError(f"{name} should be a number above 0, not {number}", where="Loop")
        if precision not in ("fp32", "bf16"):
            raise RecipeError(f"precision should be fp32 or bf16, not {precision!r}", where="Loop")
        if optimizer is not None and not callable(optimizer):
            raise RecipeError(f"optimizer should be what makes one, not {type(optimizer).__name__}", where="Loop",
                              fix="give the class, torch.optim.NAdam say, or a functools.partial of it")  # fmt: skip
        try:
            self.device = resolve_device(device)
        except (ValueError, RuntimeError) as error:
            if isinstance(error, TrifectaError):
                raise
            raise RecipeError(
                f"no device {device!r}", where="Loop", fix="use auto, cpu, cuda, cuda:N or mps"
            ) from error
        self.module, self.dataset, self.collate = module.to(self.device), dataset, collate
        self.learning_rate, self.seed, self.num_workers = learning_rate, seed, num_workers
        self._clip, self._autocast = gradient_clip_norm, lambda: autocast(precision, self.device)
        self._sampler = Sampler(len(dataset), seed, shuffle)
        self.plan = Plan(len(dataset), batch_size, gradient_accumulation_steps, epochs, max_steps)
        self.total_steps = self.plan.total_steps(0, 0)
        self._schedule = schedule or self._cosine()
        self.state = TrainState(module, _optimizers(module, optimizer, learning_rate), Progress())
        parts = [part._optimizer if isinstance(part, Foreign) else part for part in self.state.optimizers.parts]
        self._identity = {
            "samples": len(dataset), "seed": seed, "shuffle": shuffle,
            "optimizer": ", ".join(f"{type(part).__module__}.{type(part).__qualname__}" for part in parts),
        }  # fmt: skip

    def _cosine(self) -> Schedule:
        span = Span(min(100, self.total_steps // 10), self.total_steps, self.plan.steps_per_epoch)
        return schedules.cosine(span, min_lr_ratio=0.1)

    @property
    def step(self) -> int:
        """Updates done."""
        return self.state.progress.step

    def __iter__(self) -> Iterator[StepReport]:
        self.module.train()
        reports = steps(self.state, self._stepping)
        try:
            while self.step < self.total_steps:
                yield next(reports)
        finally:
            reports.close()

    @cached_property
    def _stepping(self) -> Stepping:
        return Stepping(
            module=_Checked(self.module), plan=self.plan, schedule=self._schedule, learning_rate=self.learning_rate,
            transforms=[] if self._clip is None else [clip_norm(self._clip)], max_nonfinite_steps=10, seed=self.seed,
            device=self.device, autocast=self._autocast, load=self._load,
        )  # fmt: skip

    def _load(self, updates: Iterator[list[MicroBatch]]) -> Iterator[list[Batch]]:
        def drawn(micro: MicroBatch) -> list[int]:
            return list(map(int, self._sampler.indices(micro.epoch, micro.start, micro.stop)))

        return load_updates((list(map(drawn, update)) for update in updates), self._batch, self.num_workers)

    def _batch(self, indices: Sequence[int]) -> Batch:
        batch = self.collate([self.dataset[index] for index in indices])
        if not isinstance(batch, Batch):
            raise RecipeError(f"collate gave a {type(batch).__name__}, not a Batch", where="Loop",
                              fix="return trifecta.Batch(inputs, targets, weights, samples, tokens)")  # fmt: skip
        return batch

    def evaluate(self, dataset: Dataset) -> Evaluation:
        """Loss and metrics over all samples of a data set, each counted once.

        Raises:
            RecipeError: it is empty.
        """
        _require_samples(dataset)
        size = self.plan.batch_size
        batches = (
            self.collate([dataset[index] for index in range(start, min(start + size, len(dataset)))])
            for start in range(0, len(dataset), size)
        )
        found = evaluate(self.module, batches, device=self.device, autocast=self._autocast, text_bytes=None)
        assert found is not None
        return found

    def save(self, folder: str | Path) -> Path:
        """Writes a checkpoint, step-00000500 say, into a folder, and returns its place.

        Raises:
            ResourceError: the disk is full or the folder can't be written.
        """
        self.state.progress.saved_step = self.step
        texts = _TEXTS | {_IDENTITY: json.dumps(self._identity)}
        return checkpoint.save(Path(folder), self.state, texts, reason="asked").folder

    def resume(self, folder: str | Path) -> int:
        """Goes on from the newest whole checkpoint of a folder; its step, 0 where there is none.

        Raises:
            CheckpointError: it is of another model or optimizer, another number of samples, or another order of them;
                or no loop wrote it.
        """
        found = checkpoint.newest(Path(folder), lambda _: None)
        if found is None:
            return 0
        try:
            saved = json.loads((found.folder / _IDENTITY).read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError("no loop wrote this checkpoint", where=str(found.folder),
                                  fix="a run's folder is for trifecta.train and trifecta.load") from error  # fmt: skip
        if changed := [name for name, value in self._identity.items() if saved.get(name) != value]:
            what = ", ".join(f"{name}: {saved.get(name)} -> {self._identity[name]}" for name in changed)
            raise CheckpointError(f"this loop was saved as another one: {what}", where=str(found.folder),
                                  fix="make it as it was, or begin in another folder")  # fmt: skip
        checkpoint.load_state(found, self.state)
        if self.plan.total_steps(self.step, self.state.progress.samples_seen) < self.step:
            raise CheckpointError(f"{self.step} updates are done, more than max_steps", where=str(found.folder))
        return self.step


def _require_samples(dataset: Dataset) -> None:
    if not len(dataset):
        raise RecipeError("the data set is empty", fix="give one with samples in it")


class _Checked(torch.nn.Module):
    """A module of the user's own; what it gives is looked at before it is used."""

    def __init__(self, module: torch.nn.Module):
        super().__init__()
        self.module = module

    def forward(self, batch: Batch) -> LossSum:
        """The module's LossSum.

        Raises:
            RecipeError: it gives none, or one without a term, without a gradient, or with weights of its own.
        """
        result = self.module(batch)
        fix = "return trifecta.LossSum({name: (total, weight)}), the total a scalar tensor that hasn't been detached"
        if not isinstance(result, LossSum) or not result.terms:
            found = "a LossSum without terms" if isinstance(result, LossSum) else f"a {type(result).__name__}"
            raise RecipeError(f"the module gave {found}", where="Loop", fix=fix)
        for name, (total, weight) in result.terms.items():
            if not isinstance(total, torch.Tensor) or total.dim() or (self.training and not total.requires_grad):
                raise RecipeError(f"the total of {name!r} is no scalar tensor with a gradient", where="Loop", fix=fix)
            if name in batch.weights and not math.isclose(weight, batch.weights[name], rel_tol=1e-6):
                raise RecipeError(
                    f"the weight of {name!r} is {weight:g} in the module's LossSum and {batch.weights[name]:g} in its "
                    "Batch, by which totals are divided", where="Loop", fix="let both count the same",
                )  # fmt: skip
        return result


def _optimizers(module: torch.nn.Module, make: MakeOptimizer | None, learning_rate: float) -> Optimizers:
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if not trained:
        raise RecipeError("the module has no parameter that is trained", fix="set requires_grad")
    if make is None:
        trainable = Trainable(trained, {name: _role(parameter) for name, parameter in trained.items()})
        made = OPTIMIZERS["adamw"](trainable, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.01)
        for part in made.parts:
            setattr(part, "keeps_state_of_each", False)  # noqa: B010 - a parameter of the user's may never be used
        return made
    groups = [{"params": list(trained.values()), "lr_ratio": 1.0}]
    part = Foreign(make(groups, lr=learning_rate), keeps_state_of_each=False)
    return Optimizers([part], Trainable(trained, dict.fromkeys(trained, "matrix")))


def _role(parameter: torch.nn.Parameter) -> str:
    """Vectors and numbers are norms or biases, and don't decay."""
    return "matrix" if parameter.dim() > 1 else "norm"
