"""Devices, threads, precision."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trifecta.errors import NumericsError, RecipeError, ResourceError
from trifecta.execution.device import describe, resolve_device, set_deterministic, set_threads, switches
from trifecta.execution.precision import LossScaler, autocast, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.fast
def test_devices() -> None:
    assert resolve_device("cpu") == CPU
    assert describe(CPU) == "cpu"
    with pytest.raises(ResourceError, match="sees 0 CUDA devices") as caught:
        resolve_device("cuda:7" if not torch.cuda.is_available() else "cuda:99")
    assert caught.value.exit_code == 6
    assert "--device cpu" in str(caught.value)


@pytest.mark.fast
def test_threads_and_determinism_are_set_and_restored() -> None:
    assert set_threads(None) == set_threads(1) == 1
    set_deterministic(True)
    assert torch.are_deterministic_algorithms_enabled()
    set_deterministic(False)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("device", "fast", "wanted"), [("cuda", True, "bf16"), ("cuda", False, "fp16"), ("mps", False, "fp32")]
)
def test_half_precision_is_on_by_default_where_a_gpu_has_one(
    device: str, fast: bool, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: fast)
    assert resolve_precision("auto", torch.device(device)) == wanted


@pytest.mark.fast
@pytest.mark.parametrize("fast", [True, False])
def test_precision(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trifecta.hardware._cpu_has_bf16", lambda: fast)
    assert resolve_precision("auto", CPU) == ("bf16" if fast else "fp32")
    assert resolve_precision("bf16", CPU) == "bf16"
    with pytest.raises(ResourceError, match="CPUs only emulate"):
        resolve_precision("fp16", CPU)
    with autocast("bf16", CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with autocast("fp32", CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.fast
def test_fault_033_scale_at_its_floor_ends_the_run() -> None:
    """Overflow even at the smallest loss scale is an error (5)."""
    scaler = LossScaler(scale=1.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=10)
    for _ in range(14):
        scaler.update(False)
    with pytest.raises(NumericsError, match="overflow even at a loss scale") as caught:
        scaler.update(False)
    assert caught.value.exit_code == 5


@pytest.mark.fast
def test_what_cannot_fit_is_refused_before_it_is_allocated() -> None:
    from trifecta.execution.memory import require_memory

    require_memory(1 << 20, CPU, "a small thing")
    with pytest.raises(ResourceError, match="a large thing needs 1,048,576 GiB") as caught:
        require_memory(1 << 50, CPU, "a large thing")
    assert caught.value.exit_code == 6


@pytest.mark.fast
def test_fault_033_control_a_scale_without_a_floor_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss scale without a floor goes on for ever, and fails the test."""
    monkeypatch.setattr("trifecta.execution.precision.SMALLEST_SCALE", 0.0)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_fault_033_scale_at_its_floor_ends_the_run()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs an allocator that is told what to keep")
def test_freed_memory_stays_for_the_next_step_and_goes_back_at_the_end() -> None:
    """In a fresh process: 20 times 96 MB cost a third at most of the page faults that they cost when they go back."""
    found = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True).stdout.split()
    usual, kept, resident_before, resident_after = map(int, found)
    assert usual > 20 * 10_000
    assert kept * 3 < usual
    assert resident_after < resident_before + 32


_FAULTS = """
import ctypes, resource, torch
from trifecta.execution.memory import keep_freed_memory
torch.set_num_threads(1)
libc = ctypes.CDLL(None)
libc.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: a fault is a page of 4 KiB on every machine
libc.mallopt(-3, 128 << 10)  # M_MMAP_THRESHOLD as it is at the start, and stays: by itself it grows with what is freed
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [torch.ones(3 << 20) for _ in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20
faults()
libc.malloc_trim(0)  # what glibc happens to hold isn't counted
before = resident()
usual = faults()
with keep_freed_memory(torch.device("cpu")):
    kept = faults()
    assert resident() > before + 80, "the block kept what it freed"
print(usual, kept, before, resident())
"""


@pytest.mark.fast
def test_switches_are_set_and_restored() -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn

    def all_() -> tuple[bool, bool, bool]:
        return matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark

    before = all_()
    with switches(tf32=True, cudnn_benchmark=True):
        assert all_() == (True, True, True)
    assert all_() == before
    with switches(tf32=False, cudnn_benchmark=False):
        assert all_() == before


@pytest.mark.fast
def test_what_only_a_gpu_has_is_refused_where_the_machine_has_none(tmp_path: Path) -> None:
    """The device is only known here: `auto` is a CPU."""
    from trifecta.run.preview import check
    from trifecta.run.request import Request

    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    text = tmp_path / "words.txt"
    text.write_text("a few words " * 2000)
    for name in ("tf32", "cudnn_benchmark"):
        with pytest.raises(RecipeError, match=f"execution.{name} can't take effect on this machine: only CUDA"):
            check(Request(data=(str(text),), overrides=(f"execution.{name}=true",)))
    with pytest.raises(ResourceError, match=r"execution\.attention is efficient, which exists on CUDA alone"):
        check(Request(data=(str(text),), overrides=("execution.attention=efficient",)))
    found = check(Request(data=(str(text),), overrides=("data.sequence_length=1024", "model.dropout=0.1")))
    assert any("attention dropout 0.1 with sequences of 1,024 on a CPU" in note for note in found["data"]["notes"])
