"""What each parameter of a model is, and how many there are of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

Role = Literal["matrix", "embedding", "head", "bias", "norm"]
_FILLS = frozenset({"normal_", "uniform_", "zero_", "fill_", "ones_", "zeros_", "kaiming_uniform_", "xavier_uniform_"})


@contextmanager
def without_memory() -> Iterator[None]:
    """Models made inside have shapes and no weights, whatever their size."""
    with torch.device("meta"), _LeaveUnfilled():
        yield


class _LeaveUnfilled(TorchFunctionMode):
    """Drawing numbers that nobody keeps would import torch's compiler, which takes two seconds."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.__name__ in _FILLS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def roles(model: nn.Module) -> dict[str, Role]:
    """Role of each parameter by name, each once; a tied head is listed once, as embedding.

    matrix: a hidden 2-D weight. bias: of a linear layer. norm: gains and shifts. embedding: also the map of patches.
    """
    named: dict[str, Role] = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                named[f"{prefix}.{leaf}" if prefix else leaf] = _role(module, prefix, leaf)
    return named


def _role(module: nn.Module, prefix: str, leaf: str) -> Role:
    if isinstance(module, nn.Embedding) or f"{prefix}.{leaf}".endswith("embedding.patch.weight"):
        return "embedding"
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return "norm"
    if leaf.endswith("bias"):
        return "bias"
    assert isinstance(module, nn.Linear), f"{prefix}.{leaf} has no role"
    return "head" if prefix == "head" else "matrix"


def part_sizes(model: nn.Module) -> dict[str, int]:
    """Parameters in each part: embedding, position, attention, feedforward, norm, head, adapter (LoRA's matrices).

    Empty parts are left out.
    """
    kinds = roles(model)
    sizes: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        if name.endswith((".lora_a", ".lora_b")):
            part = "adapter"
        elif name.startswith(("head", "pooler", "pair_head")):
            part = "head"
        elif kinds[name] == "norm":
            part = "norm"
        elif kinds[name] == "embedding":
            part = "position" if name.endswith(("position.weight", "relative.table.weight")) else "embedding"
        elif name.endswith("embedding.patch.bias"):
            part = "embedding"
        else:
            part = "feedforward" if ".feedforward." in name else "attention"
        sizes[part] += parameter.numel()
    return {
        part: sizes[part]
        for part in ("embedding", "position", "attention", "feedforward", "norm", "head", "adapter")
        if sizes[part]
    }
