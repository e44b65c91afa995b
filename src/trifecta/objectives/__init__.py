"""What can be learned, by the names that recipes use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trifecta.objectives.causal import Causal
from trifecta.objectives.loss import LossModule

OBJECTIVES: dict[str, Callable[..., Any]] = {"causal": Causal}

__all__ = ["OBJECTIVES", "LossModule"]
