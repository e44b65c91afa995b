"""An optimizer's state as named tensors and back: a number says in its name which kind it was, `step:int`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trifecta.errors import RecipeError

_KINDS: Mapping[str, tuple[type, torch.dtype]] = {
    "bool": (bool, torch.bool),
    "int": (int, torch.int64),
    "float": (float, torch.float64),
}
_NONE = "none"


def encode(owner: str, name: str, value: Any) -> tuple[str, Tensor]:
    """`owner/name` and the tensor itself; for a bool, int, float or None `owner/name:kind` and a tensor of it.

    Raises:
        RecipeError: the value is nothing of these.
    """
    if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_complex():
        return f"{owner}/{name}", value
    if value is None:
        return f"{owner}/{name}:{_NONE}", torch.zeros(0)
    for kind, (type_, dtype) in _KINDS.items():
        if type(value) is type_:
            return f"{owner}/{name}:{kind}", torch.tensor(value, dtype=dtype)
    found = (
        f"a tensor of layout {value.layout} and {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
    )
    raise RecipeError(
        f"the optimizer keeps {name!r} of {owner} as {found}; only dense tensors and numbers can be saved",
        fix="choose another optimizer",
    )


def decode(key: str, tensor: Tensor) -> tuple[str, str, Any]:
    """Owner, name and value of what `encode` gave."""
    owner, _, rest = key.rpartition("/")
    name, _, kind = rest.rpartition(":")
    if kind == _NONE and name:
        return owner, name, None
    if kind in _KINDS and name:
        return owner, name, _KINDS[kind][0](tensor.item())
    return owner, rest, tensor
