"""SIGINT and SIGTERM ask the loop to stop after its step; a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """The reason why the loop should stop, once there is one."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def __call__(self) -> str | None:
        """ "interrupted", "terminated" or None."""
        return self.reason

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Notes the first signal; the second Ctrl-C raises KeyboardInterrupt where the program stands."""
        del frame
        if self.reason == "interrupted" and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = "interrupted" if number == signal.SIGINT else "terminated"


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Listens for SIGINT and SIGTERM while the block runs (in the main thread; elsewhere nothing can be asked)."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
