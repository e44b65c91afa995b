"""What fits, what is computed twice to need less, and what freed memory is for."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trifecta.errors import ResourceError


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


def checkpoint_activations(blocks: Iterable[nn.Module]) -> None:
    """Lets each block forget its activations and compute them again in the backward pass (Chen et al., 2016).

    Losses and gradients stay bit for bit the same on a CPU, dropout included: the random state is restored.
    """
    for block in blocks:
        block.forward = _Recomputed(block.forward, block)


class _Recomputed:
    """A block's forward, recomputed while training; outside training it is the plain one."""

    def __init__(self, forward: Any, block: nn.Module):
        self._forward, self._block = forward, block

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._block.training:
            return self._forward(*args, **kwargs)
        return checkpoint(self._forward, *args, use_reentrant=False, **kwargs)
