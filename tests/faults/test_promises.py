"""What no single case says: what a resume and a save cost, in calls and bytes rather than seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from objectives import causal
from runs import Killed, train, train_here, write_text

from trifecta.data import Sampler, Windows
from trifecta.data.cache import read_summed, summed
from trifecta.run.feed import Feed
from trifecta.training.plan import MicroBatch, Plan

MiB = 1 << 20


# ------------------------------------------------------------------------------------------------- the way to a step


class Counted:
    """A store that counts what is read of it; its tokens are their own positions."""

    def __init__(self, size: int):
        self.tokens = range(size)
        self.reads = 0

    def read(self, start: int, stop: int) -> Any:
        self.reads += 1
        return np.arange(start, min(stop, len(self.tokens)), dtype=np.int64)


def calls_to_resume(step: int, updates: Callable[[Plan, int], Iterator[list[MicroBatch]]]) -> tuple[int, int]:
    """Python calls and reads of the store until the first update after a step is ready."""
    store: Any = Counted(4_000_000_000)
    windows = Windows(store, 101, overlap=1)
    feed = Feed(causal(100), windows, Sampler(len(windows), seed=1, shuffle=True), seed=1, part="train", num_workers=0)
    plan = Plan(len(windows), batch_size=4, gradient_accumulation_steps=2, epochs=9, max_steps=None)
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        batches = next(feed.updates(updates(plan, step)))
    finally:
        sys.setprofile(None)
    assert sum(len(batch.inputs["tokens_BT"]) for batch in batches) == 8
    return calls, store.reads


@pytest.mark.fast
def test_a_resume_costs_the_same_at_step_ten_and_at_step_ten_million() -> None:
    """Resuming at step 10,000,000 reads the tokens as often as at step 10 (8 times), in less than twice the Python
    calls."""

    def at_once(plan: Plan, step: int) -> Iterator[list[MicroBatch]]:
        return plan.updates(8 * step)

    (few, reads), (many, reads_late) = calls_to_resume(10, at_once), calls_to_resume(10_000_000, at_once)
    assert reads == reads_late == 8
    assert many < 2 * few


@pytest.mark.fast
def test_a_resume_costs_the_same_control_a_replay_is_noticed() -> None:
    """A resume that goes through every earlier step makes more calls."""

    def replayed(plan: Plan, step: int) -> Iterator[list[MicroBatch]]:
        updates = plan.updates(0)
        for _ in range(step):
            next(updates)
        return updates

    assert calls_to_resume(2_000, replayed)[0] > 2 * calls_to_resume(10, replayed)[0]


# --------------------------------------------------------------------------------------------------- 100 GB of tokens

_MEASURE = """
import atexit, re
def measured():
    status = open("/proc/self/status").read()
    read = int(re.search(r"rchar: (\\d+)", open("/proc/self/io").read())[1])
    mapped = int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) * 1024
    print(f"measured {read} {mapped}", flush=True)
atexit.register(measured)
"""
_READING = """
from trifecta.data.store import TokenStore
plain = TokenStore.__init__
def reading(self, *arguments):
    plain(self, *arguments)
    self.tokens[: 1 << 28].sum()
TokenStore.__init__ = reading
"""


def blow_up(entry: Path, tokens: int) -> None:
    """Makes the training part of a cache entry that large, of zeros, on a disk that stores none of them."""
    import zlib

    os.truncate(entry / "train.tokens", 0)
    os.truncate(entry / "train.tokens", 2 * tokens)
    assert tokens % (1 << 15) == 0
    np.full(tokens >> 15, zlib.crc32(bytes(1 << 16)), "<u4").tofile(entry / "train.sums")
    meta = read_summed(entry / "meta.json")
    meta["parts"]["train"]["tokens"] = tokens
    (entry / "meta.json").write_bytes(summed(meta))


def resumed_over(gigabytes: int, place: Path, plant: str = "") -> tuple[int, int]:
    """Bytes read and most memory used by a process that resumes on so much text."""
    text = write_text(place / "words.txt", words=300)
    os.utime(text, (1, 1))
    assert train(text, place / "run", at_step=9).returncode == -9
    (entry,) = (place / "cache" / "tokens").iterdir()
    blow_up(entry, gigabytes * 10**9 // 2 >> 15 << 15)
    done = train(text, place / "run", plant=_MEASURE + plant, at_step=12, signal=15)
    assert done.returncode == 0, done.stderr
    assert '"step": 12' in done.stdout
    _, read, mapped = done.stdout.splitlines()[-1].split()
    return int(read), int(mapped)


@pytest.mark.slow
def test_a_hundred_gigabytes_of_tokens_are_resumed_without_being_read(tmp_path: Path) -> None:
    """Resuming over 100 GB of tokens reads at most 4 MiB more, and takes at most 32 MiB more memory, than over 1 GB."""
    (tmp_path / "small").mkdir()
    (tmp_path / "large").mkdir()
    read, mapped = resumed_over(1, tmp_path / "small")
    read_100, mapped_100 = resumed_over(100, tmp_path / "large")
    assert read_100 < read + 4 * MiB
    assert mapped_100 < mapped + 32 * MiB


@pytest.mark.slow
def test_a_hundred_gigabytes_control_a_look_at_the_tokens_is_noticed(tmp_path: Path) -> None:
    """A resume that reads 512 MiB of the tokens takes more memory."""
    (tmp_path / "small").mkdir()
    (tmp_path / "large").mkdir()
    _, mapped = resumed_over(1, tmp_path / "small")
    assert resumed_over(1, tmp_path / "large", plant=_READING)[1] > mapped + 32 * MiB


# ------------------------------------------------------------------------------------------------- what a save costs

_SAVE = """
import re, sys, time
from pathlib import Path
import torch
from trifecta.optim import OPTIMIZERS, Trainable
from trifecta.training import checkpoint, files
from trifecta.training.state import Progress, TrainState

