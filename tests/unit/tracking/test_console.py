from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich import console as rich_terminal

from trifecta.tracking.console import JsonConsole, PlainConsole, QuietConsole, make_console
from trifecta.tracking.rich_console import RichConsole

START = {
    "event": "start", "run": "runs/book-small-1a2b", "dataset": "book", "preset": "tutorial", "characters": 1_115_394,
    "train_characters": 1_003_854, "validation_characters": 111_540, "train_tokens": 300_000,
    "validation_tokens": 33_000, "tokenizer": "bpe", "vocab_size": 2000, "parameters": 1_044_736, "device": "cpu",
    "precision": "fp32", "threads": 2, "tokens_per_step": 4096, "total_steps": 1455, "steps_per_epoch": 485,
    "epochs": 3, "resumed_from": None, "notes": [], "log_every_n_steps": 50,
}  # fmt: skip


def step(number: int, loss: float | None = 7.23412, **more: Any) -> dict[str, Any]:
    epoch = (number - 1) // 485 + 1
    return {
        "event": "step", "step": number, "epoch": epoch, "loss": loss, "learning_rate": 1.5e-4, "grad_norm": 1.0,
        "tokens": 4096, "seconds": 0.5, "skipped": False,
    } | more  # fmt: skip


def evaluation(number: int, **more: Any) -> dict[str, Any]:
    return {
        "event": "evaluation", "step": number, "epoch": 1, "split": "validation", "loss": 3.987, "perplexity": 53.893,
        "bits_per_byte": 2.1, "tokens": 33_000, "seconds": 2.0, "best": True,
    } | more  # fmt: skip


SAMPLE = {"event": "sample", "step": 485, "prompt": "The", "text": "The king\x1b[31m [red]is[/red] \x9b2Jdead"}
CHECKPOINT = {
    "event": "checkpoint",
    "step": 485,
    "path": "runs/x/checkpoints/step-00000485",
    "reason": "best",
    "bytes": 2**20,
}
END = {
    "event": "end", "step": 1455, "status": "finished", "seconds": 185.0, "loss": 3.1, "best_loss": 3.2,
    "best_step": 1400,
}  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def plain(*events: dict[str, Any], **options: Any) -> str:
    stream, clock = io.StringIO(), Clock()
    with PlainConsole(stream, clock=clock, **options) as console:
        for event in events:
            clock.now += event.get("seconds", 0.0)
            console(event)
    return stream.getvalue()


def rich(*events: dict[str, Any], width: int = 100, **options: Any) -> tuple[str, RichConsole]:
    stream, clock = io.StringIO(), Clock()
    terminal = rich_terminal.Console(
        file=stream, width=width, force_terminal=True, highlight=False, markup=False, emoji=False,
        color_system=options.pop("color_system", None), legacy_windows=False, _environ={"TERM": "xterm"},
    )  # fmt: skip
    with RichConsole(stream, clock=clock, terminal=terminal, **options) as console:
        for event in events:
            clock.now += event.get("seconds", 0.0)
            console(event)
    return stream.getvalue(), console


@pytest.mark.fast
def test_seed_s4_banner():
    text = plain(START)
    for fact in (
        "1,115,394 characters", "1,003,854", "111,540", "2,000 (bpe)", "Parameters: 1,044,736", "cpu", "2 threads",
        "4,096 tokens", "runs/book-small-1a2b",
    ):  # fmt: skip
        assert fact in text
    assert "Resumed" not in text
    assert "Resumed: after step 120" in plain(START | {"resumed_from": 120})


@pytest.mark.fast
def test_seed_s4_step_line_every_n_steps():
    lines = plain(START, *map(step, range(1, 101))).splitlines()
    lines = [line for line in lines if line.startswith("Epoch")]
    assert len(lines) == 2
    assert lines[0].startswith("Epoch 1/3 | Step 50/485 | Loss: 7.2341 | LR: 1.50e-04 | 8.19k tok/s | ")
    assert lines[0].endswith("11 min 42 s left")  # 1,405 steps of half a second
    assert lines[1].startswith("Epoch 1/3 | Step 100/485 | ")


