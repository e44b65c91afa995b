"""Models of several architectures with as many parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trifecta.recipe.dump import flat
from trifecta.recipe.schema import Recipe
from trifecta.run import build
from trifecta.run.request import Request
from trifecta.run.resolution import resolve

_TAKEN_OVER = (
    "tokenizer.type", "tokenizer.vocab_size", "data.sequence_length", "training.batch_size", "training.learning_rate",
    "model.d_model", "model.num_heads", "model.dropout",
)  # fmt: skip
"""Keys that the others take over from the first."""


def matched(request: Request, architectures: Sequence[str]) -> dict[str, Request]:
    """A request for each architecture: the first is what `auto` makes of the text, the others get its size.

    Their feed-forward width is chosen so that the parameters are as many, as nearly as a multiple of 8 can.
    """
    first, *others = architectures
    requests = {first: replace(request, arch=first)}
    recipe = resolve(requests[first]).recipe
    wanted = _parameters(recipe, _vocab_size(recipe))(recipe.model.d_ff)
    known = flat(recipe)
    common = as_flags({key: known[key] for key in _TAKEN_OVER if known.get(key) is not None})
    for arch in others:
        draft = replace(request, arch=arch, flags={**common, **request.flags})
        recipe = resolve(draft).recipe
        count = _parameters(recipe, _vocab_size(recipe))
        steps = (wanted - count(8)) / (count(16) - count(8))
        requests[arch] = replace(draft, flags={**draft.flags, **as_flags({"model.d_ff": max(8, 8 + 8 * round(steps))})})
    return requests


def as_flags(settings: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Settings as a request has them."""
    return {key: ("settings", value) for key, value in settings.items()}


def _vocab_size(recipe: Recipe) -> int:
    tokenizer = build.data_of(recipe, build.sources(recipe.data, recipe.tokenizer.type)).tokenizer
    return int(build.objective_of(recipe, tokenizer).vocabulary.size)


def _parameters(recipe: Recipe, vocab_size: int) -> Any:
    def count(d_ff: int) -> int:
        model = recipe.model.model_copy(update={"d_ff": d_ff})
        return build.count_parameters(recipe.model_copy(update={"model": model}), vocab_size)

    return count
