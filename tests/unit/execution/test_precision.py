"""execution.precision: auto on a CPU. What the timing says is taken, said and stored; no resume measures again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import SHORT, Killed, train_here, write_text

from trifecta.errors import RecipeErrors, ResourceError
from trifecta.execution.precision import Timing, time_products
from trifecta.recipe import Recipe, collect
from trifecta.run import folder, resolution
from trifecta.run.request import Request
from trifecta.run.resolution import with_precision

CPU = torch.device("cpu")


def timing(fp32: float, bf16: float) -> Timing:
    return Timing(1024, 128, 512, fp32, bf16)


def recipe(*overrides: str) -> Recipe:
    return collect(preset="small", overrides=list(overrides)).resolve().recipe


@pytest.mark.fast
@pytest.mark.parametrize(("bf16", "wanted"), [(0.5e-3, "bf16"), (0.95e-3, "fp32"), (2e-3, "fp32")])
@pytest.mark.parametrize("flags", [True, False])
def test_the_timing_decides_not_the_processors_flags(
    bf16: float, wanted: str, flags: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trifecta.hardware._cpu_has_bf16", lambda: flags)
    monkeypatch.setattr(resolution, "time_products", lambda *_: timing(1e-3, bf16))
    found, (note,) = with_precision(recipe(), CPU)
    assert found.execution.precision == wanted
    assert note == (f"precision auto: {wanted}; products of 1024 x 128 x 512: fp32 1.00 ms, bf16 {1000 * bf16:.2f} ms")


@pytest.mark.fast
@pytest.mark.parametrize("flags", [True, False])
def test_small_models_go_by_the_flags(flags: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls would be measured, not arithmetic, and two runs of one recipe could decide differently."""
    monkeypatch.setattr("trifecta.hardware._cpu_has_bf16", lambda: flags)
    small = recipe("model.d_model=16", "model.num_heads=2", "model.d_ff=32")
    found, notes = with_precision(small, CPU)
    assert (found.execution.precision, notes) == ("bf16" if flags else "fp32", [])


@pytest.mark.fast
def test_a_format_that_is_written_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolution, "time_products", None)
    for name in ("fp32", "bf16"):
        found, notes = with_precision(recipe(f"execution.precision={name}"), CPU)
        assert (found.execution.precision, notes) == (name, [])


_TIMED = """
import time, torch
torch.set_num_threads(1)
from trifecta.execution.precision import time_products
state = torch.get_rng_state()
time_products.__wrapped__(1, 1, 1, 1)
began = time.perf_counter()
found = time_products(4096, 128, 512, 1)
assert torch.equal(state, torch.get_rng_state())
print(found.faster, time.perf_counter() - began < 2)
"""


def test_an_emulated_bf16_is_not_chosen_and_all_is_over_in_two_seconds() -> None:
    """A processor whose fast instructions are hidden from oneDNN computes bf16 a hundred times slower."""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", _TIMED], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["fp32", "True"]


@pytest.mark.fast
@pytest.mark.skipif(not torch.cpu.get_capabilities().get("amx_bf16"), reason="needs a processor with fast bf16")
def test_control_where_it_is_fast_it_is_chosen() -> None:
    found = time_products(4096, 128, 512, 1)
    assert found is not None
    assert found.faster == "bf16"


def test_it_is_stored_said_and_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIFECTA_CACHE", str(tmp_path / "cache"))
    text, out = write_text(tmp_path / "words.txt", words=300), tmp_path / "run"
    wanted = "fp32" if torch.cpu.get_capabilities().get("avx512_bf16") else "bf16"
    monkeypatch.setattr(
        resolution, "time_products", lambda *_: timing(1e-3, 2e-3) if wanted == "fp32" else timing(2e-3, 1e-3)
    )
    settings: dict[str, Any] = SHORT | {"execution.precision": "auto"}
    with pytest.raises(Killed):
        train_here(text, out, at_step=5, **settings)
    assert folder.read_recipe(out).execution.precision == wanted
    events = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    assert next(e["message"] for e in events if e["event"] == "note").startswith(f"precision auto: {wanted}; products")

    def again(*_: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(resolution, "time_products", again)
    train_here(text, out, **settings)
    assert folder.read_recipe(out).execution.precision == wanted


@pytest.mark.fast
def test_check_refuses_fp16_on_a_cpu_and_loss_scaling_with_bf16(tmp_path: Path) -> None:
    from trifecta.run.preview import check

    text = write_text(tmp_path / "words.txt", words=300)
    settings = {"execution.device": ("--device", "cpu")}
    with pytest.raises(ResourceError, match="which CPUs only emulate"):
        check(Request(data=(str(text),), flags=settings | {"execution.precision": ("settings", "fp16")}))
    for name in ("loss_scale", "loss_scale_growth", "loss_scale_backoff", "loss_scale_growth_steps"):
        with pytest.raises(RecipeErrors, match=f"execution.{name} can't take effect: only fp16 scales its loss"):
            check(Request(overrides=("execution.precision=bf16", f"execution.{name}=2" if name != "loss_scale_backoff"
                                     else "execution.loss_scale_backoff=0.25")))  # fmt: skip
