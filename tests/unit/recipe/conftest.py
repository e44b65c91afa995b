"""A recipe file in an otherwise empty folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trifecta.recipe import Resolved, collect


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Resolved]:
    """Resolves a YAML text as `recipe.yaml`; keyword arguments go to `collect`."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, **options: Any) -> Resolved:
        Path("recipe.yaml").write_text(text, encoding="utf-8")
        return collect(config="recipe.yaml", **options).resolve()

    return load
