"""The chunked loss takes a fraction of the plain one's memory; each in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2]))
from benchmarks.memory import measure

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel counts resident memory")

SIZES = 20_000, 2048, 64
"""Scores of a token, tokens, width: all scores at once are 164 MB."""


def check(kind: str) -> None:
    plain, _ = measure("loss", "plain", *SIZES)
    found, _ = measure("loss", kind, *SIZES)
    assert plain > 300, "scores and their gradient"
    assert found < 0.4 * plain


def test_the_chunked_loss_takes_less_than_two_fifths() -> None:
    check("chunked")


def test_control_the_plain_loss_does_not() -> None:
    with pytest.raises(AssertionError):
        check("plain")
