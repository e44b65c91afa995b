"""What all predictors share: options, batches of texts of like length, and the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from trifecta.types import Batch, Example

Prediction = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """How texts are judged.

    batch_size: texts in one forward pass. top_k: candidates for a gap. writing: options of models that write.
    progress: called with the share that is done.
    """

    batch_size: int = 32
    top_k: int = 5
    writing: Mapping[str, Any] = field(default_factory=dict)
    progress: Callable[[float], None] = lambda _: None


class Collates(Protocol):
    """What makes batches of examples, such as an objective."""

    def collate(self, examples: Sequence[Example]) -> Batch:
        """A batch; the examples keep their order in what is computed from it."""


def batches(
    collates: Collates, examples: Sequence[Example], options: Options, device: torch.device
) -> Iterator[tuple[list[int], Batch]]:
    """Examples of like length together, the longest first: their numbers, and the batch on the device."""
    order = sorted(range(len(examples)), key=lambda number: -len(examples[number].arrays["tokens"]))
    for start in range(0, len(order), options.batch_size):
        numbers = order[start : start + options.batch_size]
        yield numbers, collates.collate([examples[number] for number in numbers]).to(device)
        options.progress(min(1.0, (start + options.batch_size) / len(order)))


def device_of(model: Any) -> torch.device:
    """Where the model is."""
    device: torch.device = next(model.parameters()).device
    return device
