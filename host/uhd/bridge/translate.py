"""Turns what passed on a link into events. Live sources and replays both go through here, so they say the same."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from uhd.bridge import events
from uhd.bridge.pixels import SHOWN_CHANNELS, rgb_of_network
from uhd.bridge.recording import CONSOLE, NOTE, TO_DEVICE, TO_HOST, Record
from uhd.device.messages import CODES, ENUMS, LIMITS, MESSAGES, Message, unpack
from uhd.device.results import DeviceInfo, Tensor, device_info, fault_names, result
from uhd.errors import DataError

_FIRST_FAULT = LIMITS["FIRST_FAULT"][0]
_CAMERA_FRAMES = LIMITS["CAMERA_FRAMES"][0]
_NETWORK_U8 = CODES["FrameFormat"]["NETWORK_U8"]
_FAULT_TEXTS = {code: text for _, code, text in ENUMS["ErrorCode"]}
_TIMES = ("receive_us", "preprocess_us", "inference_us", "decode_us", "timestamp_us")
#: Bytes of the largest network input that is kept to be shown: a device may say that its input is anything.
_MOST_PIXELS = 1 << 20
#: Seconds over which pictures are counted for ``fps``.
_FPS_WINDOW = 2.0
#: Pictures of the host whose photo is remembered: only one is in flight, but results may come late.
_FLIGHTS = 8


@dataclass(frozen=True)
class NotedPhoto:
    """A photo that the host sent: its size in pixels, its labels (None: it has none), and what its JPEG is found by."""

    name: str
    height: int
    width: int
    truth: tuple[events.TruthBox, ...] | None
    digest: bytes


class _Flight:
    """A picture on its way: its photo, its pixels as they come in pieces, and its times."""

    def __init__(self, photo: NotedPhoto | None = None) -> None:
        self.photo = photo
        self.pixels: Tensor | None = None
        self.timing: Message | None = None

    def take(self, message: Message, total: int) -> None:
        """A piece of the network input."""
        if self.pixels is None:
            self.pixels = Tensor(total)
        self.pixels.take(message)


class Translator:
    """Takes records in order and gives the events that each of them completes.

    ``wall``: Unix time at which the records' time is 0. ``photo``: finds the JPEG of a noted photo by the digest in
    its note. ``images``: whether anybody wants pixels now. Frames that no device sends are ignored.
    """

    def __init__(
        self,
        wall: float,
        photo: Callable[[bytes], bytes | None] = lambda digest: None,
        images: Callable[[], bool] = lambda: True,
    ) -> None:
        self.pictures = 0
        self._wall, self._find_photo, self._images = wall, photo, images
        self._now = (0.0, wall)
        self._info: DeviceInfo | None = None
        self._model: dict[str, Any] | None = None
        self._configs: OrderedDict[int, Message] = OrderedDict()  # by sequence number, until they are answered
        self._flights: OrderedDict[int, _Flight] = OrderedDict()
        self.photo: NotedPhoto | None = None  # that pictures which begin now are of
        self._last = {"camera": -1, "host": -1}
        self._told: events.Device | None = None
        self._faults = 0
        self._stats: dict[str, int] = {}
        self._times: deque[float] = deque(maxlen=1024)
        self._began = 0.0  # when pictures began to come, after a pause

    def take(self, record: Record) -> list[events.Event]:
        """The events that ``record`` completes. Raises ``DataError`` for a note that makes no sense."""
        t = record.time_us / 1e6
        self._now = (t, self._wall + t)
        if record.kind == NOTE:
            return self._note(record.note())
        if record.kind == CONSOLE:
            return [events.Console(*self._now, record.payload.decode("utf-8", "replace"))]
        if record.kind not in (TO_DEVICE, TO_HOST):
            return []
        try:
            message = unpack(record.type, record.payload)
        except ValueError:
            return []
        if MESSAGES[message.name].direction == "to device":
            return self._sent(message, record.seq) if record.kind == TO_DEVICE else []
        return self._heard(message) if record.kind == TO_HOST else []

    # ---- what the host sent

    def _sent(self, message: Message, seq: int) -> list[events.Event]:
        if message.name == "CONFIG":
            self._configs[seq] = message
            while len(self._configs) > _FLIGHTS:
                self._configs.popitem(last=False)
        elif message.name == "FRAME" and message["frame_id"] < _CAMERA_FRAMES:
            flight = self._flight(message["frame_id"])
            if message["format"] == _NETWORK_U8 and not flight.photo and message["total"] == self._pixels():
                flight.take(message, message["total"])
        return []

    def _pixels(self) -> int:
        """Bytes of the network input; -1 for one that cannot be shown."""
        _, height, width, channels = self._info.input.shape if self._info else (1, 0, 0, 0)
        total = height * width * channels
        return total if 0 < total <= _MOST_PIXELS and channels in SHOWN_CHANNELS else -1

    def _flight(self, frame_id: int) -> _Flight:
        if frame_id not in self._flights:
            self._flights[frame_id] = _Flight(self.photo if frame_id < _CAMERA_FRAMES else None)
            while len(self._flights) > _FLIGHTS:
                self._flights.popitem(last=False)
        return self._flights[frame_id]

    # ---- what the device said

    def _heard(self, message: Message) -> list[events.Event]:
        take = {
            "INFO": self._info_message, "ACK": self._ack, "THUMBNAIL": self._thumbnail, "TIMING": self._timing,
            "DETECTIONS": self._detections, "STATS": self._stats_message, "ERROR": self._error,
        }.get(message.name)  # fmt: skip
        return take(message) if take else []

    def _info_message(self, message: Message) -> list[events.Event]:
        try:
            self._info = device_info(message)
        except ValueError:
            return []
        self._flights.clear()  # a session begins, and its pictures are counted from 1 again
        self._last = {"camera": -1, "host": -1}
        return [*self._device_now(), *self._faults_now(message["faults"])]

    def _device_now(self) -> list[events.Event]:
        """The device, once it and its model are known, and if that is news: INFO comes as often as HELLO was sent."""
        if not self._info or not self._model or self._info.model_hash != self._model["model_hash"]:
            return []
        device = self._device()
        if self._told and replace(device, t=self._told.t, wall=self._told.wall) == self._told:
            return []
        self._told = device
        return [device]

    def _device(self) -> events.Device:
        assert self._info and self._model
        info, model = self._info, self._model
        _, height, width, channels = info.input.shape
        return events.Device(
            *self._now,
            **{name: getattr(info, name) for name in ("name", "variant", "target", "backend", "model_hash")},
            protocol_version=info.protocol_version,
            class_names=model["class_names"] or [f"class {i}" for i in range(info.class_count)],
            input={"height": height, "width": width, "channels": channels},
            camera=asdict(info.camera) if info.camera else None,
            faults=list(info.faults),
            reset_reason=info.reset_reason,
            score_threshold=info.score_threshold_q16 / 65535,
            nms_iou=info.nms_iou_q16 / 65535,
            espdl_size=info.espdl_size,
            arena_size=info.arena_size,
            accuracy=model["accuracy"],
            resize_mode=model["resize_mode"],
        )

    def _ack(self, message: Message) -> list[events.Event]:
        config = self._configs.pop(message["reply_to"], None)
        if config is None or message["reply_type"] != MESSAGES["CONFIG"].type:
            return []
        return [
            events.Config(
                config["score_threshold"] / 65535, config["nms_iou"] / 65535,
                config["thumbnail_every"], config["results_every"],
            )
        ]  # fmt: skip

    def _thumbnail(self, message: Message) -> list[events.Event]:
        sizes = (message["height"], message["width"], message["channels"])
        if self._info and self._info.input.shape[1:] == sizes and message["total"] == self._pixels():
            self._flight(message["frame_id"]).take(message, message["total"])
        return []

    def _timing(self, message: Message) -> list[events.Event]:
        self._flight(message["frame_id"]).timing = message
        return []

    def _detections(self, message: Message) -> list[events.Event]:
        frame_id = message["frame_id"]
        source = "camera" if frame_id >= _CAMERA_FRAMES else "host"
        if self._info is None or frame_id == self._last[source]:
            return []  # sent again because an answer was lost
        self._last[source] = frame_id
        self.pictures += 1
        if not self._times:
            self._began = self._now[0]
        self._times.append(self._now[0])
        flight = self._flights.pop(frame_id, None) or _Flight()
        found = result(message, self._info, {}, None, timing=flight.timing)
        photo = flight.photo
        boxes = tuple((s, int(c), x, y, w, h) for s, c, x, y, w, h in found.rows.tolist())
        return [
            events.Picture(
                *self._now,
                frame_id=frame_id,
                source="camera" if source == "camera" else "host",
                boxes=boxes,
                candidates=found.candidates,
                timing={name: flight.timing[name] for name in _TIMES} if flight.timing else None,
                photo=photo.name if photo else None,
                truth=photo.truth if photo else None,
                image=self._image(flight) if self._images() else None,
            )
        ]

    def _image(self, flight: _Flight) -> events.Image | None:
        if flight.photo and (jpeg := self._find_photo(flight.photo.digest)):
            return events.Image("jpeg", jpeg)
        if flight.pixels is None or not flight.pixels.complete or self._info is None:
            return None
        network = np.frombuffer(flight.pixels.data, np.uint8).reshape(self._info.input.shape[1:])
        rgb = rgb_of_network(network)
        return events.Image("rgb", rgb.tobytes(), rgb.shape[1], rgb.shape[0])

    def _stats_message(self, message: Message) -> list[events.Event]:
        self._stats = dict(message.fields)
        return self._faults_now(message["faults"])

    def _error(self, message: Message) -> list[events.Event]:
        code = message["code"]
        if not _FIRST_FAULT <= code < _FIRST_FAULT + 32 or message["reply_type"]:
            return []
        self._faults |= 1 << (code - _FIRST_FAULT)
        return [self._fault(code, message.tail, stands=True)]

    def _faults_now(self, bits: int) -> list[events.Event]:
        """Events for the faults that began or ended since they were last told."""
        changed, self._faults = bits ^ self._faults, bits
        codes = [_FIRST_FAULT + bit for bit in range(32) if changed >> bit & 1]
        return [self._fault(c, _FAULT_TEXTS.get(c, ""), stands=bool(bits >> (c - _FIRST_FAULT) & 1)) for c in codes]

    def _fault(self, code: int, text: str, *, stands: bool) -> events.Fault:
        (name,) = fault_names(1 << (code - _FIRST_FAULT))
        return events.Fault(*self._now, name, code, text, stands)

    # ---- what the host noted

    def _note(self, note: dict[str, Any]) -> list[events.Event]:
        name = note.get("note")
        try:
            if name == "state":
                state, text, port = _text(note, "state"), _text(note, "text"), _text(note, "port")
                if state not in events.STATES:
                    raise DataError(f"there is no state {state[:20]!r}")
                if state == "gone":
                    self._flights.clear()
                    self._told = None
                return [events.State(*self._now, state, text, port)]  # type: ignore[arg-type]
            if name == "model":
                self._model = {
                    "model_hash": _text(note, "model_hash"),
                    "class_names": [str(item) for item in _list(note, "class_names")],
                    "accuracy": [dict(item) for item in _list(note, "accuracy")],
                    "resize_mode": _text(note, "resize_mode"),
                }
                return self._device_now()
            if name == "photo":
                self.photo = _photo(note) if note.get("name") is not None else None
            elif name == "host":
                counters = {key: _integer(value) for key, value in note.items() if key != "note"}
                return [events.Stats(*self._now, self._stats, counters, self._fps())]
        except (KeyError, TypeError, ValueError, OverflowError):
            raise DataError(f"the note {str(name)[:20]!r} is malformed") from None
        return []

    def _fps(self) -> float:
        """Pictures in a second, over the last two; over less where they began to come later."""
        now = self._now[0]
        while self._times and self._times[0] <= now - _FPS_WINDOW:
            self._times.popleft()
        return round(len(self._times) / min(_FPS_WINDOW, max(now - self._began, 0.5)), 2)


def _text(note: dict[str, Any], key: str) -> str:
    if not isinstance(note[key], str):
        raise TypeError(key)
    return note[key][:1000]


def _list(note: dict[str, Any], key: str) -> list[Any]:
    if not isinstance(note[key], list) or len(note[key]) > 10_000:
        raise TypeError(key)
    return list(note[key])


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _photo(note: dict[str, Any]) -> NotedPhoto:
    truth = None
    if note["truth"] is not None:
        truth = tuple(
            (_integer(int(label)), float(cx), float(cy), float(w), float(h))
            for label, cx, cy, w, h in _list(note, "truth")
        )
    height, width = _integer(note["height"]), _integer(note["width"])
    return NotedPhoto(_text(note, "name"), height, width, truth, bytes.fromhex(_text(note, "digest")))
