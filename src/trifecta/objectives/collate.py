"""Examples of unequal length as rows of one length, with as little padding as there can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trifecta.types import IGNORE, Batch, Example

Int64 = npt.NDArray[np.int64]


def pack(lengths: Sequence[Sequence[int]], limits: Sequence[int]) -> list[list[int]]:
    """Which examples share a row: best fit in the order of falling length, no row longer than the limits.

    Args:
        lengths: of each example, one for each side (tokens; decoder tokens). limits: longest row of each side, at
            least as long as the longest example.

    Returns:
        Rows of example numbers.
    """
    rows: list[list[int]] = []
    room: list[list[int]] = []
    for example in sorted(range(len(lengths)), key=lambda i: (-lengths[i][0], i)):
        needs = lengths[example]
        fitting = [r for r, free in enumerate(room) if all(n <= f for n, f in zip(needs, free, strict=True))]
        if fitting:
            row = min(fitting, key=lambda r: room[r][0])
            rows[row].append(example)
            room[row] = [f - n for f, n in zip(room[row], needs, strict=True)]
        else:
            rows.append([example])
            room.append([max(limit, n) - n for limit, n in zip(limits, needs, strict=True)])
    return rows


def packed(
    examples: Sequence[Example], sides: Mapping[str, Mapping[str, int]], limits: Mapping[str, int]
) -> dict[str, torch.Tensor]:
    """Arrays of examples, packed: `tokens_BT` and so on for each array of each side, and who stands where.

    Args:
        sides: suffix of a side ("BT") -> its arrays' names and what fills them up. The first array gives the length.
        limits: suffix -> longest row.

    Returns:
        name_suffix -> int64 tensor; where rows hold more than one document or padding also `segments_BT` (the
        document's number in its row, 0 for padding) and `positions_BT`; those of further sides are named after them.
    """
    first = {suffix: next(iter(arrays)) for suffix, arrays in sides.items()}
    lengths = [[len(example.arrays[first[suffix]]) for suffix in sides] for example in examples]
    rows = _least_area(lengths, [limits[suffix] for suffix in sides])
    out: dict[str, torch.Tensor] = {}
    ragged = False
    for side, (suffix, arrays) in enumerate(sides.items()):
        width = max(1, *(sum(lengths[i][side] for i in row) for row in rows))  # models want a position
        filled: dict[str, Int64] = {
            name: np.full((len(rows), width), filler, dtype=np.int64) for name, filler in arrays.items()
        }
        segments, positions = np.zeros((2, len(rows), width), dtype=np.int64)
        for r, row in enumerate(rows):
            at = 0
            for number, i in enumerate(row, 1):
                stop = at + lengths[i][side]
                for name in arrays:
                    filled[name][r, at:stop] = examples[i].arrays[name]
                segments[r, at:stop], positions[r, at:stop] = number, np.arange(stop - at)
                at = stop
            ragged = ragged or at < width or len(row) > 1
        out |= {f"{name}_{suffix}": torch.from_numpy(array) for name, array in filled.items()}
        prefix = "" if suffix == "BT" else "decoder_"
        out[f"{prefix}segments_{suffix}"] = torch.from_numpy(segments)
        out[f"{prefix}positions_{suffix}"] = torch.from_numpy(positions)
    if not ragged:
        out = {name: tensor for name, tensor in out.items() if "segments" not in name and "positions" not in name}
    return out


def _least_area(lengths: Sequence[Sequence[int]], limits: Sequence[int]) -> list[list[int]]:
    """The rows of the width with the fewest positions; of several the narrowest, which attends to least."""
    longest = [max(sides) for sides in zip(*lengths, strict=True)]
    if all(length == longest[0] for length, *_ in lengths) and 2 * longest[0] > limits[0]:
        return [[i] for i in range(len(lengths))]
    found = []
    for share in _WIDTHS:
        tried = [max(length, int(limit * share)) for length, limit in zip(longest, limits, strict=True)]
        rows = pack(lengths, tried)
        widths = [max(sum(lengths[i][side] for i in row) for row in rows) for side in range(len(limits))]
        found.append((len(rows) * sum(widths), widths[0], rows))
    return min(found, key=lambda candidate: candidate[:2])[2]


_WIDTHS = (1.0, 0.75, 0.5, 0.25)
"""Shares of the longest row that are tried."""


def arrays_of(**arrays: Any) -> Example:
    """An example of int64 arrays."""
    return Example({name: np.asarray(array, dtype=np.int64) for name, array in arrays.items()})


def token_batch(examples: Sequence[Example], term: str, *, pad_id: int, limit: int) -> Batch:
    """Examples of tokens and targets as packed rows; the weight of the term is the number of targets."""
    inputs = packed(examples, {"BT": {"tokens": pad_id, "targets": IGNORE}}, {"BT": limit})
    return _weighed(examples, term, inputs, "targets_BT", ("tokens",))


def written_batch(examples: Sequence[Example], term: str, *, pad_id: int, limits: Mapping[str, int]) -> Batch:
    """Examples of tokens, decoder_tokens and targets as packed rows; what a row reads and writes belongs together.

    limits: of what is read (BT) and of what is written (BU).
    """
    sides = {"BT": {"tokens": pad_id}, "BU": {"decoder_tokens": pad_id, "targets": IGNORE}}
    inputs = {name: tensor for name, tensor in packed(examples, sides, limits).items() if "positions" not in name}
    return _weighed(examples, term, inputs, "targets_BU", ("tokens", "decoder_tokens"))


def _weighed(
    examples: Sequence[Example], term: str, inputs: dict[str, torch.Tensor], targets: str, counted: Sequence[str]
) -> Batch:
    of_targets = inputs.pop(targets)
    return Batch(
        inputs=inputs,
        targets={targets: of_targets},
        weights={term: float((of_targets != IGNORE).sum())},
        samples=len(examples),
        tokens=sum(len(example.arrays[name]) for example in examples for name in counted),
    )
