"""Architectures. `MODELS` maps a recipe's `model.type` to its class."""

from __future__ import annotations

from trifecta.models.gpt import Gpt
from trifecta.models.parts import Role, part_sizes, roles, without_memory

MODELS = {"gpt": Gpt}

__all__ = ["MODELS", "Gpt", "Role", "part_sizes", "roles", "without_memory"]
