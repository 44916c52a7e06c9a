"""Making the next batches while the present one is learnt."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

#: Batches made ahead: one being learnt, one ready, one in the making.
AHEAD = 2


class Prefetcher(Generic[T]):
    """Yields ``make(i)`` for ``i`` in ``first`` to ``last - 1``, in order, made in a thread of its own.

    What ``make`` returns must depend on its argument alone, so that nothing depends on how far the thread has come.
    An exception in the thread is raised where its batch is asked for. Use as a context: leaving it ends the thread.
    """

    def __init__(
        self,
        make: Callable[[int], T],
        first: int,
        last: int,
        *,
        ahead: int = AHEAD,
        device: torch.device | None = None,
    ) -> None:
        """``device``: where ``make`` leaves tensors. On a GPU it works in a stream of its own: a copy from main memory
        waits for its stream, which would be the whole learning that is under way."""
        self._make, self._first, self._last = make, first, last
        cuda = device is not None and device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]
        self._ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(max(1, ahead))
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
            made, error = self._ready.get()
            if error is not None:
                raise error
            value, event = made
            if event is not None:
                reader = torch.cuda.current_stream(self._stream.device)
                reader.wait_event(event)
                for tensor in _tensors(value):
                    tensor.record_stream(reader)
            yield value

    def _work(self) -> None:
        inside: AbstractContextManager[Any] = nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        with inside:
            for number in range(self._first, self._last):
                if self._closed.is_set():
                    return
                try:
                    value = self._make(number)
                    self._ready.put(((value, None if self._stream is None else self._stream.record_event()), None))
                except BaseException as error:
                    self._ready.put((None, error))
                    return


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors on a GPU in a tensor, or in the fields of a dataclass and of those in it."""
    if isinstance(value, Tensor):
        if value.is_cuda:
            yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))
