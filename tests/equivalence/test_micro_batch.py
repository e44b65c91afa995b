"""How many sequences are computed at once: out of memory it is halved, and `auto` is measured once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from runs import SHORT, Killed, losses, train, train_here, write_text

from trifecta.errors import RecipeErrors, ResourceError
from trifecta.objectives import LossModule
from trifecta.recipe import collect
from trifecta.run import fitting, folder
from trifecta.run.fitting import Trial, choose
from trifecta.training.plan import Plan

EXACT: dict[str, Any] = SHORT | {"model.dropout": 0.0, "execution.precision": "fp32", "training.batch_size": 6}
"""Six sequences twice in an update; without dropout, which follows from the layout of batches."""


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIFECTA_CACHE", str(tmp_path / "cache"))
    return write_text(tmp_path / "words.txt", words=300)


def fits(most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine on which so many samples at once fit into training's memory; the sizes that didn't."""
    plain, failed = LossModule.forward, []

    def forward(self: LossModule, batch: Any) -> Any:
        result = plain(self, batch)
        if self.training and batch.samples > most:
            failed.append(batch.samples)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return result

    monkeypatch.setattr(LossModule, "forward", forward)
    return failed


def notes(out: Path) -> list[str]:
    events = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    return [event["message"] for event in events if event["event"] == "note"]


def values(out: Path) -> list[float]:
    return [float.fromhex(loss) for _, loss in losses(out)]


