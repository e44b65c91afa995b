"""Which blocks compute their activations again."""

from __future__ import annotations

import pytest

from trifecta.execution.memory import _Recomputed
from trifecta.recipe.schema import Recipe
from trifecta.run import build
from trifecta.tokenizers.byte import ByteTokenizer


@pytest.mark.fast
@pytest.mark.parametrize(("on", "every", "wanted"), [(False, 1, []), (True, 1, [0, 1, 2, 3, 4]), (True, 2, [0, 2, 4])])
def test_blocks_that_are_recomputed(on: bool, every: int, wanted: list[int]) -> None:
    recipe = Recipe.model_validate({
        "model": {"type": "gpt", "d_model": 8, "num_heads": 2, "num_layers": 5, "d_ff": 8},
        "tokenizer": {"type": "byte"},
        "execution": {"device": "cpu", "gradient_checkpointing": on, "checkpoint_every_n_layers": every},
    })  # fmt: skip
    objective = build.objective_of(recipe, ByteTokenizer())
    model = build.model_of(recipe, objective)
    build.module_of(recipe, model, objective)
    assert [i for i, block in enumerate(model.blocks) if isinstance(block.forward, _Recomputed)] == wanted
