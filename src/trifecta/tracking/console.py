"""What a run says while it trains: plain lines, events as JSON, or nothing; a terminal gets rich_console.py.

A console is a hook: a callable that takes event dicts and only watches. It is also a context manager, which gives the
terminal back however the run ends. Text that a model wrote is printed with its control characters made visible.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO

from trifecta.tracking import journal
from trifecta.tracking.meter import Meter
from trifecta.tracking.terminal import count, duration, fixed, rate, short_count, size, visible

Event = Mapping[str, Any]

STATUS = {
    "finished": "Finished",
    "stopped_early": "Stopped early, since validation got no better",
    "interrupted": "Interrupted",
    "terminated": "Terminated",
}


SHORT_SECONDS = 2.0
"""What is done in less isn't worth a line."""
SECONDS_BETWEEN_LINES = 10.0
"""Between two lines that say how far something is."""


class Console:
    """Hands each event to the method named after it. A reader that went away silences it; the run goes on."""

    def __init__(
        self, stream: TextIO, *, verbose: bool = False, clock: Callable[[], float] = time.monotonic, width: int = 80
    ):
        self.stream, self.verbose, self.width = stream, verbose, width
        self.meter = Meter(clock)
        self._clock = clock
        self._gone = False
        self._stage = ""

    def __call__(self, event: Event) -> None:
        self.meter(event)
        if event["event"] != "prepare":
            self._stage = ""
        show = getattr(self, f"on_{event['event']}", None)
        if show is None or self._gone:
            return
        try:
            show(event)
        except BrokenPipeError:
            self._gone = True

    def report(self, stage: str, ratio: float | None = None) -> None:
        """Says what is being done between steps or before the first one, and which share of it is done."""
        self({"event": "prepare", "stage": stage, "ratio": ratio})

    def close(self) -> None:
        """Gives the terminal back."""

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class JsonConsole(Console):
    """Each event as a line of JSON, exactly as in the journal."""

    def __call__(self, event: Event) -> None:
        if not self._gone and event["event"] != "prepare":
            try:
                print(journal.to_line({"time": time.time()} | dict(event)), file=self.stream, flush=True)
            except BrokenPipeError:
                self._gone = True


