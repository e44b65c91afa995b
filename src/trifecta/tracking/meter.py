"""What a console needs to remember between events."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

RECENT_STEPS = 50


class Meter:
    """Position, speed and latest losses of a run, from its events alone.

    clock: seconds, monotonic; time left is judged by the wall, so it includes validation and saving.
    """

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self.start: dict[str, Any] = {}
        self.step = 0
        self.epoch = 1
        self.loss: float | None = None
        self.learning_rate: float | None = None
        self.validation: dict[str, Any] | None = None
        self.skipped = 0
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT_STEPS)
        self._epoch_sum = [0.0, 0]
        self._epoch_mean: tuple[int, float | None] = (-1, None)
        self._began = (0.0, 0)
        self._epoch_began = 0

    def __call__(self, event: Mapping[str, Any]) -> None:
        handle = getattr(self, f"_on_{event['event']}", None)
        if handle:
            handle(event)

    def _on_start(self, event: Mapping[str, Any]) -> None:
        self.start = dict(event)
        self.step = event.get("resumed_from") or 0
        self._began = (self._clock(), self.step)
        self.epoch = int(event.get("epoch") or 1)
        self._epoch_began = self.step - int(event.get("step_in_epoch") or 0)

    def _on_phase(self, event: Mapping[str, Any]) -> None:
        self.start |= {name: event[name] for name in ("steps_per_epoch", "tokens_per_step")}

    def _on_step(self, event: Mapping[str, Any]) -> None:
        if event["epoch"] != self.epoch:
            self._epoch_sum = [0.0, 0]
            self._epoch_began = event["step"] - 1
        self.step, self.epoch = event["step"], event["epoch"]
        self.loss, self.learning_rate = event["loss"], event["learning_rate"]
        self.skipped += bool(event.get("skipped"))
        self._recent.append((event["tokens"], event["seconds"]))
        if self.loss is not None and math.isfinite(self.loss):
            self._epoch_sum[0] += self.loss * event["tokens"]
            self._epoch_sum[1] += event["tokens"]

    def _on_epoch(self, event: Mapping[str, Any]) -> None:
        self._epoch_mean = (event["step"], event["loss"])

    def _on_evaluation(self, event: Mapping[str, Any]) -> None:
        if event.get("split", "validation") == "validation":
            self.validation = dict(event)

    @property
    def of_tokens(self) -> bool:
        """Whether losses are of tokens of text, and so have a perplexity; those of classes and the like don't."""
        return self.start.get("objective") not in ("classify", "tag", "answer", "images")

    @property
    def train_loss(self) -> float | None:
        """Loss per token of the epoch so far; of the epoch just ended if its event has come."""
        if self._epoch_mean[0] == self.step:
            return self._epoch_mean[1]
        total, tokens = self._epoch_sum
        return total / tokens if tokens else None

    @property
    def total_steps(self) -> int:
        return int(self.start.get("total_steps") or 0)

    @property
    def epochs(self) -> int:
        return max(int(self.start.get("epochs") or 1), self.epoch)

    @property
    def step_in_epoch(self) -> tuple[int, int]:
        """Step within the epoch, and steps of an epoch (or of the run, when that is shorter)."""
        per_epoch = int(self.start.get("steps_per_epoch") or self.total_steps or 1)
        position = min(max(1, self.step - self._epoch_began), per_epoch)
        return position, max(position, min(per_epoch, self.total_steps or per_epoch))

    @property
    def tokens_per_second(self) -> float | None:
        """Over the last 50 steps, validation and saving left out."""
        seconds = sum(seconds for _, seconds in self._recent)
        return sum(tokens for tokens, _ in self._recent) / seconds if seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """None before the first step and after the last."""
        began, first = self._began
        done, ahead = self.step - first, self.total_steps - self.step
        return (self._clock() - began) / done * ahead if done > 0 and ahead > 0 else None
