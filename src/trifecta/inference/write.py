"""What a fine-tuned T5 writes for texts, and what a pretrained one writes for their gaps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from trifecta.data.tasks.unlabelled import Unlabelled
from trifecta.errors import DataError
from trifecta.inference.judged import Options, Prediction, device_of
from trifecta.inference.sequences import write_sequences
from trifecta.objectives.base import Int64
from trifecta.objectives.span import sentinel_name

_GAP = re.compile(r"<extra_id_(\d+)>")


WRITERS = ("seq2seq", "span")
"""Types of the objectives whose models write."""


@dataclass(frozen=True)
class Writing:
    """How to write: `write_sequences` says what each of these means and may be."""

    num_beams: int = 1
    max_tokens: int = 128
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0
    seed: int = 0


def write_targets(model: Any, objective: Any, texts: Sequence[Unlabelled], options: Options) -> list[Prediction]:
    """target: what a model that was fine-tuned on pairs writes; cut: tokens of the source for which there was no room.

    Args:
        objective: `Seq2Seq`. options: `writing` holds fields of `Writing`; max_tokens is as in training by default.

    Raises:
        RecipeError, NumericsError: as `write_sequences`.
    """
    read = [objective.read(text.text) for text in texts]
    writing = Writing(**{"max_tokens": objective.max_target_length, **options.writing})
    written = _write(model, objective, [ids for ids, _ in read], writing, options)
    return [
        {"target": objective.vocabulary.decode(ids).strip()} | ({"cut": cut} if cut else {})
        for ids, (_, cut) in zip(written, read, strict=True)
    ]


def fill_spans(model: Any, objective: Any, texts: Sequence[Unlabelled], options: Options) -> list[Prediction]:
    """spans: what a pretrained model writes for `<extra_id_0>`, `<extra_id_1>` and so on; filled: the text with them.

    Args:
        objective: `Span`. options: `writing` holds fields of `Writing`.

    Raises:
        DataError: a text without gaps, with gaps in another order, or with more than there are sentinels; with its
            place. RecipeError, NumericsError: as `write_sequences`.
    """
    read = [_with_sentinels(objective, text) for text in texts]
    results: list[Prediction] = []
    for text, ids in zip(texts, _write(model, objective, read, Writing(**options.writing), options), strict=True):
        between = _around_gaps(objective, text.text)[::2]
        gaps = _gaps(objective, len(between) - 1, ids)
        whole = "".join(part + gap for part, gap in zip(between, [*gaps, ""], strict=True))
        results.append({"spans": gaps, "filled": whole})
    return results


def write(
    model: Any, objective: Any, texts: Sequence[str], writing: Writing = Writing(), *, batch_size: int = 32
) -> list[str]:
    """A text for each source, in their order; otherwise as `write_targets`."""
    sources = [Unlabelled(text, place=f"text {number}") for number, text in enumerate(texts, 1)]
    options = Options(batch_size=batch_size, writing=asdict(writing))
    return [str(found["target"]) for found in write_targets(model, objective, sources, options)]


def _write(model: Any, objective: Any, read: Sequence[Int64], writing: Writing, options: Options) -> list[list[int]]:
    """Ids for each input, written in batches of inputs of like length."""
    tokenizer = objective.vocabulary.tokenizer
    unknown = () if tokenizer.unk_id is None else (tokenizer.unk_id,)
    device = device_of(model)
    order = sorted(range(len(read)), key=lambda i: -len(read[i]))
    written: list[list[int]] = [[] for _ in read]
    for start in range(0, len(order), options.batch_size):
        rows = order[start : start + options.batch_size]
        found = write_sequences(
            model, _padded([read[i] for i in rows], objective.pad_id, device), start_id=objective.start_id,
            eos_id=objective.eos_id, pad_id=objective.pad_id, banned_ids=unknown,
            **asdict(replace(writing, seed=writing.seed + start)),
        )  # fmt: skip
        for i, ids in zip(rows, found, strict=True):
            written[i] = ids
        options.progress(min(1.0, (start + options.batch_size) / len(order)))
    return written


def _padded(rows: Sequence[Int64], pad_id: int, device: torch.device) -> dict[str, torch.Tensor]:
    """tokens_BT, and segments_BT (1 for text, 0 for padding) where rows differ in length."""
    longest = max(1, *map(len, rows))
    tokens_BT = np.full((len(rows), longest), pad_id, dtype=np.int64)
    segments_BT = np.zeros_like(tokens_BT)
    for row, ids in enumerate(rows):
        tokens_BT[row, : len(ids)], segments_BT[row, : len(ids)] = ids, 1
    found = {"tokens_BT": torch.from_numpy(tokens_BT).to(device)}
    if not segments_BT.all():
        found["segments_BT"] = torch.from_numpy(segments_BT).to(device)
    return found


def _with_sentinels(objective: Any, text: Unlabelled) -> Int64:
    """Ids of a text with a sentinel for each gap: only here is a name of a token more than its letters."""
    parts, known = _around_gaps(objective, text.text), objective.vocabulary.ids
    names = [sentinel_name(int(number)) for number in parts[1::2]]
    if not names or names != [sentinel_name(number) for number in range(len(names))]:
        raise DataError(
            f"gaps wanted, found {', '.join(names) or 'none'} in {text.text[:60]!r}", where=text.place or None,
            fix="mark the gaps <extra_id_0>, <extra_id_1> and so on, in this order",
        )  # fmt: skip
    if names[-1] not in known:
        raise DataError(
            f"{len(names)} gaps, but the model was trained on at most {len(known)}", where=text.place or None,
            fix="leave fewer gaps",
        )  # fmt: skip
    pieces = [objective.vocabulary.tokenizer.encode(part) for part in parts[::2]]
    filled = [part for name, piece in zip(names, pieces[1:], strict=True) for part in ([known[name]], piece)]
    return np.concatenate([pieces[0], *filled]).astype(np.int64)


def _around_gaps(objective: Any, text: str) -> list[str]:
    """Text, number of a gap, text and so on. A space before a gap goes where the tokens for it bring their own."""
    parts = _GAP.split(text)
    table = objective.vocabulary.tokenizer.token_bytes
    if table is not None and any(token[:1] == b" " and len(token) > 1 for token in table):
        parts[:-1] = [part.removesuffix(" ") for part in parts[:-1]]
    return parts


def _gaps(objective: Any, count: int, ids: Sequence[int]) -> list[str]:
    """What follows the sentinel of each gap, up to the next sentinel; empty where the model left one out."""
    numbers = {objective.vocabulary.ids.get(sentinel_name(number)): number for number in range(count)}
    special = set(objective.vocabulary.ids.values())
    runs: list[list[int]] = [[] for _ in range(count)]
    run: list[int] = []
    for token in ids:
        if token in special:
            run = runs[numbers[token]] if token in numbers else []
        else:
            run.append(token)
    return [str(objective.vocabulary.decode(run)) for run in runs]
