"""Which blocks compute their activations again, and what of them is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.checkpoint import CheckpointPolicy

from trifecta.execution.memory import _keep, _Recomputed
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


@pytest.mark.fast
def test_selective_keeps_what_narrows_and_what_draws_nothing() -> None:
    """A kept result isn't computed again, so whatever draws random numbers mustn't be kept: later draws would move."""
    aten, x = torch.ops.aten, torch.zeros(3, 4)

    def kept(kernel: Any, *args: Any, **kwargs: Any) -> bool:
        return _keep(None, kernel, *args, **kwargs) is CheckpointPolicy.MUST_SAVE

    assert kept(aten.mm.default, x, torch.zeros(4, 4))
    assert not kept(aten.mm.default, x, torch.zeros(4, 5)), "wider than what it is made from"
    assert kept(aten.addmm.default, torch.zeros(2), x, torch.zeros(4, 2))
    assert not kept(aten.gelu.default, x)
    flash, efficient = aten._scaled_dot_product_flash_attention, aten._scaled_dot_product_efficient_attention
    assert kept(flash.default, x, x, x)
    assert kept(flash.default, x, x, x, 0.0, True)
    assert not kept(flash.default, x, x, x, 0.1, True)
    assert kept(efficient.default, x, x, x, None, True)
    assert not kept(efficient.default, x, x, x, None, True, 0.1)
    assert not kept(efficient.default, x, x, x, None, True, dropout_p=0.1)
