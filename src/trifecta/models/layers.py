"""How far each parameter is from the head: that decides which parts are frozen, and how fast the others learn."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from torch import nn

from trifecta.models.heads import Headed, Paired

_HEADS = ("head", "pooler", "pair_head")
"""Beginnings of the names of parts that belong to what a model was trained for."""
_BLOCK = re.compile(r"(encoder\.|decoder\.|)blocks\.(\d+)\.")
_TABLE = re.compile(r"(encoder\.|decoder\.|)(embedding|relative)\.")


def bare(name: str) -> str:
    """A parameter's name without the mark of a model that carries another one's body."""
    return name.removeprefix("body.")


def is_head(name: str) -> bool:
    """Whether a parameter belongs to what the model was trained for, not to its body. A tied head is the embedding."""
    return bare(name).startswith(_HEADS)


def heights(names: Iterable[str]) -> dict[str, int]:
    """Layers from the head down to each parameter: 0 for heads and last norms, 1 for the last of L blocks, L for the
    first, L + 1 for embeddings and relative biases. In an encoder-decoder each stack is counted by itself; what both
    share lies below the deeper one.
    """
    names = list(names)
    layers: Counter[str] = Counter()
    for name in names:
        if block := _BLOCK.match(bare(name)):
            layers[block[1]] = max(layers[block[1]], int(block[2]) + 1)
    found = {}
    for name in names:
        if block := _BLOCK.match(bare(name)):
            found[name] = layers[block[1]] - int(block[2])
        elif table := _TABLE.match(bare(name)):
            found[name] = 1 + (layers[table[1]] if table[1] else max(layers.values()))
        else:
            found[name] = 0
    return found


def learning_rate_ratios(names: Iterable[str], decay: float) -> dict[str, float]:
    """decay ** height: block i of L has decay ** (L - i) (Howard and Ruder, 2018; Clark et al., 2020)."""
    return {name: decay**height for name, height in heights(names).items()}


def freeze(model: nn.Module, *, body: bool = False, layers: int | None = None) -> None:
    """Keeps parameters from being trained.

    Args:
        body: all but heads. layers: the embeddings and the first so many blocks of each stack; None: nothing.
    """
    below = heights(name for name, _ in model.named_parameters())
    for name, parameter in model.named_parameters():
        block = _BLOCK.match(bare(name))
        low = layers is not None and (int(block[2]) < layers if block else below[name] > 0)
        if low or (body and not is_head(name)):
            parameter.requires_grad_(False)


def freeze_trained(model: nn.Module) -> None:
    """Keeps all but a task's head from being trained; a head that predicts tokens alone is trained already."""
    for name, parameter in model.named_parameters():
        if not (isinstance(model, Headed | Paired) and is_head(name)):
            parameter.requires_grad_(False)
