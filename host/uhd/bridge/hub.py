"""One source, any number of readers: none of them can hold up the source or fill the memory."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from uhd.bridge.events import Event, Picture, Refused, Stats

#: Unread events of a reader other than pictures: console lines, faults. A device that only logs must not fill it all.
MAX_OTHERS = 256


class Source(Protocol):
    """Where events come from: a device on a port, or a recording. ``done`` is set once it has no more of them."""

    done: threading.Event

    @property
    def pictures(self) -> int:
        """Results so far."""
        ...

    def start(self, hub: Hub) -> None:
        """Begin to publish on ``hub``, from a thread of its own."""
        ...

    def command(self, command: Mapping[str, Any]) -> Event | None:
        """Take a reader's command (``docs/bridge.md``); the event returned is for this reader alone."""
        ...

    def close(self) -> None:
        """End, and release everything; a second call does nothing."""
        ...


class Reader:
    """One reader's queue, made by ``Hub.subscribe``. Iterating ends when it, or the hub, is closed.

    ``dropped`` counts the events that were replaced by newer ones before they were read.
    """

    def __init__(self, hub: Hub, images: bool, pictures: int, patient: bool) -> None:
        self.images, self.patient = images, patient
        self.dropped = 0
        self._hub, self._pictures = hub, pictures
        self._queue: deque[Event] = deque()
        self._waiting = 0  # pictures in the queue
        self._closed = False
        self._news = threading.Condition()

    def put(self, event: Event) -> None:
        """Add an event for this reader alone. Never blocks."""
        with self._news:
            if not self._closed and not self._replace(event):
                self._make_room(event)
                self._queue.append(event)
                self._waiting += isinstance(event, Picture)
                self._news.notify()

    def _replace(self, event: Event) -> bool:
        """For a reader of the newest picture only the newest state, device, ... counts: it takes the place of an
        unread one. Nothing is lost by that, and it does not wait behind pictures again and again.
        """
        if not event.latest or self._pictures > 1:
            return False
        for place, old in enumerate(self._queue):
            if type(old) is type(event):
                self._queue[place] = event
                return True
        return False

    def _make_room(self, event: Event) -> None:
        old: Event | None = None
        if not isinstance(event, Picture):
            old = self._oldest_other()
        elif self._waiting >= self._pictures:
            old = next(e for e in self._queue if isinstance(e, Picture))
            self._waiting -= 1
        if old is not None:
            self._queue.remove(old)
            self.dropped += 1

    def _oldest_other(self) -> Event | None:
        if len(self._queue) - self._waiting < max(MAX_OTHERS, self._pictures):
            return None
        return next(e for e in self._queue if not isinstance(e, Picture))

    def get(self, timeout: float | None = None) -> Event | None:
        """The oldest unread event; None after ``timeout`` seconds without one, or once the reader is closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._news:
            while not self._queue:
                left = None if deadline is None else deadline - time.monotonic()
                if self._closed or (left is not None and left <= 0):
                    return None
                self._news.wait(left)
            event = self._queue.popleft()
            self._waiting -= isinstance(event, Picture)
            dropped = self.dropped
        self._hub.was_read(self)
        return replace(event, dropped=dropped) if isinstance(event, Stats) else event

    def __iter__(self) -> Iterator[Event]:
        while (event := self.get()) is not None:
            yield event

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def closed(self) -> bool:
        """True once nothing more can arrive; what has arrived can still be read."""
        return self._closed

    def finish(self) -> None:
        """Nothing more will arrive; what has arrived can still be read."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    def close(self) -> None:
        """Leave the hub and forget what is unread; a second call does nothing."""
        self._hub.unsubscribe(self)
        with self._news:
            self._closed = True
            self._queue.clear()
            self._waiting = 0
            self._news.notify_all()


class Hub:
    """Fans events out to readers, and takes their commands to the source."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: list[Reader] = []
        self._latest: dict[str, Event] = {}
        self._source: Source | None = None
        self._read = threading.Condition()
        self._closed = False

    def attach(self, source: Source) -> None:
        """Commands go to ``source`` from now on."""
        self._source = source

    def subscribe(self, images: bool = False, *, pictures: int = 1, patient: bool = False) -> Reader:
        """A new reader, which first gets the latest event of each lasting kind (state, device, config, stats, ...).

        ``images``: picture events carry pixels. ``pictures``: unread pictures that are kept; when one more comes, the
        oldest goes, so 1 always shows the newest. ``patient``: a replay waits for this reader instead of dropping.
        """
        reader = Reader(self, images, pictures, patient)
        with self._lock:
            for kind in ("state", "device", "config", "stats", "recording", "timeline"):
                if kind in self._latest:
                    reader.put(self._latest[kind])
            if self._closed:
                reader.finish()
            else:
                self._readers.append(reader)
        return reader

    def unsubscribe(self, reader: Reader) -> None:
        """What ``Reader.close`` calls."""
        with self._lock:
            if reader in self._readers:
                self._readers.remove(reader)
        with self._read:
            self._read.notify_all()

    def publish(self, event: Event) -> None:
        """Give an event to every reader. Never blocks."""
        with self._lock:
            if event.latest:
                self._latest[event.kind] = event
            bare = event.without_image() if isinstance(event, Picture) else event
            for reader in self._readers:
                reader.put(event if reader.images else bare)

    def command(self, command: Any) -> Event | None:
        """Take a reader's command to the source; an answer for this reader alone, if there is one."""
        if not isinstance(command, dict) or not isinstance(command.get("do"), str):
            return Refused('a command is an object with "do"')
        if self._source is None:
            return Refused("there is no source yet")
        return self._source.command(command)

    @property
    def readers(self) -> int:
        """How many there are now."""
        return len(self._readers)

    @property
    def wants_images(self) -> bool:
        """Whether any reader asked for pixels."""
        return any(reader.images for reader in self._readers)

    def was_read(self, reader: Reader) -> None:
        """What ``Reader.get`` calls."""
        if reader.patient:
            with self._read:
                self._read.notify_all()

    def wait_for_readers(self, backlog: int, timeout: float) -> bool:
        """Wait until no patient reader has more than ``backlog`` unread events; False if one has after ``timeout``."""
        with self._read:
            return self._read.wait_for(
                lambda: all(len(r) <= backlog for r in list(self._readers) if r.patient), timeout
            )

    def close(self) -> None:
        """End every reader's iteration once it has read what is there. Nothing is published any more."""
        with self._lock:
            self._closed = True
            readers, self._readers = self._readers, []
        for reader in readers:
            reader.finish()
