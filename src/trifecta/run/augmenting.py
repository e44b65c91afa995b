"""What a recipe changes in its training texts: a record is edited and prepared anew, then tokens are hidden.

Drawn from (seed, purpose, epoch, number), so that neither workers nor a kill change anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trifecta.data.edits import edited, words_of
from trifecta.data.synonyms import digest_of, load_synonyms, neighbours
from trifecta.data.words import Synonyms, WordEdits
from trifecta.errors import RecipeError
from trifecta.objectives.noise import Noise
from trifecta.randomness import numpy_generator
from trifecta.recipe.inert import changes_text, wants_synonyms
from trifecta.recipe.schema import Recipe
from trifecta.types import Example

Place = tuple[int, int, int]
"""A sample's record, its number among that record's samples, and how many these are."""


@dataclass(frozen=True)
class Stage:
    """record -> augment -> Example, for training.

    A record of several samples (windows of a long text) that would become another number of them stays as it is in that
    epoch: each of its words must be learned once.

    objective: prepares edited records. records, places: of labelled data, a place for each sample; none of plain text.
    share: of the texts that are changed.
    """

    objective: Any
    edits: WordEdits
    noise: Noise
    share: float
    seed: int
    records: Sequence[Any] = ()
    places: Sequence[Place] = ()

    def __call__(self, example: Example, epoch: int, index: int) -> Example:
        """The sample of this number as it is in this epoch. example: as it is without changes."""
        number, part, count = self.places[index] if self.places else (index, 0, 1)
        generator = numpy_generator(self.seed, "augment", epoch, number)
        if generator.random() >= self.share:
            return example
        if self.edits.any:
            record = edited(self.records[number], lambda units: self.edits(units, generator))
            samples = expanded(self.objective, record)
            if len(samples) == count:
                example = self.objective.prepare(samples[part])
        if not (self.noise.mask or self.noise.drop):
            return example
        return self.noise(example, numpy_generator(self.seed, "noise", epoch, index))


def stage_of(
    recipe: Recipe, objective: Any, records: Sequence[Any] = (), synonyms: Synonyms | None = None
) -> Stage | None:
    """What changes the training samples; None where nothing does. records: of labelled data."""
    if not changes_text(recipe):
        return None
    augment = recipe.data.augment
    places = [
        (number, part, count)
        for number, count in enumerate(len(expanded(objective, record)) for record in records)
        for part in range(count)
    ]
    prefix = len(objective.vocabulary.tokenizer.encode(getattr(objective, "prefix", "")))
    labels = list(getattr(objective, "labels", ()))
    noise = Noise(
        objective.vocabulary, augment.mask_tokens, augment.drop_tokens, prefix,
        outside=labels.index("O") if "O" in labels else -1,
    )  # fmt: skip
    edits = WordEdits(augment.delete, augment.swap, augment.insert, augment.replace, synonyms or {})
    return Stage(objective, edits, noise, augment.share, recipe.training.seed, records, places)


def expanded(objective: Any, record: Any) -> list[Any]:
    """A record's samples."""
    expand = getattr(objective, "expand", None)
    return [record] if expand is None else list(expand([record]))


def synonyms_of(recipe: Recipe, records: Sequence[Any]) -> Synonyms | None:
    """Synonyms of the training records' words, where the recipe wants any.

    Raises:
        DataError: the source isn't there, is broken, or knows none of the words.
    """
    augment = recipe.data.augment
    if not wants_synonyms(recipe):
        return None
    assert augment.synonyms is not None
    return load_synonyms(augment.synonyms, augment.synonyms_path, words_of(records), embedding_neighbours)


def fingerprints_of(synonyms: Synonyms | None) -> dict[str, str]:
    """What a resume has to find as it was."""
    return {} if synonyms is None else {"synonyms": digest_of(synonyms)}


def embedding_neighbours(path: str) -> Synonyms:
    """The nearest words of each word that is one token of a run's vocabulary.

    Raises:
        CheckpointError: no such run. RecipeError: its tokens aren't words, or it has none.
    """
    from trifecta.run import build
    from trifecta.run.opened import load

    run = load(path)
    vocabulary = run.objective.vocabulary
    names = [_word_of(vocabulary, token) for token in range(vocabulary.tokenizer.vocab_size)]
    known = [token for token, name in enumerate(names) if name]
    if len(known) < 2:
        raise RecipeError(
            f"hardly any of the {vocabulary.tokenizer.vocab_size:,} tokens of this run is a word "
            f"(tokenizer {vocabulary.tokenizer.type})", where=path,
            fix="name a run whose tokenizer has words: bpe, wordpiece or unigram with a large vocabulary",
        )  # fmt: skip
    embedding = build.embedding_of(run.model)
    table = getattr(embedding, "token", embedding).weight.detach().float().cpu().numpy()
    return neighbours(table[np.array(known)], [names[token] for token in known])


def _word_of(vocabulary: Any, token: int) -> str:
    """The word that a token is as a whole, two letters or more; empty where it is none."""
    if vocabulary.is_special[token] or not vocabulary.begins_word[token]:
        return ""
    text = str(vocabulary.decode([token])).strip()
    return text if len(text) > 1 and text.isalpha() else ""
