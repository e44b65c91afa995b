"""Answers to prompts and in conversations: only what the assistant says is learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from trifecta.data.tasks import Dialogue
from trifecta.errors import DataError
from trifecta.objectives.base import Needs, Text
from trifecta.objectives.collate import arrays_of, token_batch
from trifecta.objectives.loss import NO_PENALTIES, Penalties, guessed_loss
from trifecta.objectives.template import PLAIN, Said, Template, recent
from trifecta.objectives.texts import shorten
from trifecta.tokenizers.vocabulary import Vocabulary
from trifecta.types import IGNORE, Batch, Example, LossSum

TERM = "answer"


class Prompted:
    """Predict the assistant's turns, each with the end of text after it (Ouyang et al., 2022, their first step).

    A dialogue that is too long loses its oldest exchanges, but not what the system says first. If the last question and
    its answer alone are too long, their ends are cut, and where an answer's end is cut its end isn't learned.
    Arguments: `recipe.components.Prompted`.

    Raises:
        RecipeError: a template that isn't one.
    """

    needs: Needs = "decoder"
    covers_text = corrupts = False
    window, overlap = 0, 0

    def __init__(self, text: Text, *, template: str = PLAIN):
        self.vocabulary = Vocabulary(text.tokenizer)
        self.template = Template.parsed(template)
        self.sequence_length = text.sequence_length

    def prepare(self, sample: Dialogue) -> Example:
        """tokens and targets, (T,): the target at t is token t + 1 where the assistant says it, else IGNORE.

        Raises:
            DataError: the template leaves no room for what is said.
        """
        last = max(number for number, (role, _) in enumerate(sample.turns) if role == "assistant")
        said = self.template.written(sample.turns[: last + 1], self.vocabulary.tokenizer)
        kept, dropped = recent(said, self.sequence_length + 1)
        shortened, cut = self._shortened(kept, sample.place)
        ids, targets = [], []
        for turn, whole in zip(shortened, kept, strict=True):
            learned = turn.role == "assistant"
            ends = learned and len(turn.content) == len(whole.content)
            for part, counts in ((turn.head, False), (turn.content, learned), (turn.tail, ends)):
                ids.append(part)
                targets.append(part if counts else np.full(len(part), IGNORE))
        tokens = np.concatenate(ids)
        return Example(arrays_of(tokens=tokens[:-1], targets=np.concatenate(targets)[1:]).arrays, dropped + cut)

    def _shortened(self, turns: list[Said], place: str) -> tuple[list[Said], int]:
        """The turns with the ends of the longest cut, as far as needed, and how many tokens were cut."""
        contents = [turn.content for turn in turns]
        room = self.sequence_length + 1 - sum(len(turn) - len(turn.content) for turn in turns)
        if room < len(turns):
            raise DataError(
                f"beside objective.template, data.sequence_length {self.sequence_length} leaves no room for what is "
                "said", where=place, fix="raise data.sequence_length, or shorten objective.template",
            )  # fmt: skip
        cut = shorten(contents, room)
        return [replace(turn, content=content) for turn, content in zip(turns, contents, strict=True)], cut

    def corrupt(self, example: Example, generator: np.random.Generator) -> Example:
        """Changes nothing."""
        del generator
        return example

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Dialogues packed into rows, without seeing each other."""
        return token_batch(examples, TERM, pad_id=self.vocabulary.tokenizer.eos_id, limit=self.sequence_length)

    def loss(self, model: Any, batch: Batch, penalties: Penalties = NO_PENALTIES) -> LossSum:
        """Sum of the cross-entropies of the assistant's tokens in nats, their count, and how many were likeliest."""
        return guessed_loss(model, batch, TERM, "targets_BT", penalties)
