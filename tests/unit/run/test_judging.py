"""What a built-in task's evaluation is shown beside."""

from __future__ import annotations

from typing import Any

import pytest

from trifecta.data.builtin_tasks import builtin_task
from trifecta.recipe.schema import Recipe
from trifecta.run.judging import _baselines


def recipe(data: dict[str, Any], objective: str = "classify", model: str = "bert") -> Recipe:
    return Recipe.model_validate({"model": {"type": model}, "objective": {"type": objective}, "data": data})


@pytest.mark.fast
def test_figures_without_a_model_stand_beside_those_of_a_built_in_task_alone() -> None:
    majority = builtin_task("grammar-agreement").baselines["majority_accuracy"]
    assert _baselines(recipe({"builtin": "grammar-agreement"}), ()) == {"baseline_majority_accuracy": majority}
    assert _baselines(recipe({"builtin": "grammar-agreement"}), ("other.csv",)) == {}
    assert _baselines(recipe({"paths": ["mine.csv"]}), ()) == {}
    assert _baselines(recipe({"builtin": "dates"}, "prompted", "gpt"), ()) == {}
