"""Processes that are killed, stopped, or two at once; in the end every byte is that of the run left alone."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from runs import ANNOUNCE, command, losses, same, train, variables

from trifecta.training import checkpoint

pytestmark = [pytest.mark.sweep, pytest.mark.timeout(560)]
PHASES = ("step", "evaluation", "save")
Settings = dict[str, Any]


def start(text: Path, out: Path, plant: str = ANNOUNCE, **settings: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(text, out, plant=plant, **settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=variables(text),
    )  # fmt: skip


def strike(process: subprocess.Popen[str], phase: str, count: int, delay: float, number: int) -> tuple[str, int]:
    """Sends a signal a while after the count-th beginning of a phase.

    Returns the phase in which the process was by its last words, or "between", and the number of the last step that it
    began.
    """
    assert process.stdout is not None
    said: list[list[str]] = []
    for line in process.stdout:
        said.append(line.split())
        count -= said[-1][:2] == ["begin", phase]
        if count == 0:
            time.sleep(delay)
            process.send_signal(number)
            break
    said += [line.split() for line in process.stdout if line.endswith("\n")]
    process.communicate(timeout=60)
    steps = [int(words[2]) for words in said if words[:2] == ["begin", "step"]]
    last = next(words for words in reversed(said) if words[0] in ("begin", "end"))
    return (last[1] if last[0] == "begin" else "between"), max(steps, default=0)


def durations(text: Path, out: Path, settings: Settings) -> dict[str, float]:
    """How long each phase takes here, at the median: the span in which a blow is to fall."""
    began: dict[str, float] = {}
    taken: dict[str, list[float]] = {phase: [] for phase in PHASES}
    with start(text, out, **settings) as process:
        assert process.stdout is not None
        for line in process.stdout:
            what, phase, *_ = line.split()
            if what == "begin":
                began[phase] = time.monotonic()
            elif what == "end":
                taken[phase].append(time.monotonic() - began[phase])
            if len(taken["step"]) == 30:
                process.kill()
                break
    return {phase: sorted(times)[len(times) // 2] for phase, times in taken.items()}


def test_fault_001_twenty_kills_in_one_run(text: Path, whole: Path, settings: Settings, tmp_path: Path) -> None:
    """Killed twenty times at random moments, at least three times each in a step, an evaluation and a save, a run ends
    with the same bytes and each step once in its journal."""
    long = durations(text, tmp_path / "probe", settings)
    rng, out, last = random.Random(1), tmp_path / "run", losses(whole)[-1][0]
    hits: Counter[str] = Counter()
    for attempt in range(60):
        if sum(hits.values()) >= 20 and min(hits[phase] for phase in PHASES) >= 3:
            break
        phase = PHASES[attempt % 3] if sum(hits.values()) < 20 else min(PHASES, key=lambda p: hits[p])
        process = start(text, out, **settings)
        count = rng.randint(1, 9) if phase == "step" else 1 + (phase == "save" and rng.random() < 0.5)
        where, step = strike(process, phase, count, rng.random() * long[phase], signal.SIGKILL)
        assert process.returncode == -9, "the run ended before its kills"
        hits[where] += 1 <= step < last
    assert sum(hits.values()) >= 20, hits
    assert min(hits[phase] for phase in PHASES) >= 3, hits
    assert train(text, out, **settings).returncode == 0
    same(out, whole)
    assert [step for step, _ in losses(out)] == list(range(1, last + 1)), "each step once"
    best = json.loads((out / "checkpoints" / "best" / "state.json").read_text())["progress"]
    assert best["step"] == best["best_step"]
    assert (out / "checkpoints" / "best").resolve().name == (whole / "checkpoints" / "best").resolve().name
    assert len(checkpoint.candidates(out / "checkpoints")) <= 3, "the last two and the best"
    print(f"kills: {dict(hits)}")


def test_fault_001_control_the_journal_of_a_run_that_forgets_is_noticed(
    text: Path, whole: Path, settings: Settings, tmp_path: Path
) -> None:
    """A run that leaves the steps of the killed process in its journal has some of them twice."""
    out = tmp_path / "run"
    assert train(text, out, at_step=13, **settings).returncode == -9
    keeping = "from trifecta.tracking.journal import Journal; Journal.truncate_to = lambda self, offset: 0"
    assert train(text, out, plant=keeping, **settings).returncode == 0
    steps = [step for step, _ in losses(out)]
    assert steps != list(range(1, len(steps) + 1))
    with pytest.raises(AssertionError):
        same(out, whole)


STAGES = ["begin", "model.safetensors", "optimizer.safetensors", "recipe.yaml", "tokenizer.json", "state.json",
          "manifest", "renamed", "unlinked", "removed"]  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_fault_002_killed_at_every_stage_again_and_again(
    text: Path, whole: Path, settings: Settings, tmp_path: Path, stage: str
) -> None:
    """A run killed twice over at the same stage of its saves goes on to the same bytes."""
    out = tmp_path / "run"
    for _ in range(2):
        assert train(text, out, environment={"TRIFECTA_FAILPOINT": stage}, **settings).returncode == -9
    assert train(text, out, **settings).returncode == 0
    same(out, whole)
    assert not list((out / "checkpoints").glob(".partial*"))


def test_fault_021_two_processes_at_once(text: Path, whole: Path, settings: Settings, tmp_path: Path) -> None:
    """Of two processes started at once in one folder one trains; the other ends (2) and names the holder."""
    go = tmp_path / "go"
    waiting = f"""