def test_fault_027_out_of_memory_halves_the_micro_batch_and_keeps_the_update(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where two sequences fit at most, six become three and then one, the losses stay to a relative 1e-5, the
    journal and the recipe say so, and a resume begins with one."""
    whole, run = text.parent / "whole", text.parent / "run"
    train_here(text, whole, **EXACT)
    failed = fits(2, monkeypatch)
    with pytest.raises(Killed):
        train_here(text, run, at_step=5, **EXACT)
    assert failed == [6, 3]
    train_here(text, run, **EXACT)
    assert failed == [6, 3], "the resumed run has begun with what fits"
    assert values(run) == pytest.approx(values(whole), rel=1e-5)
    assert len(values(whole)) == len(losses(run))
    stored = folder.read_recipe(run)
    assert stored.execution.micro_batch_size == 1
    assert (stored.training.batch_size, stored.training.gradient_accumulation_steps) == (6, 2)
    assert [n for n in notes(run) if n.startswith("out of memory with 6 sequences at once (CUDA out of memory")]
    assert any("from here on 1, in 12 micro-batches an update" in note for note in notes(run))


def test_fault_027_control_an_update_of_fewer_samples_is_noticed(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Micro-batches that are halved without more of them give other losses, and fail the test."""
    from trifecta.run import build

    def smaller(recipe: Any, samples: int) -> Plan:
        plan = right(recipe, samples)
        size = plan.micro_batch_size
        return plan if size is None else replace(plan, batch_size=size, micro_batch_size=None)

    right = build.plan_of
    monkeypatch.setattr(build, "plan_of", smaller)
    with pytest.raises(AssertionError):
        test_fault_027_out_of_memory_halves_the_micro_batch_and_keeps_the_update(text, monkeypatch)


def test_fault_027_one_sequence_that_does_not_fit_ends_the_run_with_an_estimate(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not even one sequence fits the error (6) says how much is needed."""
    failed = fits(0, monkeypatch)
    with pytest.raises(
        ResourceError, match=r"out of memory with one sequence at a time; about \d+ MiB are needed"
    ) as e:
        train_here(text, text.parent / "run", **EXACT)
    assert e.value.exit_code == 6
    assert failed == [6, 3, 1]


def test_fault_027_control_another_error_is_not_taken_for_it(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that has nothing to do with memory isn't answered with smaller batches."""

    def forward(*_: Any) -> Any:
        raise RuntimeError("shapes don't fit")

    monkeypatch.setattr(LossModule, "forward", forward)
    with pytest.raises(RuntimeError, match="shapes don't fit"):
        train_here(text, text.parent / "run", **EXACT)


_LIMIT = """
import resource
import trifecta.training.loop
plain = trifecta.training.loop.update
def limited(*given, **options):
    used = int(open("/proc/self/statm").read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used + (60 << 20), resource.RLIM_INFINITY))
    try:
        return plain(*given, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
trifecta.training.loop.update = limited
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")
def test_fault_027_a_real_limit(text: Path) -> None:
    """A process that may take 60 MiB more trains 32 sequences of 128 in smaller micro-batches, to the losses of one
    without a limit."""
    settings: dict[str, Any] = EXACT | {
        "training.batch_size": 32, "training.gradient_accumulation_steps": 1, "training.epochs": 1,
        "data.sequence_length": 128,
        "model.d_model": 128, "model.d_ff": 512, "model.num_layers": 4,
    }  # fmt: skip
    text = write_text(text, words=1500)
    without, within = text.parent / "without", text.parent / "within"
    for out, plant in ((without, ""), (within, _LIMIT)):
        done = train(text, out, plant=plant, **settings)
        assert done.returncode == 0, done.stderr
    size = folder.read_recipe(within).execution.micro_batch_size
    assert isinstance(size, int)
    assert 1 <= size <= 16
    assert values(within) == pytest.approx(values(without), rel=1e-5)


# ------------------------------------------------------------------------------------------------------------- auto


def machine(seconds: Callable[[int], float], room: int, tried: list[int]) -> Callable[[int], Trial]:
    def attempt(samples: int) -> Trial:
        tried.append(samples)
        if 100 * samples > 2 * room:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return Trial(samples, seconds(samples), 100 * samples)

    return attempt


@pytest.mark.fast
@pytest.mark.parametrize(
    ("room", "most", "wanted", "trials"),
    [
        (10_000, 24, 24, [1, 2, 4, 8, 16, 24]),
        (1700, 24, 16, [1, 2, 4, 8, 16, 24]),
        (850, 24, 8, [1, 2, 4, 8, 16]),
        (100, 24, 1, [1, 2]),
        (10_000, 1, 1, [1]),
    ],
)
def test_the_largest_that_fits_is_found(room: int, most: int, wanted: int, trials: list[int]) -> None:
    """On a machine where a larger batch is faster for each sample; 100 bytes a sample."""
    tried: list[int] = []
    found, _ = choose(most, room, lambda _: 0, machine(lambda n: 0.01 + 0.001 * n, room, tried))
    assert (found, tried) == (wanted, trials)


@pytest.mark.fast
def test_what_is_expected_not_to_fit_is_never_tried() -> None:
    tried: list[int] = []
    found, _ = choose(64, 850, lambda n: 100 * n, machine(lambda n: 0.01 + 0.001 * n, 10**6, tried))
    assert (found, tried) == (8, [1, 2, 4, 8])
    with pytest.raises(ResourceError, match=r"not even one sequence fits: about 2\.0 GiB are needed, 850 MiB"):
        choose(64, 850 << 20, lambda _: 2 << 30, machine(lambda n: n, 1, tried))


@pytest.mark.fast
def test_what_is_slower_is_not_taken() -> None:
    """Beyond 8 samples each costs twice as much: caches are full."""
    tried: list[int] = []
    found, _ = choose(64, None, lambda _: 0, machine(lambda n: (0.01 + 0.001 * n) * (1 + (n > 8)), 10**6, tried))
    assert (found, tried) == (8, [1, 2, 4, 8, 16])


@pytest.mark.fast
def test_trials_end_after_some_seconds() -> None:
    tried: list[int] = []
    found, _ = choose(1024, None, lambda _: 0, machine(lambda n: 0.9 + 0.001 * n, 10**6, tried))
    assert (found, tried) == (2, [1, 2])


@pytest.mark.fast
def test_auto_keeps_the_presets_update_and_a_number_over_it_switches_it_off() -> None:
    asked = collect(preset="small", overrides=["training.batch_size=auto"]).resolve().recipe
    plain = collect(preset="small").resolve().recipe
    assert asked.execution.fit_batch
    assert asked.training == plain.training
    with pytest.raises(
        RecipeErrors, match=r"execution.micro_batch_size can't take effect: it is measured, or an update has fewer"
    ):
        collect(preset="small", overrides=["execution.micro_batch_size=1000"]).resolve()
    with pytest.raises(RecipeErrors, match=r"execution.micro_batch_size"):
        collect(preset="small", overrides=["execution.micro_batch_size=0"]).resolve()


@pytest.mark.fast
@pytest.mark.parametrize("told", ["expected", "measured"])
@pytest.mark.parametrize(("each", "wanted"), [(99, 8), (101, 4)])
def test_four_fifths_of_free_memory_may_be_taken(
    each: int, wanted: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1,000 MiB 792 are taken and 808 aren't, whether bytes are estimated before or measured after."""
    mib = 2**20
    monkeypatch.setattr(fitting, "free_memory", lambda _: 1000 * mib)
    needed = {"expected": 0, "measured": 0} | {told: each * mib}
    monkeypatch.setattr(fitting, "_expected", lambda *_: lambda samples: needed["expected"] * samples)
    monkeypatch.setattr(
        fitting, "_attempts", lambda *_: lambda samples: Trial(samples, 1e-3 * samples, needed["measured"] * samples)
    )
    recipe = collect(preset="small").resolve().recipe
    feed, module = SimpleNamespace(samples=range(64)), torch.nn.Linear(1, 1)
    found, why = fitting.measured(recipe, feed, module, None, torch.device("cpu"))  # type: ignore[arg-type]
    assert found.execution.micro_batch_size == wanted
    assert f"about {each * wanted} MiB of the 800 MiB that may be taken" in why


def test_auto_is_measured_once_and_stored(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With little memory it takes few sequences at once, the losses are those of the whole batch, and a resume asks
    nothing again."""
    settings = EXACT | {"training.batch_size": "auto", "training.save_every_n_steps": 1}
    plain = {key: value for key, value in EXACT.items() if key != "training.batch_size"} | {"training.batch_size": 32}
    train_here(text, text.parent / "whole", **plain)
    monkeypatch.setattr(fitting, "free_memory", lambda _: 500_000)
    run = text.parent / "run"
    with pytest.raises(Killed):
        train_here(text, run, at_step=2, **settings)
    stored = folder.read_recipe(run)
    size = stored.execution.micro_batch_size
    assert isinstance(size, int)
    assert 1 <= size < 64
    assert stored.training.batch_size == 32
    (note,) = [note for note in notes(run) if note.startswith("batch size auto: ")]
    assert f"{size} of the 64 sequences of an update at once" in note
    assert "of the 0 MiB that may be taken; sequences a second by size: 1: " in note

    def again(*_: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(fitting, "measured", again)
    train_here(text, run, **settings)
    assert folder.read_recipe(run).execution.micro_batch_size == size
    assert values(run) == pytest.approx(values(text.parent / "whole"), rel=1e-5)
