"""A recording as a source: the same events as the device gave, in the same order, with the same times."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uhd.bridge import commands, events
from uhd.bridge.hub import Hub
from uhd.bridge.recording import Record
from uhd.bridge.recording_reader import RecordingReader
from uhd.bridge.translate import Translator
from uhd.errors import ConfigError, DataError, UhdError

#: Unread events of a patient reader at which a replay waits for it.
_BACKLOG = 64
_TIMELINE_EVERY = 0.5
#: Longest sleep, so that commands and the end are noticed soon.
_SLICE = 0.05


class Stopped(Exception):
    """The source is being closed."""


class ReplaySource:
    """Plays a recording. ``speed``: 1 as it was, 2 twice as fast, 0 as fast as its patient readers follow.

    With ``stay`` it can still be sought in after its end; otherwise it is ``done`` there. ``error``: what could not be
    read.
    """

    def __init__(self, path: Path, *, speed: float = 1.0, stay: bool = False, paused: bool = False) -> None:
        """Raises ``DataError`` for a file that is no recording."""
        self.done = threading.Event()
        self.error: UhdError | None = None
        self.reader = RecordingReader(path)
        wall = self.reader.header.get("wall")
        self._wall = float(wall) if isinstance(wall, int | float) and abs(wall) < 1e12 else 0.0
        self._speed, self._stay = speed, stay
        self._playing, self._steps = not paused, 0
        self._target: float | None = None
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._hub = Hub()
        self._length_us = 0
        self._position = 0.0
        self._clock = (0.0, 0.0)  # (time in the recording, monotonic time) that belong together
        self._next_timeline = 0.0
        self._ended = False
        self._translator: Translator | None = None

    # ---- the interface of a source

    def start(self, hub: Hub) -> None:
        """See ``Source``."""
        self._hub = hub
        hub.attach(self)
        self._thread = threading.Thread(target=self._run, name=f"replay {self.reader.path.name}", daemon=True)
        self._thread.start()

    def command(self, command: Mapping[str, Any]) -> events.Event | None:
        """``pause``, ``step``, ``seek`` and ``speed``; see ``docs/bridge.md``."""
        try:
            with self._changed:
                self._take(command)
                self._changed.notify_all()
        except ConfigError as error:
            return events.Refused(str(error))
        return None

    def close(self) -> None:
        """See ``Source``."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread:
            self._thread.join()
        self.reader.close()

    @property
    def pictures(self) -> int:
        """Results so far."""
        return self._translator.pictures if self._translator else 0

    def _take(self, command: Mapping[str, Any]) -> None:
        what = command["do"]
        if what == "pause":
            self._playing = not commands.switch(command)
            if self._playing and self._ended:
                self._target = 0.0
        elif what == "step":
            if self._playing:
                raise ConfigError("step is for recordings that are paused")
            self._steps += 1
        elif what == "seek":
            target = commands.number(command, "t", 0, 1e9)
            if target is None:
                raise ConfigError('seek needs "t", seconds from the beginning')
            self._target = target
        elif what == "speed":
            factor = commands.number(command, "factor", 0, 1000)
            if factor is None:
                raise ConfigError('speed needs "factor", 1 for as it was, 0 for as fast as it goes')
            self._speed = factor
        elif what in ("configure", "record"):
            raise ConfigError(f"a recording takes no {what}: what is in it is done")
        else:
            raise ConfigError(f"a recording does not know {str(what)[:40]!r}")
        self._next_timeline = 0.0
        self._clock = (self._position, time.monotonic())

    # ---- its thread

    def _run(self) -> None:
        try:
            self._length_us = self.reader.index().last_us
            self._play(0.0)
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._target is not None or self._stop.is_set())
                    target, self._target = self._target or 0.0, None
                if self._stop.is_set():
                    return
                self._play(target)
        except Stopped:
            pass
        except UhdError as error:
            self.error = error
            self._hub.publish(events.State(self._position, self._wall + self._position, "ended", str(error)))
        finally:
            self.done.set()

    def _play(self, target: float) -> None:
        """From ``target`` seconds to the end, or until someone seeks."""
        self._ended = False
        standing: dict[str, events.Event] = {}  # what a reader must know at ``target``
        offset = self._prime(target, standing)
        self._position = target
        self._clock = (target, time.monotonic())
        for place, record in self.reader.records(offset):
            t = record.time_us / 1e6
            if t < target:
                self._stand(self._feed(place, record), standing)
                continue
            if not self._wait_until(t):
                return
            for event in (*standing.values(), *self._feed(place, record)):
                self._publish(event)
            standing.clear()
            self._position = t
        for event in standing.values():
            self._publish(event)
        self._finish()

    def _prime(self, target: float, standing: dict[str, events.Event]) -> int:
        """A translator that knows how things stood some time before ``target``; returns where to read on."""
        self._translator = Translator(self._wall, self.reader.photo, lambda: self._hub.wants_images)
        if target <= 0:
            return 0
        point = self.reader.index().before(round(target * 1e6))
        for place in point.context:
            record = self.reader.record_at(place)
            if record:
                self._stand(self._feed(place, record), standing)
        return point.offset

    def _stand(self, told: list[events.Event], standing: dict[str, events.Event]) -> None:
        for event in told:
            if event.latest:
                standing.pop(event.kind, None)
                standing[event.kind] = event

    def _feed(self, place: int, record: Record) -> list[events.Event]:
        assert self._translator
        try:
            return self._translator.take(record)
        except DataError as error:
            raise DataError(f"{self.reader.path}: at byte {place}: {error}") from None

    def _publish(self, event: events.Event) -> None:
        self._hub.publish(event)
        if isinstance(event, events.Picture):
            with self._changed:
                self._steps -= self._steps > 0
        while not self._hub.wait_for_readers(_BACKLOG, _SLICE):
            if self._stop.is_set():
                raise Stopped

    def _wait_until(self, t: float) -> bool:
        """Sleep until it is time for what happened at ``t``. False if someone seeks meanwhile."""
        while True:
            if self._stop.is_set():
                raise Stopped
            with self._changed:
                if self._target is not None:
                    return False
                self._tell_time()
                if self._steps:
                    return True
                if self._playing:
                    since, when = self._clock
                    left = 0.0 if self._speed == 0 else when + (t - since) / self._speed - time.monotonic()
                    if left <= 0:
                        return True
                    self._changed.wait(min(left, _SLICE))
                else:
                    self._changed.wait(_SLICE)

    def _tell_time(self, *, now: bool = False) -> None:
        if now or time.monotonic() >= self._next_timeline:
            self._next_timeline = time.monotonic() + _TIMELINE_EVERY
            playing = self._playing and not self._ended
            self._hub.publish(events.Timeline(self._position, self._length_us / 1e6, playing, self._speed))

    def _finish(self) -> None:
        self._ended = True
        t = self._length_us / 1e6
        self._position = t
        what = "; ".join(self.reader.problems) or f"{self.reader.path.name} is at its end"
        self._tell_time(now=True)
        self._hub.publish(events.State(t, self._wall + t, "ended", what, str(self.reader.path)))
        if not self._stay:
            self.done.set()
            raise Stopped
