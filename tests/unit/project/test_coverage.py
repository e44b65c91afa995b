"""docs/coverage.md names tests that exist, and leaves no row without one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "coverage.md").read_text()


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)", PAGE)
    assert len(named) > 60
    missing = [
        f"{path}::{name}"
        for name, path in named
        if not (ROOT / path).is_file() or f"def {name}(" not in (ROOT / path).read_text()
    ]
    assert missing == []


def test_every_row_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| capability")]
    assert [row for row in rows if "`test_" not in row] == []
