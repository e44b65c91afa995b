"""Texts that are longer than a row, as windows that share tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trifecta.types import IGNORE, Batch

Int64 = npt.NDArray[np.int64]


def window_starts(length: int, room: int, step: int) -> list[int]:
    """Where windows of at most `room` tokens begin, `step` apart, so that every token is in one; one for no tokens."""
    step = max(1, min(step, room))
    return list(range(0, max(1, length - room + step), step))


def owners(length: int, starts: list[int], room: int) -> Int64:
    """For each token the window that shows most on its poorer side (Devlin et al., 2018: the maximum context), (n,).

    Of windows that are equally good it is the first.
    """
    at = np.arange(length)
    before_WN = at[None] - np.array(starts)[:, None]
    stops = np.minimum(np.array(starts) + room, length)
    context_WN = np.minimum(before_WN, stops[:, None] - 1 - at[None])
    return np.asarray(context_WN.argmax(0), dtype=np.int64)


def hidden_of(model: Any, batch: Batch) -> Tensor:
    """The last hidden state of each position of the batch's rows, (B * T, D); models without them get no types."""
    has_types = getattr(model.body, "segment_types", 0)
    inputs = {name: tensor for name, tensor in batch.inputs.items() if name != "types_BT" or has_types}
    hidden: Tensor = model.hidden(**inputs).hidden_BTD.flatten(0, 1)
    return hidden


def places_of(numbers_BT: Tensor, count: int) -> Tensor:
    """Where each of `count` numbers stands in the flattened rows, (N,); each is there once, all else is IGNORE."""
    numbers = numbers_BT.flatten()
    there = (numbers != IGNORE).nonzero().squeeze(1)
    places = torch.empty(count, dtype=torch.int64, device=numbers.device)
    places[numbers[there]] = there
    return places
