"""Architectures. `MODELS` maps a recipe's `model.type` to its class."""

from __future__ import annotations

from trifecta.models.bert import Bert
from trifecta.models.gpt import Gpt
from trifecta.models.parts import Role, part_sizes, roles, without_memory
from trifecta.models.t5 import T5
from trifecta.models.vit import Vit

MODELS: dict[str, type[Gpt] | type[Bert] | type[T5] | type[Vit]] = {"gpt": Gpt, "bert": Bert, "t5": T5, "vit": Vit}

__all__ = ["MODELS", "T5", "Bert", "Gpt", "Role", "Vit", "part_sizes", "roles", "without_memory"]