import pathlib, time, trifecta.training.loop as loop
plain = loop.update
def patient(*arguments, **options):
    while not pathlib.Path({str(go)!r}).exists():
        time.sleep(0.01)
    return plain(*arguments, **options)
loop.update = patient
"""
    out = tmp_path / "run"
    both = [start(text, out, plant=waiting, **settings) for _ in range(2)]
    while all(process.poll() is None for process in both):
        time.sleep(0.02)
    (loser,) = (process for process in both if process.poll() is not None)
    (winner,) = (process for process in both if process is not loser)
    go.touch()
    _, said = loser.communicate(timeout=60)
    assert loser.returncode == 2, said
    assert f"another process is training here: process {winner.pid} on " in said
    winner.communicate(timeout=200)
    assert winner.returncode == 0
    same(out, whole)


@pytest.mark.parametrize("seed", range(3))
def test_fault_024_025_signals_at_random_moments(
    text: Path, whole: Path, settings: Settings, tmp_path: Path, seed: int
) -> None:
    """At random moments of steps, evaluations and saves, SIGTERM and Ctrl-C (SIGINT) each end the run with a save;
    resumed, it ends with the same bytes."""
    rng, out = random.Random(seed), tmp_path / "run"
    long = durations(text, tmp_path / "probe", settings)
    for number, status in ((15, "terminated"), (2, "interrupted"), (15, "terminated")):
        phase = rng.choice(PHASES)
        process = start(text, out, **settings)
        _, step = strike(process, phase, rng.randint(1, 3), rng.random() * long[phase], number)
        assert process.returncode == 0
        saved = checkpoint.newest(out / "checkpoints", print)
        assert saved is not None
        assert saved.step == step, "not one finished step is lost"
        assert json.loads((saved.folder / "state.json").read_text())["progress"]["status"] == status
    assert train(text, out, **settings).returncode == 0
    same(out, whole)


def test_fault_025_a_second_interrupt_at_a_random_moment(
    text: Path, whole: Path, settings: Settings, tmp_path: Path
) -> None:
    """A second Ctrl-C ends the process at once, wherever it stands; what was saved loads and goes on."""
    out = tmp_path / "run"
    twice = ANNOUNCE + "\nimport signal, sys\nsys.excepthook = lambda *_: None\n"
    process = start(text, out, plant=twice, **settings)
    assert process.stdout is not None
    steps = 0
    for line in process.stdout:
        steps += line.startswith("begin step")
        if steps == 12:
            for _ in range(2):
                process.send_signal(signal.SIGINT)
                time.sleep(0.001)
            break
    process.communicate(timeout=60)
    assert process.returncode in (0, 1, 130, -2), "saved for the first, or ended by the second"
    assert train(text, out, **settings).returncode == 0
    same(out, whole)