def test_step_is_counted_within_its_epoch_and_the_last_is_always_shown():
    assert "Epoch 2/3 | Step 15/485 | " in plain(START, *map(step, range(1, 501)))
    assert "Epoch 3/3 | Step 485/485 | " in plain(START, *map(step, range(1, 1456)))
    assert "Epoch 1/1 | Step 7/7 | " in plain(START | {"total_steps": 7, "epochs": 1}, step(7))


def test_log_every_100_unless_told():
    start = {key: value for key, value in START.items() if key != "log_every_n_steps"}
    assert plain(start, step(50)).count("Loss:") == 0
    assert plain(start, step(100)).count("Loss:") == 1


@pytest.mark.fast
def test_seed_s0_epoch_line_and_s1_metrics_line():
    epoch = {"event": "epoch", "epoch": 1, "step": 485, "loss": 4.123, "perplexity": 61.744}
    assert "=== Epoch 1 Complete: Loss 4.1230, Perplexity 61.74 ===" in plain(START, step(485), epoch)
    after = plain(START, step(485), epoch, evaluation(485))
    assert "  train_loss=4.123, val_loss=3.987, perplexity=53.89, bits_per_byte=2.100 (best so far)" in after
    before = plain(START, step(484, 4.0), step(485, 5.0), evaluation(485, best=False), epoch)
    assert "  train_loss=4.500, val_loss=3.987, perplexity=53.89, bits_per_byte=2.100\n" in before


def test_train_loss_weighs_tokens_and_forgets_the_last_epoch():
    steps = [step(485, 9.0), step(486, 1.0, tokens=300), step(487, 5.0, tokens=100), evaluation(487)]
    assert "train_loss=2.000" in plain(START, *steps)


@pytest.mark.fast
def test_fault_084_sample_cannot_command_the_terminal():
    """A sample shown during training can neither command the terminal nor mark up the console."""
    for text in (plain(START, SAMPLE), rich(START, SAMPLE)[0].replace("\x1b[?25l", "").replace("\x1b[?25h", "")):
        assert "The king␛[31m [red]is[/red] \\x9b2Jdead" in text
        assert "\x1b[31m" not in text
        assert "\x9b" not in text


def test_fault_084_sample_control():
    """Printed as it is, the text reaches the terminal as commands."""
    assert "\x1b[31m" in SAMPLE["text"]


@pytest.mark.fast
def test_fault_031_skipped_step_is_said_at_once_and_at_the_end():
    """The console names a skipped step at once, and gives the number of skipped updates at the end."""
    bad = step(3, None, skipped=True, grad_norm=None)
    for text in (plain(START, bad, END), rich(START, bad, END)[0]):
        assert "step 3: the loss or a gradient was not finite" in text
        assert "Skipped updates: 1" in text


@pytest.mark.fast
def test_fault_034_a_spike_is_told_with_what_stood_out_and_what_was_done():
    """The console tells whether loss or gradient was too large, its limit, and whether weights came back."""
    limits = {"loss_limit": 2.5, "grad_norm_limit": 0.75}
    by_loss = step(3, 9.0, skipped=True, grad_norm=0.5, spike=limits | {"returned_to": None})
    by_gradient = step(4, 2.0, skipped=True, grad_norm=12.0, spike=limits | {"returned_to": 2})
    for text in (plain(START, by_loss, by_gradient, END), rich(START, by_loss, by_gradient, END)[0]):
        said = " ".join(text.split())
        assert "step 3: a spike of the loss (9.000, at most 2.500 was expected), so this update was skipped" in said
        assert (
            "step 4: a spike of the gradient (12, at most 0.75 was expected), so the weights of step 2 are back" in said
        )
        assert "Skipped updates: 2" in said


def test_checkpoints_are_quiet_unless_verbose():
    for show in (plain, lambda *a, **k: rich(*a, **k)[0]):
        assert "step-00000485" not in show(START, CHECKPOINT)
        assert "saved runs/x/checkpoints/step-00000485 (best, 1.0 MiB)" in show(START, CHECKPOINT, verbose=True)


@pytest.mark.fast
def test_end_says_how_where_and_what_next():
    for text in (plain(START, END), rich(START, END)[0]):
        assert "Finished after step 1,455, 3 min 05 s in all." in text
        assert "Best validation loss: 3.2000 at step 1,400" in text
        assert "trifecta generate runs/book-small-1a2b --prompt 'The'" in text
    assert "generate" not in plain(START, END | {"status": "interrupted"})
    assert "'my runs/x'" in plain(START | {"run": "my runs/x"}, END)


