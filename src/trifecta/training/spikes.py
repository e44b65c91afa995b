"""Updates whose loss or gradient stands out from the last ones, and the way back from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from trifecta.training.state import Progress
from trifecta.training.step import UNLIMITED, Limits


@dataclass(frozen=True)
class Watch:
    """Which updates are spikes: loss or gradient norm above mean + sigma * standard deviation of the last `window` ones
    (the skip-step optimizer of OLMo 2, Team OLMo, 2024, section 3.1; PaLM, Chowdhery et al., 2022, 5.1, went back).

    The first window / 2 updates are none. What stood out counts among the last ones too, so that a change that lasts is
    soon taken for what it is.

    every_n_steps: at which steps there is a checkpoint to go back to; None: the update is skipped, and that is all.
    """

    window: int
    sigma: float
    every_n_steps: int | None = None

    @property
    def begins_after(self) -> int:
        """Updates that are taken as they are, since too few are known."""
        return max(2, self.window // 2)

    def limits(self, progress: Progress) -> Limits:
        """Of the next update."""
        if len(progress.recent_losses) < self.begins_after:
            return UNLIMITED
        return Limits(self._limit(progress.recent_losses), self._limit(progress.recent_grad_norms))

    def note(self, progress: Progress, loss: float, grad_norm: float) -> None:
        """Remembers an update, made or not; one that isn't finite says nothing."""
        if math.isfinite(loss) and math.isfinite(grad_norm):
            progress.recent_losses = [*progress.recent_losses, loss][-self.window :]
            progress.recent_grad_norms = [*progress.recent_grad_norms, grad_norm][-self.window :]

    def place_before(self, step: int) -> int | None:
        """The newest step up to this one to whose checkpoint an update can go back."""
        place = step // self.every_n_steps * self.every_n_steps if self.every_n_steps else 0
        return place or None

    def _limit(self, values: Sequence[float]) -> float:
        mean = fmean(values)
        return mean + self.sigma * math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def ignoring() -> None:
    """Every finite update is made."""


def skipping(*, window: int, sigma: float) -> Watch:
    """Spikes leave everything as it is."""
    return Watch(window, sigma)


def returning(*, window: int, sigma: float, every_n_steps: int) -> Watch:
    """After a spike the weights of before come back."""
    return Watch(window, sigma, every_n_steps)


WATCHES: dict[str, Callable[..., Watch | None]] = {"ignore": ignoring, "skip": skipping, "rollback": returning}
"""Type -> what is looked for."""
