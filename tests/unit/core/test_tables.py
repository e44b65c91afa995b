"""Every row of a table takes exactly what a recipe can say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from trifecta.models import MODELS
from trifecta.objectives import OBJECTIVES
from trifecta.optim import OPTIMIZERS, SCHEDULES
from trifecta.optim.perturbations import ADVERSARIES
from trifecta.recipe.keys import components
from trifecta.registry import keywords
from trifecta.run.curriculum import CURRICULA
from trifecta.tokenizers import TEXT_NEEDED, TOKENIZERS
from trifecta.training.spikes import WATCHES

TABLES: dict[str, Mapping[str, Callable[..., Any]]] = {
    "model": MODELS,
    "tokenizer": TOKENIZERS,
    "objective": OBJECTIVES,
    "training.optimizer": OPTIMIZERS,
    "training.scheduler": SCHEDULES,
    "training.adversary": ADVERSARIES,
    "training.spikes": WATCHES,
    "data.curriculum": CURRICULA,
}


@pytest.mark.fast
def test_each_component_of_the_recipe_has_a_table() -> None:
    assert components().keys() == TABLES.keys()
    assert TEXT_NEEDED.keys() == TOKENIZERS.keys()


@pytest.mark.fast
@pytest.mark.parametrize("path", TABLES)
def test_rows_and_fields_agree(path: str) -> None:
    options = components()[path].options
    assert options.keys() == TABLES[path].keys()
    for name, model in options.items():
        assert set(keywords(TABLES[path][name])) == set(model.model_fields) - {"type"}, name
