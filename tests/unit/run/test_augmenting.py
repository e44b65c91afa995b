"""Augmented feeds: fresh in each epoch, the same however they are asked, only in training, labels as they were."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from objectives import objective

from trifecta.data.tasks import Labelled, Tagged
from trifecta.data.words import WordEdits
from trifecta.errors import RecipeError
from trifecta.objectives.noise import Noise
from trifecta.recipe import collect
from trifecta.run.augmenting import Stage, embedding_neighbours, stage_of
from trifecta.run.feed import Feed
from trifecta.run.tasks import Examples, samples_of

GIVEN = ["model.type=bert", "objective.type=classify", "data.augment.delete=0.3", "data.augment.mask_tokens=0.2"]


def sentence(seed: int, count: int = 8) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefgh", k=3)) for _ in range(count))


RECORDS = [Labelled(sentence(n), None, "ab"[n % 2], "p") for n in range(12)]


def feed(*overrides: str, training: bool = True) -> tuple[Any, Feed]:
    recipe = collect(overrides=[*GIVEN, *overrides]).resolve(None).recipe
    made = objective("classify", labels=["a", "b"], kind="single")
    examples = [made.prepare(record) for record in RECORDS]
    stage = stage_of(recipe, made, RECORDS)
    return made, Feed.of(recipe, made, Examples(RECORDS, examples, 0, 0, 0, stage), training=training)


def rows(feed: Feed, made: Any, epoch: int, numbers: list[int]) -> list[str]:
    batch = feed.batch((np.full(len(numbers), epoch), np.array(numbers)))
    tokens, members = batch.inputs["tokens_BT"].flatten(), batch.targets["members_BT"].flatten()
    return [made.vocabulary.shown(tokens[members == i].tolist()) for i in range(len(numbers))]


def test_fresh_in_each_epoch_and_the_same_in_any_batch() -> None:
    made, training = feed()
    first, second = (rows(training, made, epoch, list(range(12))) for epoch in (0, 1))
    assert all(one != other for one, other in zip(first, second, strict=True))
    assert rows(training, made, 0, [7, 3]) == [first[7], first[3]], "another batch, the same samples"
    assert rows(feed()[1], made, 1, list(range(12))) == second
    assert any("[MASK]" in row for row in first)


def test_validation_is_as_it_is() -> None:
    made, validation = feed(training=False)
    assert rows(validation, made, 0, [0, 5]) == [f"[CLS]{sentence(n)}[SEP]" for n in (0, 5)]
    assert validation.augment is None


def test_the_share_of_texts_that_change() -> None:
    made, training = feed("data.augment.share=0.25")
    plain = [f"[CLS]{sentence(n)}[SEP]" for n in range(12)]
    changed = sum(
        row != whole
        for epoch in range(40)
        for row, whole in zip(rows(training, made, epoch, list(range(12))), plain, strict=True)
    )
    assert 0.18 < changed / 480 < 0.32


def test_without_changes_there_is_no_stage() -> None:
    recipe = collect(overrides=GIVEN[:2]).resolve(None).recipe
    assert stage_of(recipe, objective("classify"), RECORDS) is None


def test_windows_of_a_long_text_stay_together() -> None:
    """Each word is learned once in an epoch: all windows are of the edited text, or none is."""
    made = objective("tag", sequence_length=24, labels=["O"])
    records = []
    for number in range(30):
        text = sentence(number, 16)
        ends = [n for n, c in enumerate(text) if c == " "] + [len(text)]
        words = tuple(zip([0, *(end + 1 for end in ends[:-1])], ends, strict=True))
        records.append(Tagged(text, words, ("O",) * len(words), "p"))
    samples = samples_of(made, records)
    examples = [made.prepare(sample) for sample in samples]
    per_record = [len(made.expand([record])) for record in records]
    places = [(n, k, count) for n, count in enumerate(per_record) for k in range(count)]
    stage = Stage(made, WordEdits(delete=0.1), Noise(made.vocabulary), 1.0, 0, records, places)
    changed = kept = 0
    for number, count in enumerate(per_record):
        assert count > 2
        at = [i for i, place in enumerate(places) if place[0] == number]
        after = [stage(examples[i], 0, i) for i in at]
        words = sum(len(example.arrays["labels"]) for example in after)
        whole = sum(len(examples[i].arrays["labels"]) for i in at)
        same = [example is examples[i] for example, i in zip(after, at, strict=True)]
        assert all(same) or not any(same)
        changed, kept = changed + (not any(same)), kept + all(same)
        assert words == whole if all(same) else words <= whole
    assert changed > 3
    assert kept > 3


def test_causal_text_is_read_with_gaps_and_its_targets_stay() -> None:
    recipe = collect(overrides=["data.augment.mask_tokens=0.3", "data.augment.share=0.9"]).resolve(None).recipe
    made = objective("causal")
    stage = stage_of(recipe, made)
    assert stage is not None
    example = made.prepare(made.vocabulary.tokenizer.encode(sentence(1) * 2))
    after = [stage(example, epoch, 3) for epoch in range(5)]
    assert all(one.arrays["targets"] is example.arrays["targets"] for one in after)
    assert len({one.arrays["tokens"].tobytes() for one in after}) > 3


def test_words_of_a_run_have_neighbours_and_letters_have_none(tmp_path: Path) -> None:
    import trifecta

    words = ["".join(random.Random(n).choices("abcdefgh", k=4)) for n in range(30)]
    (tmp_path / "text.txt").write_text(" ".join(random.Random(1).choices(words, k=2000)))
    small = {"model.d_model": 8, "model.num_heads": 1, "model.num_layers": 1, "model.d_ff": 8, "training.max_steps": 1,
             "data.sequence_length": 16, "execution.threads": 1}  # fmt: skip
    bpe = {"tokenizer.type": "bpe", "tokenizer.vocab_size": 400}
    trifecta.train(tmp_path / "text.txt", out=tmp_path / "bpe", settings=small | bpe)
    trifecta.train(tmp_path / "text.txt", out=tmp_path / "byte", settings=small | {"tokenizer.type": "byte"})
    found = embedding_neighbours(str(tmp_path / "bpe"))
    assert set(words) & set(found)
    assert all(word not in others for word, others in found.items())
    with pytest.raises(RecipeError, match="name a run whose tokenizer has words"):
        embedding_neighbours(str(tmp_path / "byte"))
