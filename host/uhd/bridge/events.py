"""What a source tells its readers: one frozen class for each kind, each of them a JSON object.

Times: ``t`` is seconds since the source began, ``wall`` Unix time. Boxes are fractions of the picture.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

StateName = Literal["connecting", "ready", "silent", "gone", "refused", "ended"]
STATES: tuple[str, ...] = ("connecting", "ready", "silent", "gone", "refused", "ended")

#: [score, class, cx, cy, w, h], scores and sizes 0..1.
Box = tuple[float, int, float, float, float, float]
#: [class, cx, cy, w, h].
TruthBox = tuple[int, float, float, float, float]


@dataclass(frozen=True)
class Image:
    """Pixels of a picture: ``rgb`` is height * width * 3 bytes, ``jpeg`` a file (width and height are 0)."""

    format: Literal["rgb", "jpeg"]
    data: bytes = field(repr=False)
    width: int = 0
    height: int = 0

    def as_json(self) -> dict[str, Any]:
        """The object inside a picture event, data as base64."""
        size = {} if self.format == "jpeg" else {"width": self.width, "height": self.height}
        return {"format": self.format, **size, "data": base64.b64encode(self.data).decode("ascii")}


@dataclass(frozen=True)
class Event:
    """Base of all events. ``latest``: a new reader first gets the newest event of this kind."""

    kind: ClassVar[str] = ""
    latest: ClassVar[bool] = False

    def as_json(self) -> dict[str, Any]:
        """The JSON object: ``kind``, then the fields."""
        return {"kind": self.kind, **{f.name: getattr(self, f.name) for f in fields(self)}}


@dataclass(frozen=True)
class State(Event):
    """How things stand. ``silent``: the port is open, nothing was heard for 3 s; ``gone``: unplugged, looked for
    again; ``refused``: another protocol version, or a model that cannot run; ``ended``: the recording or the photos
    are finished.
    """

    kind: ClassVar[str] = "state"
    latest: ClassVar[bool] = True
    t: float
    wall: float
    state: StateName
    text: str
    port: str = ""


@dataclass(frozen=True)
class Device(Event):
    """Who the device is. ``class_names``, ``accuracy`` and ``resize_mode`` are the manifest's where the model's hash is
    known, else ``class 0`` ..., nothing and "". Thresholds are 0..1, sizes in bytes.
    """

    kind: ClassVar[str] = "device"
    latest: ClassVar[bool] = True
    t: float
    wall: float
    name: str
    variant: str
    target: str
    backend: str
    model_hash: str
    protocol_version: int
    class_names: list[str]
    input: dict[str, int]
    camera: dict[str, Any] | None
    faults: list[str]
    reset_reason: str
    score_threshold: float
    nms_iou: float
    espdl_size: int
    arena_size: int
    accuracy: list[dict[str, Any]]
    resize_mode: str


@dataclass(frozen=True)
class Config(Event):
    """What the device was last told, and confirmed. ``*_every``: 0 never, n every n-th picture."""

    kind: ClassVar[str] = "config"
    latest: ClassVar[bool] = True
    score_threshold: float
    nms_iou: float
    thumbnail_every: int
    results_every: int


@dataclass(frozen=True)
class Picture(Event):
    """What the device found in a picture, best box first. ``timing``: microseconds by name, None where the device sent
    none; ``truth``: the labels of an injected photo.
    """

    kind: ClassVar[str] = "picture"
    t: float
    wall: float
    frame_id: int
    source: Literal["camera", "host"]
    boxes: tuple[Box, ...]
    candidates: int
    timing: Mapping[str, int] | None
    photo: str | None
    truth: tuple[TruthBox, ...] | None
    image: Image | None

    def as_json(self) -> dict[str, Any]:
        """See ``Event``."""
        image = self.image.as_json() if self.image else None
        return {**super().as_json(), "image": image}

    def without_image(self) -> Picture:
        """The same for readers that want no pixels."""
        return self if self.image is None else replace(self, image=None)


@dataclass(frozen=True)
class Stats(Event):
    """Once a second. ``device``: the fields of STATS by name; ``host``: the counters of this side since the source
    began; ``fps``: pictures in a second; ``dropped``: events that this reader did not get because it was slow.
    """

    kind: ClassVar[str] = "stats"
    latest: ClassVar[bool] = True
    t: float
    wall: float
    device: Mapping[str, int]
    host: Mapping[str, int]
    fps: float
    dropped: int = 0


@dataclass(frozen=True)
class Fault(Event):
    """A fault of the device began (``stands``) or is over. ``code`` as in ``docs/faults.md``."""

    kind: ClassVar[str] = "fault"
    t: float
    wall: float
    name: str
    code: int
    text: str
    stands: bool


@dataclass(frozen=True)
class Console(Event):
    """A line of the device's console."""

    kind: ClassVar[str] = "console"
    t: float
    wall: float
    text: str


@dataclass(frozen=True)
class Recording(Event):
    """A recording began or ended; ``text`` says why if nobody asked for that (a full disk)."""

    kind: ClassVar[str] = "recording"
    latest: ClassVar[bool] = True
    on: bool
    path: str
    text: str = ""


@dataclass(frozen=True)
class Timeline(Event):
    """Where the replay of a recording of ``length`` seconds is. ``speed`` 0 is as fast as it goes."""

    kind: ClassVar[str] = "timeline"
    latest: ClassVar[bool] = True
    t: float
    length: float
    playing: bool
    speed: float


@dataclass(frozen=True)
class Refused(Event):
    """The answer to a command that is unknown, malformed or impossible here."""

    kind: ClassVar[str] = "refused"
    text: str
