"""A run at one glance: loss, learning rate and gradient norm over the steps, as a PNG."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trifecta.errors import CheckpointError, RecipeError
from trifecta.tracking import journal
from trifecta.tracking.terminal import duration, short_count

Float64 = npt.NDArray[np.float64]

TRAIN, VALIDATION, RATE, GRADIENT = "#2f6fb5", "#e0662b", "#3c8d5a", "#8a5fa8"
INK, MUTED, GRID = "#1f2430", "#6b7280", "#e6e8ec"
MAX_POINTS = 2000
MAX_DRAWN = 1e100  # beyond it sums and axes overflow; shown as missing, like what isn't finite
_NEEDED = {
    "step": ("step", "loss", "learning_rate", "grad_norm", "seconds"), "evaluation": ("step", "loss"),
    "epoch": ("step",),
}  # fmt: skip
_RELATIVE = {"left": 0.0, "center": 0.5, "right": 1.0}


@dataclass
class Curves:
    """What the journal holds of a run, as columns; NaN where a number was missing."""

    start: dict[str, Any] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    epoch_ends: list[int] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    seconds: float = 0.0


def read_curves(folder: Path) -> Curves:
    """Reads a run's journal.

    Raises:
        CheckpointError: no journal, a damaged one, or one without a single step.
    """
    curves = Curves()
    for event in journal.read(folder / journal.NAME, _NEEDED):
        kind = event["event"]
        if kind == "start":
            curves.start = curves.start | event
        elif kind == "step":
            curves.steps.append(event["step"])
            curves.loss.append(_number(event["loss"]))
            curves.learning_rate.append(_number(event["learning_rate"]))
            curves.grad_norm.append(_number(event["grad_norm"]))
            seconds = _number(event["seconds"])
            curves.seconds += seconds if math.isfinite(seconds) else 0.0
        elif kind == "evaluation" and event.get("split", "validation") == "validation":
            curves.evaluated.append(event["step"])
            curves.validation.append(_number(event["loss"]))
        elif kind == "epoch":
            curves.epoch_ends.append(event["step"])
        elif kind == "end":
            curves.end = event
    if not curves.steps:
        raise CheckpointError("the run has no step yet, so there is nothing to plot", where=str(folder / journal.NAME))
    return curves


def plot_run(folder: Path | str, path: Path | str) -> Path:
    """Draws the run in `folder` into a PNG at `path`, which appears whole or not at all; returns the path.

    Raises:
        RecipeError: the path's ending isn't .png. CheckpointError: as `read_curves`.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder, path = Path(folder), Path(path)
    if path.suffix.lower() != ".png":
        raise RecipeError("plots are PNG files only", where=str(path), fix="choose a name that ends in .png")
    curves = read_curves(folder)
    with rc_context({"font.family": ["DejaVu Sans"], "font.size": 9.5, "axes.unicode_minus": False}):
        figure = Figure(figsize=(9, 6.4), facecolor="white")
        FigureCanvasAgg(figure)
        loss, rate, gradient = figure.subplots(3, 1, sharex=True, height_ratios=[4.6, 1, 1])
        figure.subplots_adjust(left=0.085, right=0.915, top=0.865, bottom=0.08, hspace=0.24)
        _heading(figure, folder, curves)
        _loss_panel(loss, curves)
        _rate_panel(rate, curves)
        _gradient_panel(gradient, curves)
        for axes in (loss, rate, gradient):
            _style(axes, curves)
        gradient.set_xlabel("step", color=MUTED)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}.png")
        try:
            figure.savefig(beside, dpi=160, metadata={"Software": None})
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    return path


