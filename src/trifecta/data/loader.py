"""Batches, made in this process or by workers; the same ones either way."""

from __future__ import annotations

import contextlib
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trifecta.errors import ResourceError

if TYPE_CHECKING:
    from trifecta.types import Batch


def load_batches(requests: Iterable[Any], make_batch: Callable[[Any], Batch], num_workers: int = 0) -> Iterator[Batch]:
    """One batch for each request, in their order. torch's global generator isn't touched.

    Args:
        requests: read a little ahead of what is returned when there are workers.
        make_batch: pure; with workers it runs in other processes.

    Raises:
        whatever make_batch raises. ResourceError: a worker died.
    """
    if num_workers == 0:
        yield from map(make_batch, requests)
        return
    from torch import Generator
    from torch.utils.data import DataLoader

    loader: DataLoader[Any] = DataLoader(
        _Maker(make_batch),  # type: ignore[arg-type]
        batch_size=None,
        sampler=requests,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        worker_init_fn=_leave_signals_to_parent,
        generator=Generator(),  # its own, or else each iterator draws from the global one
    )
    with contextlib.closing(_Results(loader)) as results:
        yield from results


class _Results:
    """The loader's results; closing it ends the workers."""

    def __init__(self, loader: Any):
        self._iterator = iter(loader)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            try:
                result = next(self._iterator)
            except StopIteration:
                return
            except RuntimeError as error:
                if "worker" not in str(error).lower():
                    raise
                raise ResourceError(
                    f"a data worker died, perhaps for lack of memory: {error}", fix="set data.num_workers=0"
                ) from error
            if isinstance(result, _Failure):
                result.error.add_note(result.text)
                raise result.error
            yield result

    def close(self) -> None:
        del self._iterator


def load_updates(
    updates: Iterable[Sequence[Any]], make_batch: Callable[[Any], Batch], num_workers: int = 0
) -> Iterator[list[Batch]]:
    """Several batches at a time, one for each request of an update; otherwise as `load_batches`."""
    sizes: deque[int] = deque()

    def requests() -> Iterator[Any]:
        for update in updates:
            sizes.append(len(update))
            yield from update

    batches = load_batches(requests(), make_batch, num_workers)
    for first in batches:
        yield [first, *(next(batches) for _ in range(sizes.popleft() - 1))]


@dataclass(frozen=True)
class _Failure:
    """An error of a worker; the loader itself would rebuild it from its text alone and lose its fields."""

    error: Exception
    text: str


class _Maker:
    """What the loader takes for a data set: its samples are whole batches."""

    def __init__(self, make_batch: Callable[[Any], Batch]):
        self._make_batch = make_batch

    def __getitem__(self, request: Any) -> Batch | _Failure:
        try:
            return self._make_batch(request)
        except Exception as error:
            return _Failure(error, traceback.format_exc())


def _leave_signals_to_parent(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; what it means is the training process's to decide."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _as_it_is(batch: Any) -> Any:
    return batch
