"""One text and one run that nobody disturbs, for all sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs import train

SETTINGS: dict[str, Any] = {
    "training.epochs": 20, "training.early_stopping_patience": 3, "training.learning_rate": 5e-3,
}  # fmt: skip
"""With dropout, shuffling, accumulation and keep-last, which every run here has."""


@pytest.fixture(scope="session")
def settings() -> dict[str, Any]:
    return SETTINGS


@pytest.fixture(scope="session")
def whole(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = train(text, out, **SETTINGS)
    assert done.returncode == 0, done.stderr
    assert '"stopped_early"' in done.stdout
    return out