def _heading(figure: Any, folder: Path, curves: Curves) -> None:
    """The run's name, and under it what was trained on what, for how long."""
    start = curves.start
    name = folder.resolve().name
    parameters, train_tokens = _number(start.get("parameters")), _number(start.get("train_tokens"))
    facts = [
        f"{short_count(parameters)} parameters" if parameters > 0 else "",
        f"{short_count(train_tokens)} training tokens" if train_tokens > 0 else "",
        f"{curves.steps[-1]:,} step{'s' if curves.steps[-1] != 1 else ''}",
        f"{duration(curves.seconds)} of training" if curves.seconds > 0 else "",
        str(start.get("device") or ""),
    ]
    figure.text(0.085, 0.945, name, size=15, weight="bold", color=INK, parse_math=False)
    figure.text(0.085, 0.905, "  ·  ".join(fact for fact in facts if fact), color=MUTED, parse_math=False)


def _loss_panel(axes: Any, curves: Curves) -> None:
    """Each step's loss faintly, its running mean over it, validation as points, the best named; perplexity right."""
    steps, raw, smooth = _series(curves.steps, curves.loss)
    axes.plot(steps, raw, color=TRAIN, alpha=0.22, linewidth=0.8)
    axes.plot(steps, smooth, color=TRAIN, linewidth=2, label="training", marker=_dots(steps))
    evaluated, validation = np.asarray(curves.evaluated), np.asarray(curves.validation)
    known = np.isfinite(validation)
    if known.any():
        evaluated, validation = evaluated[known], validation[known]
        axes.plot(
            evaluated, validation, color=VALIDATION, linewidth=1.6, marker="o", markersize=5, markeredgecolor="white",
            label="validation", zorder=3,
        )  # fmt: skip
    _limit_loss(axes, raw, smooth, validation)
    if known.any():
        best = int(np.argmin(validation))
        _mark_best(axes, float(evaluated[best]), float(validation[best]), (steps[0], steps[-1]))
    axes.set_ylabel("loss (nats per token)", color=MUTED)
    _perplexity_axis(axes)
    axes.legend(loc="upper right", frameon=False, ncols=2, labelcolor=INK, borderaxespad=0.2)


def _mark_best(axes: Any, step: float, loss: float, span: tuple[float, float]) -> None:
    """A ring around the best validation, named well above it, on the side where there is room."""
    axes.plot([step], [loss], marker="o", markersize=12, color=VALIDATION, fillstyle="none", markeredgewidth=1.6)
    low, high = axes.get_ylim()
    height = min(0.78, (loss - low) / (high - low) + 0.3)
    place = (step - span[0]) / max(1.0, span[1] - span[0])
    side = "left" if place < 0.15 else "right" if place > 0.85 else "center"
    axes.annotate(
        f"best validation loss {loss:.3f}\nperplexity {math.exp(min(loss, 700)):.4g}, step {step:,.0f}",
        (step, loss), xytext=(step, height), textcoords=("data", "axes fraction"), ha=side, color=VALIDATION,
        weight="bold", linespacing=1.4, bbox={"facecolor": "white", "alpha": 0.9, "edgecolor": "none", "pad": 2},
        arrowprops={"arrowstyle": "-", "color": VALIDATION, "linewidth": 0.9, "relpos": (_RELATIVE[side], 0),
                    "shrinkB": 7}, zorder=4,
    )  # fmt: skip


