"""Recipe -> Run: the only package that knows every table.

Imported lazily, so that `check --schema-only` answers without torch.
"""

from __future__ import annotations

import importlib
from typing import Any

from trifecta.run.request import Request

_HOMES = {
    "train": "trainer", "iterate": "trainer", "Result": "trainer",
    "load": "opened", "Run": "opened", "evaluate": "opened",
    "finetune": "finetuning",
    "predict_texts": "predicting", "texts_of": "predicting", "name_of": "predicting",
    "check": "preview", "demo": "demonstration", "list_runs": "folder",
}  # fmt: skip
"""Where each name lives: no module is named like what it holds, or it would hide it."""

__all__ = ["Request", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"trifecta.run.{_HOMES[name]}"), name)
    raise AttributeError(name)
