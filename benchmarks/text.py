"""What both sides share: texts, batches of tokens, the loss over a whole split, a process's memory."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def halves(text: str) -> tuple[str, str]:
    """The first nine tenths of a text file and its last tenth, as trifecta splits it."""
    characters = Path(text).read_text(encoding="utf-8")
    cut = len(characters) * 9 // 10
    return characters[:cut], characters[cut:]


def character_ids(text: str) -> tuple[Tensor, Tensor, int]:
    """Both parts of a text file as ids of characters, and how many kinds of characters there are."""
    train, validation = halves(text)
    ids = {character: i for i, character in enumerate(sorted({*train, *validation}))}
    return torch.tensor([ids[c] for c in train]), torch.tensor([ids[c] for c in validation]), len(ids)


def random_windows(tokens: Tensor, batch_size: int, length: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of inputs and next tokens from random places."""
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.arange(length + 1)
    while True:
        starts = torch.randint(len(tokens) - length, (batch_size, 1), generator=generator)
        windows = tokens[starts + offsets]
        yield windows[:, :-1], windows[:, 1:]


@torch.inference_mode()
def split_loss(logits_of: Callable[[Tensor], Tensor], tokens: Tensor, length: int, batch_size: int = 32) -> float:
    """Mean loss in nats over every token but the first, in windows that don't overlap."""
    nats, whole = 0.0, (len(tokens) - 1) // length * length
    pairs = zip(tokens[:whole].view(-1, length).split(batch_size),
                tokens[1 : whole + 1].view(-1, length).split(batch_size), strict=True)  # fmt: skip
    rest = [(tokens[None, whole:-1], tokens[None, whole + 1 :])] if whole + 1 < len(tokens) else []
    for inputs, targets in [*pairs, *rest]:
        nats += float(F.cross_entropy(logits_of(inputs).flatten(0, 1), targets.flatten(), reduction="sum"))
    return nats / (len(tokens) - 1)


def longer_text(text: str, folder: str, megabytes: float) -> Path:
    """A file of about so many megabytes: the text's lines again and again, each time in another order."""
    path = Path(folder) / f"{megabytes}-megabytes.txt"
    if path.exists():
        return path
    lines = Path(text).read_bytes().splitlines(keepends=True)
    rng, left = random.Random(0), megabytes * 1_000_000
    with path.open("wb") as file:
        while left > 0:
            rng.shuffle(lines)
            for line in lines:
                left -= len(line)
                if left <= 0:
                    break
                file.write(line)
    return path


def many_characters(folder: str, characters: int, kinds: int) -> Path:
    """A text of random characters of which there are so many kinds, each at least once."""
    rng = np.random.default_rng(0)
    known = [*range(0x4E00, 0xA000), *range(0xAC00, 0xD7A4)][:kinds]
    chosen = np.concatenate([known, rng.choice(known, characters - kinds)])
    path = Path(folder) / "characters.txt"
    path.write_text("".join(map(chr, rng.permutation(chosen))), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Moment:
    """A point in time by two clocks: the world's, and this process's share of the processor."""

    wall: float = field(default_factory=time.perf_counter)
    used: float = field(default_factory=time.process_time)

    def until(self, end: Moment) -> tuple[float, float]:
        """Seconds from here to there, and the share of a core that this process had meanwhile."""
        seconds = end.wall - self.wall
        return seconds, (end.used - self.used) / seconds


def peak_megabytes() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
