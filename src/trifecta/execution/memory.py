"""What fits, what is computed twice to need less, and what freed memory is for."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
    set_checkpoint_early_stop,
)

from trifecta.errors import ResourceError
from trifecta.execution.compile import Compiled

Policy = Literal["full", "selective"]


def require_memory(needed_bytes: int, device: torch.device, what: str) -> None:
    """Refuses what can't fit before any of it is allocated.

    Raises:
        ResourceError: more is needed than the device has in all.
    """
    if device.type == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        return
    if needed_bytes > there:
        raise ResourceError(
            f"{what} needs {needed_bytes / 2**30:,.0f} GiB, this machine has {there / 2**30:,.0f} GiB",
            fix="lower model.d_model, model.num_layers, model.d_ff or tokenizer.vocab_size; `trifecta check` shows "
            "what each part needs",
        )


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process may still take, or has of the device already; None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    free = []
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with suppress(OSError, ValueError):  # a container's own limit
        group = Path("/sys/fs/cgroup")
        free.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(0, min(free)) if free else None


def release(device: torch.device) -> None:
    """Gives back what nothing uses any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Options of mallopt(3)."""
_KEEP, _LARGE = 2**31 - 1, 32 << 20
"""Tensors from 32 MiB up go back all the same: among those that stay they would leave holes that nothing fits into.
glibc by itself works up to as much, in either option."""


@contextmanager
def keep_freed_memory(device: torch.device) -> Iterator[None]:
    """Inside, memory that a step frees on a CPU stays with the process, for the next step; afterwards it goes back.

    By itself glibc returns every large tensor to the system, which clears its pages again at the next step: a tenth of
    the time of a model of width 256. Nothing happens with other C libraries.
    """
    if device.type != "cpu" or platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_TRIM_THRESHOLD, _KEEP)
    libc.mallopt(_MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        libc.mallopt(_TRIM_THRESHOLD, _LARGE)
        libc.malloc_trim(0)


def checkpoint_activations(blocks: Iterable[nn.Module], policy: Policy = "full") -> None:
    """Lets each block forget its activations and compute them again in the backward pass (Chen et al., 2016).

    Losses and gradients stay bit for bit the same on a CPU, dropout included: the random state is restored.

    Args:
        policy: full keeps a block's input alone. selective also keeps what takes long and little room: the results of
            fused attention without dropout, and of matrix products that aren't wider than what they are made from
            (selective recomputation: Korthikanti et al., 2022).
    """
    for block in blocks:
        block.forward = _Recomputed(block.forward, block, policy)


class _Recomputed:
    """A block's forward, recomputed while training; outside training it is the plain one."""

    def __init__(self, forward: Any, block: nn.Module, policy: Policy):
        self._forward, self._block = forward, block
        selective = {"context_fn": partial(create_selective_checkpoint_contexts, _keep)}
        self._options: dict[str, Any] = selective if policy == "selective" else {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._block.training:
            return self._forward(*args, **kwargs)
        # What is compiled runs as a whole: an exception that stops it half-way would be taken for a failure.
        with set_checkpoint_early_stop(not isinstance(self._forward, Compiled)):
            return checkpoint(self._forward, *args, use_reentrant=False, **self._options, **kwargs)


_PRODUCTS = {"mm": 1, "addmm": 2}
"""Kernel -> the place of its second matrix."""
_ATTENTION = ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
              "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention")  # fmt: skip


@cache
def _worth_keeping() -> dict[Any, Callable[..., bool]]:
    """Kernels that take long -> whether the result is kept, by what the kernel is given."""

    def narrows(place: int, *args: Any, **_: Any) -> bool:
        wide, narrow = args[place].shape
        return bool(narrow <= wide)

    def draws_nothing(place: int, *args: Any, **kwargs: Any) -> bool:
        return not kwargs.get("dropout_p", args[place] if place < len(args) else 0.0)

    def place(kernel: Any, name: str) -> int:
        return [argument.name for argument in kernel._schema.arguments].index(name)

    aten = torch.ops.aten
    found: dict[Any, Callable[..., bool]] = {
        getattr(aten, n).default: partial(narrows, p) for n, p in _PRODUCTS.items()
    }
    kernels = [getattr(aten, name).default for name in _ATTENTION]
    return found | {kernel: partial(draws_nothing, place(kernel, "dropout_p")) for kernel in kernels}


def _keep(_: Any, kernel: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """What draws random numbers is computed again, so that what comes after it draws the same ones."""
    worth = _worth_keeping().get(kernel)
    kept = worth is not None and worth(*args, **kwargs)
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
