"""Work in a process of its own, whose memory is its alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from trifecta.errors import ResourceError, TrifectaError

T = TypeVar("T")


def apart(what: str, work: Callable[..., T], *arguments: Any) -> T:
    """What the work returns. A stop of this process is passed on to it, and it gets the time that it needs to save.

    Raises:
        TrifectaError: of the work, or since it ended without a word.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, work, arguments))
    process.start()
    there.close()
    try:
        with _terminated_is_an_exception():
            result: T | TrifectaError = here.recv()
    except EOFError:
        process.join()
        raise ResourceError(f"the training of {what} ended without a word (exit code {process.exitcode})") from None
    except BaseException:
        process.terminate()
        process.join()
        raise
    process.join()
    if isinstance(result, TrifectaError):
        raise result
    return result


@contextmanager
def _terminated_is_an_exception() -> Iterator[None]:
    """SIGTERM would end this process at once, and leave the other one running by itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(*_: object) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _answer(answer: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        answer.send(work(*arguments))
    except TrifectaError as error:
        answer.send(error)
    except KeyboardInterrupt:
        sys.exit(130)  # the parent got it too, and says so


def _end_with_the_parent() -> None:
    """A parent that is killed can't stop this process: it stops itself, and saves what it has."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def peak_bytes() -> int:
    """Most memory that this process has had so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
