"""Blocks compiled by torch, and what happens where that can't be done: they run as they are."""

from __future__ import annotations

import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from trifecta.errors import is_out_of_memory

Tell = Callable[[str], None]
_MOST_VARIANTS = 64
"""Of a block, by lengths and by what it is given, before torch runs it as it is."""


def compile_blocks(blocks: Iterable[nn.Module], backend: str, tell: Tell) -> Callable[[], None]:
    """Compiles each block's forward for training; blocks that are alike share what is compiled.

    Parameters keep their names. Validation and generation run as they are: their lengths change with every call. What
    raises is told, once, and from then on nothing is compiled.

    Returns:
        What switches compilation off.
    """
    switch = _Switch(tell)
    missing = lacking(backend)
    if missing:
        switch.off(missing)
        return lambda: None
    with _quiet():
        import torch._dynamo
        import torch._functorch.config

        torch._dynamo.config.recompile_limit = _MOST_VARIANTS
        # Else a block's backward is compiled in the middle of the update's, where nothing could be done about an error.
        torch._functorch.config.force_non_lazy_backward_lowering = True
        for block in blocks:
            block.forward = _Compiled(block.forward, block, backend, switch)
    return lambda: switch.off("")


def lacking(backend: str) -> str | None:
    """What a backend needs and this machine hasn't; None if nothing."""
    if backend == "openxla" and importlib.util.find_spec("torch_xla") is None:
        return "the backend openxla needs the package torch_xla"
    compilers = [os.environ.get("CXX"), "c++", "g++", "clang++", "cl"]
    if backend == "inductor" and not any(shutil.which(name) for name in compilers if name):
        return "the backend inductor needs a C++ compiler"
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings about its own inside and about tensors that it looks at while it compiles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Switch:
    """Whether what was compiled is used; shared by all blocks."""

    def __init__(self, tell: Tell):
        self.on, self._tell = True, tell

    def off(self, why: str) -> None:
        self.on = False
        if why:
            self._tell(f"not compiled: {why}")


class _Compiled:
    """A block's forward, compiled while training; outside training it is the plain one."""

    def __init__(self, forward: Any, block: nn.Module, backend: str, switch: _Switch):
        self._forward, self._block, self._switch, self.backend = forward, block, switch, backend
        self._compiled: Any = torch.compile(forward, backend=backend)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._switch.on or not self._block.training:
            return self._forward(*args, **kwargs)
        try:
            with _quiet():
                return self._compiled(*args, **kwargs)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            inner = getattr(error, "inner_exception", error)  # torch says of its own only that a backend raised
            said = str(inner).strip().splitlines() or [""]
            self._switch.off(f"{type(inner).__name__}: {said[0][:200]}")
            return self._forward(*args, **kwargs)
