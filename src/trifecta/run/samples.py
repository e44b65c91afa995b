"""What a model shows of itself while it is trained: it goes on with a text, or fills the gaps of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    makers = {"causal": _continuation, "masked": _guesses, "span": _answer}
    maker = makers.get(recipe.objective.type)
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
    batch = feed.batch((0, feed.sampler.indices(0, number, number + 1)))
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