def test_notes_and_preparation():
    events = [{"event": "prepare", "stage": "tokenizing", "ratio": ratio} for ratio in (None, 0.0, 0.5, 1.0)]
    note = {"event": "note", "message": "BOM removed\x1b"}
    assert plain(*events, note) == "tokenizing ...\nnote: BOM removed␛\n"
    text, _ = rich(*events, START, note)
    assert "tokenizing ..." in text
    assert "note: BOM removed␛" in text


@pytest.mark.fast
@pytest.mark.parametrize("width", [30, 40, 60, 100])
def test_live_lines_fit_the_window(width: int):
    _, console = rich(START, step(1), evaluation(1), *map(step, range(2, 50)), width=width)
    lines = console.terminal.render_lines(console.live_lines())
    text = ["".join(segment.text for segment in line).rstrip() for line in lines]
    assert len(text) == 2
    assert text[0].startswith("Epoch 1/3")
    assert "49/1455" in text[0]
    assert text[1].startswith("loss 7.2341")
    assert all(len(line) <= width for line in text)
    if width == 100:
        assert text[1] == "loss 7.2341   val 3.9870   ppl 53.89   tok/s 8.19k   lr 1.50e-04"
        assert text[0].endswith("12 min 40 s left")  # 1,406 steps; 26.5 s for 49


def test_live_lines_show_a_loss_that_is_not_a_number_in_red():
    _, console = rich(START, step(1, None), color_system="standard")
    assert any(span.style == "red" for span in console._numbers(80).spans)


