"""What a fine-tuned GPT answers, in the template that it was trained with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from trifecta.inference.generate import generate, generate_batch
from trifecta.objectives.prompted import Prompted
from trifecta.objectives.template import Turn
from trifecta.run.samples import special_ids
from trifecta.tokenizers import StreamDecoder, Tokenizer


def prompt_ids(objective: Prompted, turns: Sequence[Turn], max_tokens: int) -> list[int]:
    """What the model reads before it answers: the newest exchanges for which there is room.

    The answer's tokens belong to the row too, but may not take more than half of it.
    """
    row = objective.sequence_length
    return objective.template.prompt(turns, objective.vocabulary.tokenizer, row - min(max_tokens, row // 2))


def stream_reply(model: Any, objective: Prompted, ids: Sequence[int], **options: Any) -> Iterator[str]:
    """The answer, piece by piece as it is written; options of `generate`."""
    tokenizer = objective.vocabulary.tokenizer
    written = _decoded(generate(model, ids, **special_ids(tokenizer), **options), tokenizer)
    return _without(objective.template.forms["assistant"].glue, written)


def replies(model: Any, objective: Prompted, ids: Sequence[int], count: int, **options: Any) -> list[str]:
    """Several answers."""
    tokenizer = objective.vocabulary.tokenizer
    rows = generate_batch(model, ids, num_samples=count, **special_ids(tokenizer), **options)
    return [objective.template.answer(tokenizer.decode(row)) for row in rows]


def _decoded(ids: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
    decoder = StreamDecoder(tokenizer)
    for token in ids:
        yield decoder.push(token)
    yield decoder.flush()


def _without(prefix: str, pieces: Iterable[str]) -> Iterator[str]:
    """The pieces less the prefix of their text, which may come in several pieces itself."""
    held: str | None = ""
    for piece in pieces:
        if held is None:
            yield piece
            continue
        held += piece
        if held != prefix and prefix.startswith(held):
            continue
        yield held.removeprefix(prefix)
        held = None
