"""Whoever watches a run never ends it."""

from __future__ import annotations

from typing import Any

import pytest

from trifecta.training.hooks import guarded

pytestmark = pytest.mark.fast


def test_a_report_that_fails_is_dropped_and_said_so_once() -> None:
    told: list[tuple[str, float | None]] = []
    events: list[dict[str, Any]] = []

    def report(stage: str, ratio: float | None) -> None:
        told.append((stage, ratio))
        if len(told) == 2:
            raise OSError("the terminal is gone")

    tell = guarded(report, events.append)
    for share in (0.25, 0.5, 0.75):
        tell("validating", share)
    assert told == [("validating", 0.25), ("validating", 0.5)]
    assert [event["event"] for event in events] == ["note"]
    assert "the terminal is gone" in events[0]["message"]


def test_where_nobody_listens_nothing_happens() -> None:
    guarded(None, lambda _: pytest.fail("a note about nobody"))("validating", 0.5)