class PlainConsole(Console):
    """Lines that read well in a file, in the manner of the tutorials: one for every N steps."""

    def say(self, text: str = "") -> None:
        """Prints one line at once, whatever the stream can encode."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), file=self.stream, flush=True)

    _next_line = 0.0

    def on_prepare(self, event: Event) -> None:
        """A line for a stage that begins before the run does, and for each that lasts, now and then how far it is."""
        now, stage, ratio = self._clock(), visible(str(event["stage"])), event.get("ratio")
        if stage != self._stage:
            self._stage = stage
            before_the_run = not self.meter.start
            self._next_line = now + (SECONDS_BETWEEN_LINES if before_the_run else SHORT_SECONDS)
            if before_the_run:
                self.say(f"{stage} ...")
        elif ratio is not None and now >= self._next_line:
            self._next_line = now + SECONDS_BETWEEN_LINES
            self.say(f"  {stage} {ratio:.0%} ...")

    def on_start(self, event: Event) -> None:
        self.say("=" * min(60, self.width))
        for name, value in banner(event):
            self.say(f"{name}: {value}")
        self.say("-" * min(60, self.width))

    def on_phase(self, event: Event) -> None:
        self.say(phase_line(event))

    def on_step(self, event: Event) -> None:
        meter = self.meter
        if event.get("skipped"):
            self.say(skipped_line(event))
        every = int(meter.start.get("log_every_n_steps") or 100)
        if meter.step % every and meter.step != meter.total_steps:
            return
        position, per_epoch = meter.step_in_epoch
        parts = [
            f"Epoch {meter.epoch}/{meter.epochs}",
            f"Step {position}/{per_epoch}",
            f"Loss: {fixed(event['loss'])}",
            f"LR: {rate(event['learning_rate'])}",
        ]
        if meter.tokens_per_second:
            parts.append(f"{short_count(meter.tokens_per_second)} tok/s")
        if meter.seconds_left is not None:
            parts.append(f"{duration(max(1, meter.seconds_left))} left")
        self.say(" | ".join(parts))

    def on_epoch(self, event: Event) -> None:
        self.say(epoch_line(event, self.meter.of_tokens))

    def on_evaluation(self, event: Event) -> None:
        self.say("  " + evaluation_line(event, self.meter.train_loss, self.meter.of_tokens))

    def on_sample(self, event: Event) -> None:
        self.say(f"--- sample after step {event['step']}: {legend(self.meter)} ---")
        self.say("".join(sample_text(event)))
        self.say("---")

    def on_checkpoint(self, event: Event) -> None:
        if self.verbose:
            self.say(checkpoint_line(event))

    def on_note(self, event: Event) -> None:
        self.say(f"note: {visible(event['message'])}")

    def on_end(self, event: Event) -> None:
        self.say("=" * min(60, self.width))
        for line in end_lines(event, self.meter):
            self.say(line)


class QuietConsole(Console):
    """Says nothing, but for damage that the run got round: that goes to standard error."""

    def on_note(self, event: Event) -> None:
        if event["message"].startswith("damaged"):
            print(f"note: {visible(event['message'])}", file=sys.stderr)


def banner(start: Event) -> list[tuple[str, str]]:
    """Names and values of the lines with which a run begins; what the event doesn't hold is left out."""
    text = count(start["characters"]) + " characters" if start.get("characters") is not None else ""
    split = ""
    if start.get("objective") == "images":
        text = ""
        numbers = [count(start.get(f"{part}_samples") or 0) for part in ("train", "validation")]
        split = f"{numbers[0]} images, validation {numbers[1]}"
    elif start.get("train_characters") is not None:
        split = f"{count(start['train_characters'])} characters, validation {count(start['validation_characters'])}"
    threads = f", {start['threads']} thread{'s' if start['threads'] != 1 else ''}" if start.get("threads") else ""
    precision = f", {start['precision']}" if start.get("precision") else ""
    steps = ""
    if start.get("total_steps"):
        steps = f"{count(start['total_steps'])} of {count(start.get('tokens_per_step') or 0)} tokens"
        if start["total_steps"] > (start.get("steps_per_epoch") or start["total_steps"]):
            steps += f"; {count(start['steps_per_epoch'])} steps are an epoch"
    resumed = start.get("resumed_from")
    rows = [
        ("Run", visible(str(start.get("run") or ""))),
        ("Loaded", ", ".join(part for part in (visible(str(start.get("dataset") or "")), text) if part)),
        ("Train", split),
        ("Vocabulary", f"{count(start['vocab_size'])} ({start.get('tokenizer')})" if start.get("vocab_size") else ""),
        ("Parameters", _parameters(start)),
        ("Preset", visible(str(start.get("preset") or ""))),
        ("Device", f"{start['device']}{precision}{threads}" if start.get("device") else ""),
        ("Steps", steps),
        ("Resumed", f"after step {count(resumed)}" if resumed is not None else ""),
    ]
    return [(name, value) for name, value in rows if value]


def _parameters(start: Event) -> str:
    """`1,048,576`, or with how many of them are trained where that isn't all."""
    if not start.get("parameters"):
        return ""
    trained = start.get("trained_parameters")
    part = f", {count(trained)} of them trained" if trained is not None and trained < start["parameters"] else ""
    return count(start["parameters"]) + part


def phase_line(event: Event) -> str:
    """What a phase of the run is."""
    accumulated = event["gradient_accumulation_steps"]
    batch = f"{count(event['batch_size'])} sequences" + (f" x {accumulated}" if accumulated > 1 else "")
    return f"Phase {event['phase']}/{event['phases']}: {batch} of {count(event['sequence_length'])} tokens"


def epoch_line(event: Event, of_tokens: bool = True) -> str:
    """`=== Epoch 1 Complete: Loss 3.9871, Perplexity 53.90 ===`; of classes and the like there is no perplexity."""
    if event["loss"] is None or event["loss"] != event["loss"]:
        return f"=== Epoch {event['epoch']} Complete: none of its updates was made ==="
    perplexity = f", Perplexity {fixed(event['perplexity'], 2)}" if of_tokens else ""
    return f"=== Epoch {event['epoch']} Complete: Loss {fixed(event['loss'])}{perplexity} ==="


def evaluation_line(event: Event, train_loss: float | None, of_tokens: bool = True) -> str:
    """`train_loss=4.123, val_loss=3.987, perplexity=53.89, bits_per_byte=1.234 (best so far)`."""
    parts = [f"val_loss={fixed(event['loss'], 3)}"]
    if of_tokens:
        parts.append(f"perplexity={fixed(event['perplexity'], 2)}")
    if train_loss is not None:
        parts.insert(0, f"train_loss={fixed(train_loss, 3)}")
    if event.get("bits_per_byte") is not None:
        parts.append(f"bits_per_byte={fixed(event['bits_per_byte'], 3)}")
    if event.get("accuracy") is not None:
        parts.append(f"accuracy={100 * event['accuracy']:.1f}%")
    return ", ".join(parts) + (" (best so far)" if event.get("best") is True else "")