def _limit_loss(axes: Any, raw: Float64, smooth: Float64, validation: Float64) -> None:
    """Room for the curves and the first steps; a rare spike may leave the picture."""
    shown = np.concatenate([smooth, validation, raw[: max(1, len(raw) // 50)]])
    shown = shown[np.isfinite(shown)]
    if shown.size:
        low, high = float(shown.min()), float(shown.max())
        room = max(high - low, 0.1, abs(high) * 1e-6) * 0.08
        axes.set_ylim(max(0.0, low - 2 * room), high + room)


def _perplexity_axis(axes: Any) -> None:
    """Perplexity = exp(loss) at round numbers, so unevenly spaced."""
    low, high = axes.get_ylim()
    round_numbers = [m * 10.0**e for e in range(300) for m in (1, 1.5, 2, 3, 5, 7)]
    inside = [number for number in round_numbers if low <= math.log(number) <= high]
    kept: list[float] = []
    for number in inside:
        if not kept or math.log(number) - math.log(kept[-1]) >= (high - low) / 11:
            kept.append(number)
    right = axes.twinx()
    right.set_ylim(low, high)
    right.set_yticks([math.log(number) for number in kept], [f"{number:g}" for number in kept])
    right.set_ylabel("perplexity", color=MUTED)
    right.tick_params(colors=MUTED, length=0)
    for spine in right.spines.values():
        spine.set_visible(False)


def _rate_panel(axes: Any, curves: Curves) -> None:
    steps, rates, _ = _series(curves.steps, curves.learning_rate)
    axes.plot(steps, rates, color=RATE, linewidth=1.6, marker=_dots(steps))
    axes.fill_between(steps, rates, color=RATE, alpha=0.12, linewidth=0)
    peak = float(np.nanmax(rates, initial=0.0)) or 1.0
    axes.set_ylim(0, peak * 1.15)
    mantissa, exponent = f"{peak:.2e}".split("e")
    axes.set_yticks([0, peak], ["0", f"{float(mantissa):g}e{int(exponent)}"])
    axes.set_title("learning rate", loc="left", size=9.5, color=RATE, pad=4)


def _gradient_panel(axes: Any, curves: Curves) -> None:
    steps, raw, _ = _series(curves.steps, curves.grad_norm)
    with np.errstate(divide="ignore", invalid="ignore"):
        _, _, smooth_log = _series(curves.steps, list(np.log(curves.grad_norm)))
    axes.plot(steps, raw, color=GRADIENT, alpha=0.25, linewidth=0.8)
    axes.plot(steps, np.exp(smooth_log), color=GRADIENT, linewidth=1.6, marker=_dots(steps))
    positive = raw[np.isfinite(raw) & (raw > 0)]
    if positive.size and positive.max() > 30 * np.median(positive):
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, float(positive.max()) * 1.1 if positive.size else 1)
    axes.set_title("gradient norm", loc="left", size=9.5, color=GRADIENT, pad=4)


def _dots(steps: Float64) -> str:
    """A few steps are drawn as dots too: a line needs two."""
    return "." if len(steps) <= 30 else ""


def _style(axes: Any, curves: Curves) -> None:
    """Quiet axes: a light grid, no box, thin lines where epochs end."""
    first, last = curves.steps[0], curves.steps[-1]
    axes.set_xlim(min(0, first), max(last, first + 1) * 1.005)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color("#c3c8d0")
    axes.tick_params(colors=MUTED, length=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if 1 < len(curves.epoch_ends) <= 40:
        for step in curves.epoch_ends[:-1]:
            axes.axvline(step, color="#c3c8d0", linewidth=0.8, linestyle=(0, (2, 3)), zorder=0)


def _series(steps: Sequence[int], values: Sequence[float]) -> tuple[Float64, Float64, Float64]:
    """Steps, values and their running mean, thinned to about 2,000 points by averaging neighbours."""
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    smooth = _running_mean(y, max(1, len(y) // 40))
    width = -(-len(x) // MAX_POINTS)
    if width == 1:
        return x, y, smooth
    starts = np.arange(0, len(x), width)
    sizes = np.diff([*starts, len(x)])
    return tuple(np.add.reduceat(column, starts) / sizes for column in (x, y, smooth))  # type: ignore[return-value]


def _running_mean(values: Float64, width: int) -> Float64:
    """Mean over a centred window; NaN is passed over.

    Near the start the window shrinks evenly, since losses fall steeply there; near the end only its far side is cut.
    """
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    index = np.arange(len(values))
    half = np.minimum(width // 2, index)
    low, high = index - half, np.minimum(index + half + 1, len(values))
    with np.errstate(invalid="ignore"):
        return np.asarray((sums[high] - sums[low]) / (counts[high] - counts[low]), dtype=np.float64)


def _number(value: Any) -> float:
    """The value if it is a number that can be drawn, else NaN."""
    return float(value) if isinstance(value, int | float) and abs(value) <= MAX_DRAWN else math.nan
