"""What passes on a link, with its time: to the recording, if there is one, and as events to the hub."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from uhd import __version__
from uhd.bridge import events
from uhd.bridge.hub import Hub
from uhd.bridge.recording import CONSOLE, DIGEST, NOTE, PHOTO, TO_DEVICE, TO_HOST, Record, Recorder, dump_json
from uhd.bridge.recording_reader import context_key
from uhd.bridge.translate import Translator
from uhd.device import connection
from uhd.device.messages import PROTOCOL_VERSION
from uhd.errors import DataError
from uhd.manifest import ModelManifest

_KINDS = {connection.TO_DEVICE: TO_DEVICE, connection.TO_HOST: TO_HOST, connection.CONSOLE: CONSOLE}
#: Photos kept for their events: the one in flight, and those whose results may come late.
_PHOTOS = 8


class Journal:
    """Takes everything in order, stamps it, and passes it on. ``tap`` is what ``DeviceClient`` wants.

    A recording that begins in the middle starts with what it needs to be understood: how things stand, who the device
    is, how it is configured. Its times are counted from its own beginning.
    """

    def __init__(self, hub: Hub, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """``clock``: nanoseconds that never go back."""
        self._hub, self._clock = hub, clock
        self._lock = threading.RLock()
        self._start_ns = clock()
        self.wall = time.time()
        self._photos: OrderedDict[bytes, bytes] = OrderedDict()
        self._context: dict[str, Record] = {}
        self._recorder: Recorder | None = None
        self._recording_from_us = 0
        self._translator = Translator(self.wall, self._photos.get, lambda: hub.wants_images)
        self.manifest: ModelManifest | None = None

    @property
    def pictures(self) -> int:
        """Pictures whose results came."""
        return self._translator.pictures

    def tap(self, direction: str, type_: int, seq: int, payload: bytes) -> None:
        """A frame or console line, as ``uhd.device.connection.Tap``."""
        self._take(_KINDS[direction], payload, type_, seq)

    def note(self, name: str, /, **values: Any) -> None:
        """A note of the host: ``state``, ``model``, ``photo`` or ``host`` with their members."""
        self._take(NOTE, dump_json({"note": name, **values}))

    def photo(self, digest: bytes, jpeg: bytes, **values: Any) -> None:
        """Pictures of the host that begin from here on are of this photo.

        ``digest``: ``DIGEST`` bytes that name it; ``values``: name, index, height, width, truth.
        """
        with self._lock:
            self._photos[digest] = jpeg
            self._photos.move_to_end(digest)
            while len(self._photos) > _PHOTOS:
                self._photos.popitem(last=False)
            if self._recorder:
                self._take(PHOTO, digest + jpeg)
            self.note("photo", digest=digest.hex(), **values)

    def _take(self, kind: int, payload: bytes, type_: int = 0, seq: int = 0) -> None:
        with self._lock:
            record = Record(kind, (self._clock() - self._start_ns) // 1000, payload, type_, seq)
            if key := context_key(record):
                self._context.pop(key, None)  # so that the order stays that of time
                self._context[key] = record
            if self._recorder:
                self._write(record)
            for event in self._translator.take(record):
                self._hub.publish(event)

    def _write(self, record: Record) -> None:
        assert self._recorder
        time_us = max(0, record.time_us - self._recording_from_us)
        try:
            self._recorder.write(Record(record.kind, time_us, record.payload, record.type, record.seq))
        except DataError as error:
            self.stop_recording(str(error))

    def start_recording(self, path: Path, **header: Any) -> None:
        """Record from here on. Raises ``DataError`` if one is running, or where the file cannot be made."""
        with self._lock:
            if self._recorder:
                raise DataError(f"a recording is running already: {self._recorder.path}")
            now_us = (self._clock() - self._start_ns) // 1000 if self._context else 0
            manifest = self.manifest.model_dump(mode="json") if self.manifest else None
            self._recorder = Recorder(
                path,
                {"tool_version": __version__, "protocol_version": PROTOCOL_VERSION, "wall": self.wall + now_us / 1e6,
                 "manifest": manifest, **header},
            )  # fmt: skip
            self._recording_from_us = now_us
            for record in list(self._context.values()):
                self._write(record)
            photo = self._context.get("note photo")
            if photo and (digest := photo.note().get("digest")) and (jpeg := self._photos.get(bytes.fromhex(digest))):
                self._take(PHOTO, bytes.fromhex(digest)[:DIGEST] + jpeg)
            self._hub.publish(events.Recording(True, str(path)))

    def stop_recording(self, why: str = "") -> None:
        """End the recording, if there is one; ``why``: what readers are told."""
        with self._lock:
            if self._recorder:
                self._recorder.close()
                path, self._recorder = str(self._recorder.path), None
                self._hub.publish(events.Recording(False, path, why))

    @property
    def recording(self) -> Path | None:
        """The file that is being written."""
        return self._recorder.path if self._recorder else None

    def model_note(self, model_hash: str, manifest: ModelManifest | None) -> None:
        """Tell what is known of the model that the device runs."""
        self.manifest = manifest
        self.note("model", **describe_model(model_hash, manifest))


def describe_model(model_hash: str, manifest: ModelManifest | None) -> Mapping[str, Any]:
    """The members of a ``model`` note."""
    measured: list[Any] = []
    if manifest:
        quantized = manifest.quantization.accuracy if manifest.quantization else []
        measured = [item.model_dump(mode="json") for item in (*quantized, *manifest.accuracy)]
    return {
        "model_hash": model_hash,
        "class_names": list(manifest.class_names) if manifest else [],
        "accuracy": measured,
        "resize_mode": manifest.resize_mode if manifest else "",
    }
