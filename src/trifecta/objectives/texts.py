"""Labelled texts as tokens: one or two of them in a row, cut to what fits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trifecta.tokenizers.vocabulary import Vocabulary

Int64 = npt.NDArray[np.int64]


def shorten(parts: list[Int64], room: int) -> int:
    """Cuts the ends of the longest parts until all fit into the room; how many tokens were cut."""
    cut = 0
    while (excess := sum(map(len, parts)) - room) > 0:
        longest = max(range(len(parts)), key=lambda i: len(parts[i]))
        others = max((len(part) for i, part in enumerate(parts) if i != longest), default=0)
        take = min(excess, max(1, len(parts[longest]) - others))
        parts[longest] = parts[longest][: len(parts[longest]) - take]
        cut += take
    return cut


def framed(vocabulary: Vocabulary, parts: list[Int64]) -> tuple[Int64, Int64]:
    """`[CLS] first [SEP]` or `[CLS] first [SEP] second [SEP]`, and for each token whether it belongs to the second."""
    tokens, types = [np.array([vocabulary["[CLS]"]])], [np.zeros(1)]
    for number, part in enumerate(parts):
        tokens.append(np.append(part, vocabulary["[SEP]"]))
        types.append(np.full(len(part) + 1, number))
    return np.concatenate(tokens).astype(np.int64), np.concatenate(types).astype(np.int64)
