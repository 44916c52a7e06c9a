"""A device on a port as a source: opened, greeted, watched, fed with photos, and found again when it was away."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from uhd.bridge import commands, events
from uhd.bridge.commands import Settings
from uhd.bridge.guard import Guard, Stopped
from uhd.bridge.hub import Hub
from uhd.bridge.journal import Journal
from uhd.bridge.models import find_manifest, manifest_of
from uhd.bridge.photos import PhotoFeed
from uhd.bridge.recording import SUFFIX
from uhd.device import connection
from uhd.device.client import DeviceClient
from uhd.device.connection import VersionError
from uhd.device.messages import CODES, ENUMS, MESSAGES, unpack
from uhd.device.ports import Port
from uhd.device.results import DeviceInfo
from uhd.errors import ConfigError, DataError, DeviceError, UhdError
from uhd.manifest import ModelManifest

#: Seconds of silence after which something is sent again.
_TIMEOUT, _HELLO_TIMEOUT = 0.5, 0.25
#: How often a port that is away is looked for: often at first, as after a reset.
_LOOK, _LOOK_LATER = 0.02, 0.2
_STATS_EVERY = 1.0
#: Seconds before a device that was refused is asked again: someone may be flashing it.
_REFUSED_PAUSE = 2.0
_ERROR, _NO_SESSION = MESSAGES["ERROR"].type, CODES["ErrorCode"]["NO_SESSION"]


class _Refused(Exception):
    """The device is there but cannot be used; the text says why."""


class LiveSource:
    """A device behind ``open_port``, which gives the port or raises ``DeviceError`` while there is none.

    Without ``photos`` the device's own camera is shown; with them each is sent to it, at most ``rate`` a second. Ends
    by itself after ``pictures`` results, or after the last photo: state ``ended``, and ``done`` is set. A recording
    goes to ``record``; those that readers ask for go to ``record_folder``.
    """

    def __init__(
        self,
        open_port: Callable[[], Port],
        name: str,
        *,
        settings: Settings = Settings(),  # noqa: B008 - frozen
        photos: PhotoFeed | None = None,
        rate: float | None = None,
        pictures: int | None = None,
        record: Path | None = None,
        record_folder: Path | None = None,
        through: Callable[[Port], Port] = lambda port: port,
    ) -> None:
        self.name = name
        self.done = threading.Event()
        self.error: UhdError | None = None
        self._open, self._through = open_port, through
        self._settings, self._photos, self._rate, self._limit = settings, photos, rate, pictures
        self._record, self._record_folder = record, record_folder or Path()
        self._asking = threading.Lock()
        self._stop = threading.Event()
        self._paused, self._steps, self._unsettled = False, 0, False
        self._state = ("", "")
        self._before: Counter[str] = Counter()  # of connections that are over
        self._known: DeviceInfo | None = None
        self._thread: threading.Thread | None = None
        self._journal: Journal | None = None
        self._client: DeviceClient | None = None
        self._next_stats = self._next_photo = 0.0

    # ---- the interface of a source

    def start(self, hub: Hub) -> None:
        """See ``Source``. Raises ``DataError`` if the recording cannot be made."""
        self._journal = Journal(hub)
        if self._record:
            self._journal.start_recording(self._record, port=self.name)
        hub.attach(self)
        self._thread = threading.Thread(target=self._run, name=f"bridge {self.name}", daemon=True)
        self._thread.start()

    def command(self, command: Mapping[str, Any]) -> events.Event | None:
        """``configure``, ``record``, ``pause`` and ``step``; see ``docs/bridge.md``."""
        try:
            with self._asking:
                return self._take(command)
        except (ConfigError, DataError) as error:
            return events.Refused(str(error))

    def close(self) -> None:
        """See ``Source``."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        if self._journal:
            self._journal.stop_recording()

    @property
    def pictures(self) -> int:
        """Results so far."""
        return self._journal.pictures if self._journal else 0

    def _take(self, command: Mapping[str, Any]) -> events.Event | None:
        what = command["do"]
        if self.done.is_set():
            raise ConfigError("this has ended, start it again")
        if what == "configure":
            self._settings = commands.changed(self._settings, command)
            self._unsettled = True
        elif what == "record":
            self._switch_recording(commands.switch(command))
        elif what == "pause":
            self._paused = commands.switch(command)
            self._unsettled = self._unsettled or self._photos is None
        elif what == "step":
            if self._photos is None or not self._paused:
                raise ConfigError("step is for photos and recordings that are paused")
            self._steps += 1
        else:
            raise ConfigError(f"a device does not know {str(what)[:40]!r}")
        return None

    def _switch_recording(self, on: bool) -> None:
        assert self._journal
        if not on:
            self._journal.stop_recording()
            return
        for number in range(1000):
            suffix = f"-{number}" if number else ""
            path = self._record_folder / f"uhd-{datetime.now():%Y%m%d-%H%M%S}{suffix}{SUFFIX}"
            if not path.exists():
                break
        self._journal.start_recording(path, port=self.name)

    # ---- its thread

    def _run(self) -> None:
        try:
            while not self.done.is_set():
                self._live()
        except Stopped:
            pass
        except UhdError as error:  # nothing that another try could mend: a photo that cannot be read
            self.error = error
            self._tell("ended", str(error))
        finally:
            self.done.set()

    def _stopped(self) -> bool:
        return self._stop.is_set()

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped

    def _tell(self, state: events.StateName, text: str) -> None:
        if (state, text) != self._state:
            self._state = (state, text)
            assert self._journal
            self._journal.note("state", state=state, text=text, port=self.name)

    def _live(self) -> None:
        """One life of the port: from when it can be opened until it is gone."""
        port = self._wait_for_port()
        self.name = port.name
        if self._state[0] != "refused":
            self._tell("connecting", f"{self.name}: waiting for the device")
        guard = Guard(self._through(port), self._stopped, self._silence)
        try:
            while True:
                self._session(guard)
        except _Refused as refusal:
            self._tell("refused", str(refusal))
            self._pause(_REFUSED_PAUSE)
        except DeviceError as error:
            self._tell("gone", f"{error}; waiting for it to come back")
        finally:
            guard.close()

    def _session(self, guard: Guard) -> None:
        """As long as the device answers. Raises ``DeviceError`` when the port is gone."""
        try:
            self._serve(guard)
        except DeviceError as error:
            if guard.gone:
                raise
            if self._state[0] == "ready":
                self._tell("connecting", str(error))
        finally:
            self._keep_counters()

    def _wait_for_port(self) -> Port:
        tries = 0
        while True:
            if self._stopped():
                raise Stopped
            try:
                return self._open()
            except DeviceError as error:
                if self._state[0] != "gone":
                    self._tell("gone", f"{error}; waiting for it to come back")
            tries += 1
            self._pause(_LOOK if tries * _LOOK < 2.0 else _LOOK_LATER)

    def _silence(self, silent: bool) -> None:
        if silent and self._state[0] != "refused":
            self._tell("silent", f"{self.name}: open, but nothing was heard for 3 s; is the firmware running?")
        elif not silent and self._state[0] == "silent":
            self._tell("connecting", f"{self.name}: the device is heard again")

    def _serve(self, guard: Guard) -> None:
        assert self._journal
        # A picture may take as long as a picture takes; silence is told on the way.
        self._client = client = DeviceClient(guard, timeout=_TIMEOUT, retries=5, tap=self._tap)
        info = self._greet(client, guard)
        manifest = find_manifest(info.model_hash)
        if self._known is None or self._known.model_hash != info.model_hash:
            self._prepare(info, manifest)
        self._journal.model_note(info.model_hash, manifest)
        self._known = info
        self._configure(client)
        self._ready()
        self._next_stats = time.monotonic()
        if self._photos:
            self._inject(client)
        else:
            self._watch(client, guard)

    def _tap(self, direction: str, type_: int, seq: int, payload: bytes) -> None:
        assert self._journal
        self._journal.tap(direction, type_, seq, payload)
        if direction == connection.TO_HOST and type_ == _ERROR and self._state[0] == "ready":
            with contextlib.suppress(ValueError):
                if unpack(type_, payload)["code"] == _NO_SESSION:
                    self._tell("connecting", f"{self.name}: the device has restarted")

    def _greet(self, client: DeviceClient, guard: Guard) -> DeviceInfo:
        link = client.connection
        link.timeout, link.retries = _HELLO_TIMEOUT, 0
        while True:
            try:
                info = client.hello(require_ready=False)
                break
            except VersionError as error:
                raise _Refused(str(error)) from None
            except DeviceError:
                if guard.gone:
                    raise
                self._pause(_LOOK)
        link.timeout, link.retries = _TIMEOUT, 5
        if info.health != CODES["Health"]["OK"]:
            text = next((t for _, value, t in ENUMS["Health"] if value == info.health), f"health {info.health}")
            raise _Refused(f"{self.name}: {info.name} cannot run: {text}")
        return info

    def _prepare(self, info: DeviceInfo, manifest: ModelManifest | None) -> None:
        if self._photos:
            try:
                self._photos.prepare(manifest or manifest_of(info))
            except ConfigError as error:
                raise _Refused(str(error)) from None

    def _configure(self, client: DeviceClient) -> None:
        self._unsettled = False
        settings = asdict(self._settings)
        if self._photos:  # the photo is shown, not what the network sees of it
            settings |= {"thumbnail_every": 0}
        client.configure(**settings, stream=self._photos is None and not self._paused)

    def _ready(self) -> None:
        info = self._known
        assert info
        if self._photos:
            what = f"{len(self._photos)} photos"
        else:
            what = "its camera" if info.camera else "its camera, once it delivers pictures"
        self._tell("ready", f"{info.name} on {self.name}: {what}")

    def _between(self, client: DeviceClient) -> None:
        """What is due between two pictures or messages."""
        if self._stopped():
            raise Stopped
        if self._limit is not None and self.pictures >= self._limit:
            self._end(f"{self.pictures} pictures, as asked")
        if self._unsettled:
            self._configure(client)

    def _end(self, text: str) -> None:
        if self._client:
            self._count(self._client)
        self._tell("ended", text)
        self.done.set()
        raise Stopped

    # ---- photos

    def _inject(self, client: DeviceClient) -> None:
        assert self._photos and self._journal
        while True:
            self._between(client)
            if time.monotonic() >= self._next_stats:
                self._next_stats = time.monotonic() + _STATS_EVERY
                client.stats()
                self._count(client)
            if self._photos.ended:
                client.stats()
                self._end(f"all {len(self._photos)} photos were sent")
            if (self._paused and not self._steps) or time.monotonic() < self._next_photo:
                self._pause(min(0.05, max(0.001, self._next_photo - time.monotonic())))
                continue
            with self._asking:
                self._steps -= self._steps > 0
            self._send_photo(client)
            self._ready()

    def _send_photo(self, client: DeviceClient) -> None:
        assert self._photos and self._journal
        shot = self._photos.peek()
        self._journal.photo(
            shot.digest, shot.jpeg,
            name=shot.name, index=shot.index, height=shot.height, width=shot.width, truth=shot.truth,
        )  # fmt: skip
        if self._rate:
            self._next_photo = max(self._next_photo, time.monotonic() - 1 / self._rate) + 1 / self._rate
        frame = shot.stimulus.frame
        if frame:
            client.infer_camera(frame.data, frame.width, frame.height, frame.stride)
        else:
            client.infer_network(shot.stimulus.network)
        self._photos.advance()

    # ---- the device's own camera

    def _watch(self, client: DeviceClient, guard: Guard) -> None:
        """The tap sees the results; here only the session is kept alive."""
        asked = 0.0
        while True:
            self._between(client)
            now = time.monotonic()
            if now >= self._next_stats:
                self._next_stats = now + _STATS_EVERY
                client.connection.send("STATS_REQUEST")
                asked = now
            message = client.connection.receive(min(self._next_stats, now + 0.05))
            if message is None:
                continue
            if message.name == "STATS" and asked:
                asked = 0.0
                self._count(client)
            elif message.name == "ERROR" and message["code"] == _NO_SESSION:
                client.connection.counters.restarts += 1
                self._greet(client, guard)
                self._configure(client)
            self._ready()

    # ---- counters

    def _counters(self, client: DeviceClient) -> Counter[str]:
        seen, sent = client.connection.decoder.counters, client.connection.counters
        return Counter(
            frames=seen.frames, lost=seen.lost, crc_errors=seen.crc_errors, malformed=seen.malformed + seen.overlong,
            retries=sent.retries, restarts=sent.restarts, stale=sent.stale,
        )  # fmt: skip

    def _count(self, client: DeviceClient) -> None:
        assert self._journal
        now, before = self._counters(client), self._before
        self._journal.note("host", **{name: now[name] + before[name] for name in now})

    def _keep_counters(self) -> None:
        if self._client:
            self._before.update(self._counters(self._client))
            self._client = None
