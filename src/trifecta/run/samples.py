"""What a model shows of itself while it is trained: it goes on with a text, fills the gaps of one, or answers one.

`tracking.console.LEGENDS` tells a reader which part is whose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from trifecta.inference.generate import eval_mode, generate
from trifecta.inference.sequences import write_sequences
from trifecta.recipe.schema import Recipe
from trifecta.run.feed import Feed
from trifecta.tokenizers import Tokenizer
from trifecta.types import IGNORE

Sample = Callable[[], tuple[str, str]]
"""(prompt, text)."""

_SHOWN_TOKENS = 60


def special_ids(tokenizer: Tokenizer) -> dict[str, Any]:
    """Where writing stops, and what is never written."""
    return {"eos_id": tokenizer.eos_id, "banned_ids": () if tokenizer.unk_id is None else (tokenizer.unk_id,)}


def sample_of(recipe: Recipe, model: Any, feed: Feed, number: int = 0) -> Sample | None:
    """What writes a sample, if anything does. feed: of the validation text; number: which of its samples."""
    maker = MAKERS.get(recipe.objective.type)
    return None if maker is None else lambda: maker(recipe, model, feed, number)


def _continuation(recipe: Recipe, model: Any, feed: Feed, number: int) -> tuple[str, str]:
    del number
    sample, tokenizer = recipe.tracking.sample, feed.objective.vocabulary.tokenizer
    prompt = [int(i) for i in tokenizer.encode(sample.prompt)]
    new = generate(
        model, prompt, max_tokens=sample.max_tokens, temperature=sample.temperature, seed=recipe.training.seed,
        **special_ids(tokenizer),
    )  # fmt: skip
    return sample.prompt, str(tokenizer.decode([*prompt, *new]))


def _example(feed: Feed, number: int) -> dict[str, Any]:
    batch = feed.at(0, number, number + 1)
    return {name: tensor[:1] for name, tensor in {**batch.inputs, **batch.targets}.items()}


@torch.inference_mode()
def _guesses(recipe: Recipe, model: Any, feed: Feed, number: int) -> tuple[str, str]:
    """A text whose gaps hold the likeliest token: right guesses as [guess], wrong ones as [guess|truth]."""
    vocabulary, first = feed.objective.vocabulary, _example(feed, number)
    device = model.head_weight.device
    with eval_mode(model):
        hidden = model.hidden(first["tokens_BT"].to(device)).hidden_BTD[0, :_SHOWN_TOKENS]
        guessed = model.logits(hidden).argmax(-1).tolist()
    tokens, targets = (first[name][0, :_SHOWN_TOKENS].tolist() for name in ("tokens_BT", "targets_BT"))
    parts: list[str] = []
    for token, guess, truth in zip(tokens, guessed, targets, strict=True):
        if truth == IGNORE:
            parts.append(vocabulary.decode([token]))
        else:
            wrong = "" if guess == truth else f"|{vocabulary.decode([truth])}"
            parts.append(f"[{vocabulary.decode([guess])}{wrong}]")
    del recipe
    return "", "".join(parts)


def _answer(recipe: Recipe, model: Any, feed: Feed, number: int) -> tuple[str, str]:
    """A text with gaps, and what the model writes for them."""
    objective: Any = feed.objective
    first = _example(feed, number)
    vocabulary = objective.vocabulary
    sample = recipe.tracking.sample
    device = model.head_weight.device
    read = first["tokens_BT"].to(device)
    ids = write_sequences(
        model, {"tokens_BT": read}, max_tokens=sample.max_tokens, start_id=objective.start_id,
        eos_id=objective.eos_id, pad_id=objective.pad_id, temperature=sample.temperature, seed=recipe.training.seed,
    )[0]  # fmt: skip
    prompt = vocabulary.shown(read[0].tolist())
    return prompt, f"{prompt}\n=> {vocabulary.shown(ids)}"


def _labelled(feed: Feed, number: int) -> dict[str, Any]:
    """Arrays of one labelled example."""
    _, (index,) = feed.sampler.draws(0, number, number + 1)
    return dict(feed.samples[int(index)].arrays)


def _target(recipe: Recipe, model: Any, feed: Feed, number: int) -> tuple[str, str]:
    """A source, and below it what the model writes for it, as `predict` would, and the target."""
    objective: Any = feed.objective
    arrays, tokenizer = _labelled(feed, number), objective.vocabulary.tokenizer
    read = torch.from_numpy(arrays["tokens"])[None].to(model.head_weight.device)
    ids = write_sequences(
        model, {"tokens_BT": read}, max_tokens=min(recipe.tracking.sample.max_tokens, objective.max_target_length),
        start_id=objective.start_id, eos_id=objective.eos_id, pad_id=objective.pad_id,
        banned_ids=special_ids(tokenizer)["banned_ids"],
    )[0]  # fmt: skip
    source, target = (tokenizer.decode(arrays[name][:_SHOWN_TOKENS].tolist()) for name in ("tokens", "targets"))
    return _beside(source, tokenizer.decode(ids), target)


def _reply(recipe: Recipe, model: Any, feed: Feed, number: int) -> tuple[str, str]:
    """What comes before a dialogue's last answer, and below it the model's answer and that of the data."""
    sample, tokenizer = recipe.tracking.sample, feed.objective.vocabulary.tokenizer
    arrays = _labelled(feed, number)
    tokens, targets = arrays["tokens"], arrays["targets"]
    learned = np.flatnonzero(targets != IGNORE)
    stop = int(learned[-1]) + 1 if len(learned) else len(targets)
    said_before = np.flatnonzero(targets[:stop] == IGNORE)
    start = int(said_before[-1]) + 1 if len(said_before) else 0
    ids = generate(
        model, tokens[: start + 1].tolist(), max_tokens=sample.max_tokens, temperature=sample.temperature,
        seed=recipe.training.seed, **special_ids(tokenizer),
    )  # fmt: skip
    prompt = tokenizer.decode(tokens[max(0, start + 1 - _SHOWN_TOKENS) : start + 1].tolist())
    return _beside(prompt, tokenizer.decode(ids), tokenizer.decode(targets[start:stop][:_SHOWN_TOKENS].tolist()))


def _beside(read: str, written: str, wanted: str) -> tuple[str, str]:
    return read, f"{read}\n=> {written.strip()}\n(wanted: {wanted.strip()})"


MAKERS: dict[str, Callable[[Recipe, Any, Feed, int], tuple[str, str]]] = {
    "causal": _continuation,
    "masked": _guesses,
    "span": _answer,
    "seq2seq": _target,
    "prompted": _reply,
}
"""objective.type -> what makes its samples."""