def memory(field):
    return int(re.search(field + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

model = torch.nn.Linear(2560, 2560, bias=False)
optimizers = OPTIMIZERS["adamw"](Trainable({"weight": model.weight}, {"weight": "matrix"}), 1e-3, beta_1=0.9,
                                 beta_2=0.999, epsilon=1e-8, weight_decay=0.0)
model.weight.grad = torch.ones_like(model.weight)
optimizers.step()
exec(sys.argv[2])
open("/proc/self/clear_refs", "w").write("5")
before, began = memory("VmRSS"), time.process_time()
saved = checkpoint.save(Path(sys.argv[1]), TrainState(model, optimizers, Progress(step=1)), {}, reason="steps")
seconds = time.process_time() - began
print(memory("VmHWM") - before, seconds, sum(path.stat().st_size for path in saved.folder.iterdir()))
"""
_COPYING = """
from safetensors.torch import save
files.write_safetensors = lambda writer, tensors: writer.write(save(dict(tensors)))
"""


def saved_state(place: Path, plant: str = "") -> tuple[int, float, int]:
    """Memory that a save takes beyond what there was, its processor seconds, and the bytes that it writes."""
    done = subprocess.run(
        [sys.executable, "-c", _SAVE, str(place), plant], capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    grown, seconds, written = done.stdout.split()
    return int(grown), float(seconds), int(written)


def test_saving_takes_no_copy_of_what_it_saves(tmp_path: Path) -> None:
    """Saving weights and moments takes less than a tenth of their size in extra memory."""
    grown, _, written = saved_state(tmp_path)
    assert written > 3 * 25 * MiB
    assert grown < written / 10


def share_of_the_time(place: Path, minutes: float, plant: str = "") -> float:
    """Processor time of saving a GiB of weights and moments, as a share of the time between saves."""
    _, seconds, written = saved_state(place, plant)
    return seconds * 2**30 / written / (60 * minutes)


def test_saving_takes_little_time_at_the_default_cadence(tmp_path: Path) -> None:
    """Saving 1 GiB of weights and moments takes processor time of less than 2 % of the ten minutes between saves; the
    wait for a disk isn't counted."""
    from trifecta.recipe.schema import Training

    minutes = Training().save_every_minutes
    assert minutes is not None
    assert share_of_the_time(tmp_path, minutes) < 0.02


def test_saving_takes_little_time_control_a_save_every_few_seconds_is_noticed(tmp_path: Path) -> None:
    """Saves every second take more than 2 %."""
    assert share_of_the_time(tmp_path, 1 / 60) > 0.02


def test_saving_takes_no_copy_control_the_library_is_noticed(tmp_path: Path) -> None:
    """The safetensors library's own save takes more than half of the size in extra memory."""
    grown, _, written = saved_state(tmp_path, _COPYING)
    assert grown > written / 2


# --------------------------------------------------------------------------------------- text that hasn't changed


@pytest.mark.fast
def test_unchanged_text_is_not_opened_on_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run goes on without opening its text, as long as the text's size, times and inode are what they were."""
    monkeypatch.setenv("TRIFECTA_CACHE", str(tmp_path / "cache"))
    text = write_text(tmp_path / "words.txt", words=300)
    os.utime(text, (1, 1))
    with pytest.raises(Killed):
        train_here(text, tmp_path / "run", at_step=6)

    def never(*_: Any) -> Any:
        raise AssertionError("the text was opened")

    for module in ("trifecta.data.sources", "trifecta.data.files"):
        monkeypatch.setattr(f"{module}.open_regular", never)
    with pytest.raises(Killed):
        train_here(text, tmp_path / "run", at_step=8)
    events = (tmp_path / "run" / "journal.jsonl").read_text()
    assert '"resumed_from": 5' in events
