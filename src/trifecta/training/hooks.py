"""Hooks: callables that get each event and only watch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

Event = dict[str, Any]
Hook = Callable[[Event], None]


class Events:
    """Sends each event to the journal, then to every hook; a hook that fails is dropped and said so, once.

    Training never ends because somebody's terminal did.
    """

    def __init__(self, journal: Hook, hooks: Sequence[Hook]):
        self._journal = journal
        self._hooks = list(hooks)

    def __call__(self, event: Event) -> None:
        """Stamps the time and passes the event on."""
        event = {**event, "time": time.time()}
        self._journal(event)
        for hook in list(self._hooks):
            try:
                hook(event)
            except Exception as error:
                self._hooks.remove(hook)
                self({"event": "note", "message": f"hook {hook!r} failed and was dropped: {error!r}"})


def guarded(report: Callable[[str, float | None], None] | None, emit: Hook) -> Callable[[str, float | None], None]:
    """A report of how far something is that is dropped when it fails, which a note says, as of a hook."""
    listening = [report] if report is not None else []

    def told(stage: str, ratio: float | None) -> None:
        for listener in listening:
            try:
                listener(stage, ratio)
            except Exception as error:
                listening.clear()
                emit({"event": "note", "message": f"progress can't be shown any more: {error!r}"})

    return told
