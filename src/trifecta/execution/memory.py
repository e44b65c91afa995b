"""Less memory for more arithmetic, applied to a finished model from outside."""

from __future__ import annotations

import os
from collections.abc import Iterable
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
