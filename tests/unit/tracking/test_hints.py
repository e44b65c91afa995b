"""The command that a run ends with."""

from __future__ import annotations

import io
from typing import Any

import pytest

from trifecta.objectives import OBJECTIVES
from trifecta.tracking.console import PlainConsole

END = {"event": "end", "step": 2, "status": "finished", "seconds": 1.0, "loss": 3.1, "best_loss": None}


@pytest.mark.fast
@pytest.mark.parametrize("objective", [None, *OBJECTIVES])
def test_what_to_do_next(objective: str | None) -> None:
    stream = io.StringIO()
    console = PlainConsole(stream)
    start: dict[str, Any] = {"event": "start", "run": "runs/x"} | ({"objective": objective} if objective else {})
    console(start)
    console(END)
    last = stream.getvalue().splitlines()[-1]
    assert last.startswith(f"Next: trifecta {'generate' if objective in (None, 'causal', 'prompted') else 'predict'} ")
    assert "runs/x" in last
    assert ("[MASK]" in last, "--context" in last) == (objective == "masked", objective == "answer")
