"""Sources on boards behind pseudo terminals, and readers that wait for what must come."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from uhd.bridge import events
from uhd.bridge.hub import Hub
from uhd.bridge.setup import port_opener
from uhd.bridge.source_live import LiveSource


class Watch:
    """A started source with a reader that keeps all it gets."""

    def __init__(self, hub: Hub, source: Any, *, images: bool = True, patient: bool = False) -> None:
        self.hub, self.source = hub, source
        self.seen: list[events.Event] = []
        self.times: list[float] = []
        self.news = threading.Condition()
        self.reader = hub.subscribe(images, pictures=100_000, patient=patient)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for event in self.reader:
            with self.news:
                self.seen.append(event)
                self.times.append(time.monotonic())
                self.news.notify_all()

    def wait(self, good: Callable[[events.Event], bool], seconds: float = 20.0, after: int = 0) -> int:
        """The place of the first event from ``after`` on that is ``good``; waits for it."""
        place = after

        def found() -> bool:
            nonlocal place
            while place < len(self.seen):
                if good(self.seen[place]):
                    return True
                place += 1
            return False

        with self.news:
            assert self.news.wait_for(found, seconds), [e for e in self.seen[after:] if e.kind != "picture"][-20:]
        return place

    def state(self, name: str, after: int = 0) -> int:
        return self.wait(lambda e: isinstance(e, events.State) and e.state == name, after=after)

    def picture(self, after: int = 0) -> int:
        return self.wait(lambda e: isinstance(e, events.Picture), after=after)

    def states(self) -> list[str]:
        with self.news:
            return [e.state for e in self.seen if isinstance(e, events.State)]

    def of(self, kind: str) -> list[Any]:
        with self.news:
            return [e for e in self.seen if e.kind == kind]

    def end(self) -> None:
        self.source.close()
        self.hub.close()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.reader.close()


@contextlib.contextmanager
def watching(path: Path, **options: Any) -> Iterator[Watch]:
    """A live source on the board at ``path``."""
    hub = Hub()
    watch = Watch(hub, LiveSource(port_opener(str(path)), str(path), **options))
    try:
        watch.source.start(hub)
        yield watch
    finally:
        watch.end()
