"""The terminal's face of a run: a banner, two live lines at the bottom, everything else scrolls above them.

Drawn when an event comes, at most ten times a second, by the training thread itself: a thread of its own would not mix
with data workers that fork.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from rich import console as rich_terminal
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trifecta.tracking import console
from trifecta.tracking.console import Console, Event
from trifecta.tracking.terminal import duration, fixed, rate, short_count, visible

SECONDS_BETWEEN_FRAMES = 0.1


class RichConsole(Console):
    """Colour, NO_COLOR, and the width as rich finds them."""

    def __init__(
        self,
        stream: TextIO,
        *,
        verbose: bool = False,
        clock: Callable[[], float] = time.monotonic,
        terminal: rich_terminal.Console | None = None,
    ):
        super().__init__(stream, verbose=verbose, clock=clock)
        self.terminal = terminal or rich_terminal.Console(file=stream, highlight=False, markup=False, emoji=False)
        self._live: Live | None = None
        self._drawn = float("-inf")

    def close(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def on_prepare(self, event: Event) -> None:
        ratio = event.get("ratio")
        self._stage = visible(str(event["stage"])) + (f" {ratio:.0%}" if ratio is not None else "")
        self._draw()

    def on_start(self, event: Event) -> None:
        self.close()
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in console.banner(event):
            table.add_row(Text(name), Text(value))
        self.terminal.print(Panel(table, title=Text("trifecta", style="bold"), expand=False, border_style="cyan"))

    def on_step(self, event: Event) -> None:
        if event.get("skipped"):
            self._print(Text(console.skipped_line(event), style="red"))
        self._draw(force=event["step"] == self.meter.total_steps)

    def on_epoch(self, event: Event) -> None:
        self._print(Text(console.epoch_line(event, self.meter.of_tokens), style="bold"))

    def on_evaluation(self, event: Event) -> None:
        best = event.get("best") is True
        self._print(
            Text(
                "  " + console.evaluation_line(event, self.meter.train_loss, self.meter.of_tokens),
                style="green" if best else "none",
            )
        )
        self._draw(force=True)

    def on_sample(self, event: Event) -> None:
        prompt, text = console.sample_text(event)
        self._print(
            Panel(
                Text.assemble((f"{console.legend(self.meter)}\n", "dim"), (prompt, "bold"), text),
                title=Text(f"sample after step {event['step']}", style="dim"),
                title_align="left",
                border_style="dim",
            )
        )

    def on_checkpoint(self, event: Event) -> None:
        if self.verbose:
            self._print(Text(console.checkpoint_line(event), style="dim"))

    def on_phase(self, event: Event) -> None:
        self._print(Text(console.phase_line(event), style="bold"))

    def on_note(self, event: Event) -> None:
        self._print(Text(f"note: {visible(event['message'])}", style="yellow"))

    def on_end(self, event: Event) -> None:
        self.close()
        first, *rest = console.end_lines(event, self.meter)
        done = event["status"] in ("finished", "stopped_early")
        self._print(Text(first, style="bold green" if done else "bold yellow"))
        for line in rest:
            self._print(Text(line))

    def _print(self, what: RenderableType) -> None:
        self.terminal.print(what, soft_wrap=isinstance(what, Text))

    def _draw(self, *, force: bool = False) -> None:
        """Draws the live lines, unless they were drawn a moment ago."""
        now = self._clock()
        if not force and now - self._drawn < SECONDS_BETWEEN_FRAMES:
            return
        self._drawn = now
        if self._live is None:
            self._live = Live(
                console=self.terminal, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        self._live.update(self.live_lines(), refresh=True)

    def live_lines(self) -> RenderableType:
        """The bar over the whole run, and under it the numbers of the moment, fewer in a narrow window, or what is done
        between steps; before the run only that."""
        stage = Text(f"{self._stage} ...", style="dim", no_wrap=True, overflow="ellipsis") if self._stage else None
        if stage is not None and not self.meter.start:
            return stage
        meter, width = self.meter, self.terminal.width
        left = f"{duration(max(1, meter.seconds_left))} left" if meter.seconds_left is not None else ""
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(no_wrap=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True, justify="right")
        bar.add_column(no_wrap=True, justify="right", style="cyan")
        done, total = meter.step, max(meter.total_steps, 1)
        bar.add_row(
            Text(f"Epoch {meter.epoch}/{meter.epochs}", style="bold"),
            ProgressBar(total=total, completed=done, complete_style="cyan", finished_style="green"),
            Text(f"{done}/{total}"),
            Text(left if width >= 50 else ""),
        )
        return Group(bar, stage or self._numbers(width))

    def _numbers(self, width: int) -> Text:
        meter = self.meter
        numbers = [("loss", fixed(meter.loss))]
        if meter.validation:
            numbers.append(("val", fixed(meter.validation["loss"])))
            if meter.of_tokens:
                numbers.append(("ppl", fixed(meter.validation["perplexity"], 2)))
        if meter.tokens_per_second:
            numbers.append(("tok/s", short_count(meter.tokens_per_second)))
        numbers.append(("lr", rate(meter.learning_rate)))
        line = Text(no_wrap=True)
        for name, value in numbers:
            if line.cell_len + len(name) + len(value) + 4 > width:
                break
            line.append(f"{name} ", style="dim")
            line.append(f"{value}   ", style="red" if value == "nan" else "none")
        line.rstrip()
        return line
