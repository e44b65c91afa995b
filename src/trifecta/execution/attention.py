"""Which kernel computes a model's attention, chosen from outside."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import nn

from trifecta.errors import ResourceError
from trifecta.nn.attention import Attention, Kernel

Choice = Literal["auto", "flash", "efficient", "math", "explicit"]
SLOW_FROM = 1024
"""Positions from which attention with dropout on a CPU is worth a warning: the whole matrix of weights is computed."""


def choose_attention(model: nn.Module, choice: Choice) -> None:
    """Lets one of torch's kernels, or our own matrix path, compute every attention of a model."""
    for module in model.modules():
        if isinstance(module, Attention) and choice == "explicit":
            module.explicit = True
        elif isinstance(module, Attention):
            module.kernel = cast(Kernel, choice)


def require_attention(choice: Choice, device: torch.device, *, dropout: float, trained_bias: bool) -> None:
    """Refuses a kernel that the device can't use, before anything is read.

    Raises:
        ResourceError: it can't.
    """
    why = None
    if choice in ("flash", "efficient") and device.type == "mps":
        why = "exists on CUDA and CPU alone"
    elif choice == "efficient" and device.type == "cpu":
        why = "exists on CUDA alone"
    elif choice == "flash" and device.type == "cpu" and dropout:
        why = "knows no dropout on a CPU (set model.attention_dropout to 0)"
    elif choice == "flash" and trained_bias:
        why = "knows no relative positions that are learned, as T5 has them"
    if why:
        raise ResourceError(f"execution.attention is {choice}, which {why}", fix="set execution.attention to auto")


def slow_attention(device: torch.device, sequence_length: int, dropout: float) -> str | None:
    """A warning where dropout makes attention slow."""
    if device.type != "cpu" or not dropout or sequence_length < SLOW_FROM:
        return None
    return (
        f"attention dropout {dropout:g} with sequences of {sequence_length:,} on a CPU: the fused kernel knows no "
        "dropout, so all attention weights are computed and kept, which takes memory with the square of the length and "
        "about 15 times as long at 4,096; set model.attention_dropout to 0"
    )
