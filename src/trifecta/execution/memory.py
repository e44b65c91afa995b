"""Less memory for more arithmetic, applied to a finished model from outside."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


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
