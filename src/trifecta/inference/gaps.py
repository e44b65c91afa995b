"""The likeliest tokens for the gaps of a text, by a model that was trained on masked tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trifecta.data.tasks.unlabelled import Unlabelled
from trifecta.errors import DataError
from trifecta.inference.judged import Options, Prediction, batches, device_of
from trifecta.objectives.collate import arrays_of, packed
from trifecta.objectives.windows import places_of
from trifecta.tokenizers.vocabulary import Vocabulary
from trifecta.types import IGNORE, Batch, Example

GAP = "[MASK]"


def fill_gaps(model: Any, objective: Any, texts: Sequence[Unlabelled], options: Options) -> list[Prediction]:
    """gaps: for each `[MASK]` of a text the top_k likeliest tokens, each with its probability and the text it makes.

    Raises:
        DataError: a text without a gap, or longer than the model was trained on; with its place.
    """
    rows = _Rows(objective.vocabulary, objective.window)
    pieces = [rows.pieces(text.text) for text in texts]
    examples = [rows.prepare(parts, text) for parts, text in zip(pieces, texts, strict=True)]
    results: list[Prediction] = [{}] * len(texts)
    for numbers, batch in batches(rows, examples, options, device_of(model)):
        likeliest = _likeliest(model, rows.vocabulary, batch, options.top_k)
        for number in numbers:
            written = texts[number].text
            results[number] = {"gaps": [
                [_candidate(rows.vocabulary, pieces[number], written, (gap, *found)) for found in next(likeliest)]
                for gap in range(len(pieces[number]) - 1)
            ]}  # fmt: skip
    return results


@dataclass(frozen=True)
class _Rows:
    """Texts with gaps as rows of a batch. room: tokens of a text that a row takes."""

    vocabulary: Vocabulary
    room: int

    def pieces(self, text: str) -> list[str]:
        """The text between gaps. A space before a gap goes where the tokens for it bring their own."""
        parts = text.split(GAP)
        table = self.vocabulary.tokenizer.token_bytes
        if table is not None and any(token[:1] == b" " and len(token) > 1 for token in table):
            parts[:-1] = [part.removesuffix(" ") for part in parts[:-1]]
        return parts

    def prepare(self, pieces: Sequence[str], text: Unlabelled) -> Example:
        """`[CLS] text [SEP]` with gaps. Only what the user wrote for a gap is one."""
        where = text.place or None
        if len(pieces) < 2:
            raise DataError(
                f"no gap in this text: {text.text[:60]!r}", where=where, fix=f"write {GAP} where a token is to be found"
            )
        ids, encode = self.vocabulary, self.vocabulary.tokenizer.encode
        inner = np.concatenate([part for piece in pieces for part in ([ids[GAP]], encode(piece))][1:])
        if len(inner) > self.room:
            raise DataError(
                f"{len(inner)} tokens, but the model was trained on at most {self.room}", where=where,
                fix="shorten the text",
            )  # fmt: skip
        tokens = np.concatenate([[ids["[CLS]"]], inner, [ids["[SEP]"]]]).astype(np.int64)
        return arrays_of(tokens=tokens, gaps=np.flatnonzero(tokens == ids[GAP]))

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Texts packed into rows; gaps_BT numbers the batch's gaps."""
        numbered, count = [], 0
        for example in examples:
            tokens, at = example.arrays["tokens"], example.arrays["gaps"]
            gaps = np.full(len(tokens), IGNORE)
            gaps[at] = np.arange(count, count + len(at))
            count += len(at)
            numbered.append(arrays_of(tokens=tokens, gaps=gaps))
        sides = {"BT": {"tokens": self.vocabulary["[PAD]"], "gaps": IGNORE}}
        inputs = packed(numbered, sides, {"BT": self.room + 2})
        gaps_BT = inputs.pop("gaps_BT")
        lengths = sum(len(example.arrays["tokens"]) for example in examples)
        return Batch(inputs, {"gaps_BT": gaps_BT}, {"gap": float(count)}, len(examples), lengths)


def _likeliest(model: Any, vocabulary: Vocabulary, batch: Batch, top_k: int) -> Iterator[list[tuple[int, float]]]:
    """Tokens and their probabilities for each gap of the batch, in order; never a special token."""
    places = places_of(batch.targets["gaps_BT"], int(batch.weights["gap"]))
    hidden = model.hidden(**batch.inputs).hidden_BTD.flatten(0, 1)
    shares_NV: Tensor = model.logits(hidden[places]).float().softmax(-1)
    special = torch.from_numpy(vocabulary.is_special).to(shares_NV.device)
    found = shares_NV.masked_fill(special, -1.0).topk(min(top_k, len(vocabulary.ordinary)))
    for ids, shares in zip(found.indices.tolist(), found.values.tolist(), strict=True):
        yield list(zip(ids, shares, strict=True))


def _candidate(
    vocabulary: Vocabulary, pieces: Sequence[str], written: str, place: tuple[int, int, float]
) -> Prediction:
    """The text has the token in one gap; the others stay as they were written. place: gap, token, probability."""
    gap, token, share = place
    parts, name = written.split(GAP), vocabulary.token_text(token)
    before, after = GAP.join([*parts[:gap], pieces[gap]]), GAP.join(parts[gap + 1 :])
    if vocabulary.tokenizer.token_bytes is None and name.startswith("##"):
        text = before.rstrip(" ") + name.removeprefix("##") + after
    else:
        text = before + vocabulary.decode([token]) + after
    return {"token": name, "probability": share, "text": text}
