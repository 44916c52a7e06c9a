"""Making the next batches while the present one is learnt."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

#: Batches made ahead: one being learnt, one ready, one in the making.
AHEAD = 2


class Prefetcher(Generic[T]):
    """Yields ``make(i)`` for ``i`` in ``first`` to ``last - 1``, in order, made in a thread of its own.

    What ``make`` returns must depend on its argument alone, so that nothing depends on how far the thread has come.
    An exception in the thread is raised where its batch is asked for. Use as a context: leaving it ends the thread.
    """

    def __init__(self, make: Callable[[int], T], first: int, last: int, *, ahead: int = AHEAD) -> None:
        self._make, self._first, self._last = make, first, last
        self._ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(max(1, ahead))
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)

    def __enter__(self) -> Prefetcher[T]:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._closed.set()
        while self._thread.is_alive():
            try:
                self._ready.get(timeout=0.01)  # the thread may be waiting for room
            except queue.Empty:
                continue
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        for _ in range(self._first, self._last):
            value, error = self._ready.get()
            if error is not None:
                raise error
            yield value  # type: ignore[misc]

    def _work(self) -> None:
        for number in range(self._first, self._last):
            if self._closed.is_set():
                return
            try:
                self._ready.put((self._make(number), None))
            except BaseException as error:
                self._ready.put((None, error))
                return
