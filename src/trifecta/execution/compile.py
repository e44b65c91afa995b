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

from trifecta.errors import TrifectaError, is_out_of_memory

Tell = Callable[[str], None]
_MOST_VARIANTS = 64
"""Of a block, by lengths and by what it is given, before torch runs it as it is."""


class Again(Exception):
    """An update failed in what was compiled, and is to begin again without; no weight and no moment was touched."""


class Switch:
    """Whether what was compiled is used; shared by all blocks. tell: gets the reason when it is no more."""

    def __init__(self, tell: Tell):
        self.on, self._tell = True, tell

    def off(self, why: str) -> None:
        """From now on everything runs as it is."""
        self.on = False
        self._tell(f"not compiled, so the blocks run as they are: {why}")

    def off_after(self, error: Exception) -> None:
        """The same, and why, from the error."""
        inner = getattr(error, "inner_exception", error)  # torch says of its own only that a backend raised
        said = str(inner).strip().splitlines() or [""]
        self.off(f"{type(inner).__name__}: {said[0][:200]}")

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Around forward and backward: a backward is compiled and run by torch, out of reach of the blocks.

        Raises:
            Again: something failed while compiled blocks were used.
        """
        try:
            yield
        except Exception as error:
            if not self.on or is_out_of_memory(error) or isinstance(error, TrifectaError):
                raise
            self.off_after(error)
            raise Again from error


def compile_blocks(blocks: Iterable[nn.Module], backend: str, switch: Switch) -> None:
    """Compiles each block's forward for training; blocks that are alike share what is compiled.

    Parameters keep their names. Validation and generation run as they are: their lengths change with every call. What
    raises is told, once, and from then on nothing is compiled.
    """
    missing = lacking(backend)
    if missing:
        switch.off(missing)
        return
    with _quiet():
        import torch._dynamo
        import torch._functorch.config

        torch._dynamo.config.recompile_limit = _MOST_VARIANTS
        # Else a block's backward is compiled when it is first run, and an update that is under way has to begin again.
        torch._functorch.config.force_non_lazy_backward_lowering = True
        for block in blocks:
            block.forward = Compiled(block.forward, block, backend, switch)


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


class Compiled:
    """A block's forward, compiled while training; outside training it is the plain one."""

    def __init__(self, forward: Any, block: nn.Module, backend: str, switch: Switch):
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
            self._switch.off_after(error)
            return self._forward(*args, **kwargs)