def test_no_color(monkeypatch: pytest.MonkeyPatch):
    def text(color: bool) -> str:
        monkeypatch.delenv("NO_COLOR", raising=False)
        if not color:
            monkeypatch.setenv("NO_COLOR", "1")
        stream = _Terminal()
        with make_console(stream) as console:
            for event in (START, evaluation(1), END):
                console(event)
        return stream.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[32m" in text(color=True)  # the best evaluation, green
    assert "\x1b[32m" not in text(color=False)


@pytest.mark.fast
def test_cursor_comes_back_however_the_run_ends():
    stream = _Terminal()
    terminal = rich_terminal.Console(file=stream, force_terminal=True, width=80, _environ={"TERM": "xterm"})

    def dies() -> None:
        with RichConsole(stream, clock=Clock(), terminal=terminal) as console:
            console(START)
            console(step(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dies()
    text = stream.getvalue()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_json_lines_are_the_events():
    stream = io.StringIO()
    with JsonConsole(stream) as console:
        for event in (START, step(1, float("nan")), {"event": "prepare", "stage": "reading", "ratio": None}, END):
            console(event)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["start", "step", "end"]
    assert events[1]["loss"] is None
    assert next(iter(events[2])) == "event"
    assert list(events[2])[-1] == "time"


def test_quiet_says_nothing():
    stream = io.StringIO()
    with QuietConsole(stream) as console:
        for event in (START, step(50), SAMPLE, END):
            console(event)
    assert stream.getvalue() == ""


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.fast
def test_the_console_that_fits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    assert type(make_console(io.StringIO())) is PlainConsole
    assert type(make_console(_Terminal())) is RichConsole
    assert type(make_console(_Terminal(), quiet=True)) is QuietConsole
    assert type(make_console(_Terminal(), json=True)) is JsonConsole
    monkeypatch.setenv("TERM", "dumb")
    assert type(make_console(_Terminal())) is PlainConsole


@pytest.mark.fast
@pytest.mark.parametrize("kind", [PlainConsole, JsonConsole])
def test_a_reader_that_went_away_does_not_stop_the_run(kind: type):
    class Gone(io.StringIO):
        written = 0

        def write(self, _: str) -> int:
            self.written += 1
            raise BrokenPipeError

    stream = Gone()
    with kind(stream) as console:
        for event in (START, step(50), END):
            console(event)
    assert stream.written == 1


def test_a_stream_that_cannot_say_everything_gets_what_it_can():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    PlainConsole(stream)(SAMPLE | {"text": "größer"})
    stream.seek(0)
    assert "gr??er" in stream.read()


@pytest.mark.fast
def test_quiet_still_says_what_was_damaged(capsys: pytest.CaptureFixture[str]):
    stream = io.StringIO()
    with make_console(stream, quiet=True) as quiet:
        quiet({"event": "note", "message": "damaged checkpoint passed over: a\x1b"})
        quiet({"event": "note", "message": "a byte order mark was removed"})
    assert stream.getvalue() == ""
    assert capsys.readouterr().err == "note: damaged checkpoint passed over: a␛\n"


def test_position_after_a_resume_with_another_batch_size() -> None:
    """Resumed in epoch 3 at step 200, which would be step 21 of 44 of the new size; epoch 4 begins at step 224."""
    start = START | {"steps_per_epoch": 44, "total_steps": 240, "epochs": 4, "resumed_from": 200, "epoch": 3,
                     "step_in_epoch": 21, "log_every_n_steps": 1}  # fmt: skip
    events = [step(number, epoch=3 if number < 224 else 4) for number in range(201, 241)]
    shown = plain(start, *events)
    assert "Epoch 3/4 | Step 22/44 | " in shown
    assert "Epoch 3/4 | Step 44/44 | " in shown
    assert "Epoch 4/4 | Step 1/44 | " in shown
    assert "Epoch 4/4 | Step 17/44 | " in shown


def validating(ratio: float, seconds: float) -> dict[str, Any]:
    """A report of a validation after so many seconds more."""
    return {"event": "prepare", "stage": "validating", "ratio": ratio, "seconds": seconds}


@pytest.mark.fast
def test_a_long_validation_says_now_and_then_how_far_it_is():
    """Nothing in the first two seconds, then a line every ten; the next validation begins anew."""
    short = [validating(0.5, 0.9), validating(1.0, 0.9)]
    assert "validating" not in plain(START, step(1), *short, evaluation(1), *short, evaluation(2))
    shares = [n / 30 for n in range(1, 31)]
    long = [validating(share, 1.0) for share in shares]
    lines = plain(START, step(1), *long, evaluation(1), *long[:4]).splitlines()
    shown = [line for line in lines if "validating" in line]
    assert shown == [f"  validating {percent}% ..." for percent in (10, 43, 77, 10)]


@pytest.mark.fast
def test_preparing_that_lasts_says_how_far_it_is():
    events = [{"event": "prepare", "stage": "tokenizing", "ratio": n / 4, "seconds": 6.0} for n in range(4)]
    assert plain(*events) == "tokenizing ...\n  tokenizing 50% ...\n"


@pytest.mark.fast
def test_a_terminal_keeps_the_bar_while_it_validates():
    events = (START, *map(step, range(1, 486)), validating(0.37, 1.0))
    _, console = rich(*events)
    lines = ["".join(part.text for part in line) for line in console.terminal.render_lines(console.live_lines())]
    assert len(lines) == 2
    assert "485/1455" in lines[0]
    assert lines[1].startswith("validating 37% ...")
    _, console = rich(*events, evaluation(485))
    lines = ["".join(part.text for part in line) for line in console.terminal.render_lines(console.live_lines())]
    assert lines[1].startswith("loss 7.2341   val 3.9870")


def test_a_rate_of_zero_is_said_to_be_meant():
    """A straight line to zero has zero in its last step: a bare 0.00e+00 would look broken."""
    line = plain(START, step(1455, learning_rate=0.0)).splitlines()[-1]
    assert "| LR: 0 (as scheduled) |" in line


@pytest.mark.fast
@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ("causal", "how the model goes on"), ("masked", "as [right] and [wrong|truth]"),
        ("span", "=> what the model writes"), ("seq2seq", "=> what the model writes for it (wanted: the data's)"),
        ("prompted", "=> what the model answers (wanted: the data's)"),
    ],
)  # fmt: skip
def test_a_sample_says_what_of_it_is_the_models(objective: str, told: str):
    start = START | {"objective": objective}
    assert f"{told}" in next(line for line in plain(start, SAMPLE).splitlines() if "sample after step 485: " in line)
    assert told in rich(start, SAMPLE)[0]


def test_every_kind_of_sample_has_a_legend():
    from trifecta.run.samples import MAKERS
    from trifecta.tracking.console import LEGENDS

    assert LEGENDS.keys() == MAKERS.keys()