def sample_text(event: Event) -> tuple[str, str]:
    """The prompt and what the model wrote after it, both fit for a terminal."""
    prompt, text = str(event.get("prompt") or ""), str(event["text"])
    return visible(prompt), visible(text.removeprefix(prompt))


def legend(meter: Meter) -> str:
    """What of a sample is the model's."""
    return LEGENDS.get(str(meter.start.get("objective") or "causal"), "")


LEGENDS = {
    "causal": "how the model goes on with a prompt",
    "masked": "held-out text, what the model guesses in its gaps as [right] and [wrong|truth]",
    "span": "held-out text with gaps => what the model writes for each",
    "seq2seq": "held-out text => what the model writes for it (wanted: the data's)",
    "prompted": "held-out prompt => what the model answers (wanted: the data's)",
}
"""objective.type -> what of its sample (run/samples.py) is the model's."""


def skipped_line(event: Event) -> str:
    if (spike := event.get("spike")) is None:
        return f"step {event['step']}: the loss or a gradient was not finite, so this update was skipped"
    what = f"the loss ({event['loss']:.3f}, at most {spike['loss_limit']:.3f} was expected)"
    if event["loss"] <= spike["loss_limit"]:
        what = f"the gradient ({event['grad_norm']:.3g}, at most {spike['grad_norm_limit']:.3g} was expected)"
    back = spike["returned_to"]
    done = "this update was skipped" if back is None else f"the weights of step {back} are back"
    return f"step {event['step']}: a spike of {what}, so {done}"


def checkpoint_line(event: Event) -> str:
    """`saved checkpoints/step-00000500 (best, 12.3 MiB, 1 s)`."""
    detail = [str(event["reason"])] if event.get("reason") else []
    detail += [size(event["bytes"])] if event.get("bytes") is not None else []
    detail += [duration(event["seconds"])] if event.get("seconds") is not None else []
    return f"saved {visible(str(event['path']))}" + (f" ({', '.join(detail)})" if detail else "")


def end_lines(event: Event, meter: Meter) -> list[str]:
    """How it ended, the best loss, where the run lies, and what to do next."""
    status = STATUS.get(event["status"], str(event["status"]))
    lines = [f"{status} after step {count(event['step'])}, {duration(event['seconds'])} in all."]
    if event.get("best_loss") is not None:
        at = f" at step {count(event['best_step'])}" if event.get("best_step") is not None else ""
        lines.append(f"Best validation loss: {fixed(event['best_loss'])}{at}")
    if meter.skipped:
        lines.append(f"Skipped updates: {meter.skipped}; the journal says which")
    run = str(meter.start.get("run") or "")
    if run:
        lines.append(f"Run: {visible(run)}")
        if event["status"] in ("finished", "stopped_early"):
            lines.append(f"Next: {_next(str(meter.start.get('objective') or 'causal'), visible(shlex.quote(run)))}")
    return lines


def _next(objective: str, run: str) -> str:
    """A command to go on with."""
    return NEXT.get(objective, "trifecta predict {run} 'TEXT'").format(run=run)


NEXT = {
    "causal": "trifecta generate {run} --prompt 'The'",
    "prompted": "trifecta generate {run} --interactive",
    "masked": "trifecta predict {run} 'A text with a [MASK] in it.'",
    "span": "trifecta predict {run} 'A text with a <extra_id_0> in it.'",
    "answer": "trifecta predict {run} 'QUESTION' --context 'TEXT'",
    "images": "trifecta predict {run} IMAGE",
}
"""objective.type -> the command that a run ends with; any other objective judges texts."""


def make_console(
    stream: TextIO | None = None, *, quiet: bool = False, json: bool = False, verbose: bool = False
) -> Console:
    """The console that fits: JSON if asked for, silent if asked for, rich in a terminal, else plain lines."""
    stream = stream or sys.stdout
    if json:
        return JsonConsole(stream)
    if quiet:
        return QuietConsole(stream)
    if stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown"):
        from trifecta.tracking.rich_console import RichConsole

        return RichConsole(stream, verbose=verbose)
    return PlainConsole(stream, verbose=verbose)
