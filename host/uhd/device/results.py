"""What a device tells, as host types: what it is, and what it found in a picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.device.messages import CODES, LIMITS, Message


@dataclass(frozen=True)
class TensorShape:
    """A tensor at the model's border: ``shape`` is (1, height, width, channels); real = integer * 2**exponent."""

    name: str
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    exponent: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the integers."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True)
class Camera:
    """The device's own camera: ``format`` is yuyv, rgb565le or rgb565be; sizes in pixels."""

    format: str
    width: int
    height: int


@dataclass(frozen=True)
class DeviceInfo:
    """What a device is. ``model_hash`` is the hexadecimal SHA-256 of its .espdl; ``*_q16`` are in 1/65535.

    ``faults``: names of the faults that stand (``ErrorCode``); ``camera``: once it has delivered a picture.
    """

    protocol_version: int
    health: int
    name: str
    variant: str
    target: str
    backend: str
    model_hash: str
    input: TensorShape
    outputs: tuple[TensorShape, ...]
    class_count: int
    score_threshold_q16: int
    nms_iou_q16: int
    top_k: int
    arena_size: int
    espdl_size: int
    max_frame_bytes: int
    credit: int
    faults: tuple[str, ...] = ()
    reset_reason: str = "UNKNOWN"
    camera: Camera | None = None
    counters: dict[str, int] = field(default_factory=dict)


_FIRST_FAULT = LIMITS["FIRST_FAULT"][0]
_COUNTERS = ("frames_received", "crc_errors", "malformed", "overlong", "unknown", "inferences")


def fault_names(bits: int) -> tuple[str, ...]:
    """The faults in the bits of INFO and STATS, by their names in ``ErrorCode``; an unknown one by its number."""
    names = {code: name for name, code in CODES["ErrorCode"].items()}
    codes = [_FIRST_FAULT + bit for bit in range(32) if bits >> bit & 1]
    return tuple(names.get(code, f"fault {code}") for code in codes)


def _member(enum: str, value: int) -> str:
    return next((name for name, known in CODES[enum].items() if known == value), str(value))


def device_info(message: Message) -> DeviceInfo:
    """The content of an INFO message. Raises ``ValueError`` if it lists no input tensor."""
    if not message.tail:
        raise ValueError("INFO without tensors")
    tensors = tuple(
        TensorShape(
            row["name"],
            (1, row["height"], row["width"], row["channels"]),
            np.dtype(np.int16 if row["bytes"] == 2 else np.int8),
            row["exponent"],
        )
        for row in message.tail
    )
    names = ("protocol_version", "health", "name", "variant", "target", "backend", "class_count", "top_k")
    sizes = ("arena_size", "espdl_size", "max_frame_bytes", "credit")
    return DeviceInfo(
        **{name: message[name] for name in (*names, *sizes)},
        model_hash=message["model_hash"].hex(),
        input=tensors[0],
        outputs=tensors[1:],
        score_threshold_q16=message["score_threshold"],
        nms_iou_q16=message["nms_iou"],
        faults=fault_names(message["faults"]),
        reset_reason=_member("ResetReason", message["reset_reason"]),
        camera=Camera(
            _member("CameraFormat", message["camera_format"]).lower(), message["camera_width"], message["camera_height"]
        )
        if message["camera_format"]
        else None,
        counters={name: message[name] for name in _COUNTERS},
    )


@dataclass(frozen=True)
class Timings:
    """Where the time went. Microseconds of the device's clock, except ``round_trip_s`` (seconds, host's clock).

    ``inference_ticks`` are CPU cycles, or instructions in an emulator that counts them. All but ``round_trip_s`` are 0
    if they were not asked for, or were lost on the way from a device's own camera.
    """

    timestamp_us: int
    receive_us: int
    preprocess_us: int
    inference_us: int
    decode_us: int
    inference_ticks: int
    round_trip_s: float


@dataclass(frozen=True)
class Result:
    """What a device found in a picture.

    ``rows`` [n, 6]: score, class, cx, cy, w, h, normalised to the picture, unclipped, best first; ``rows_q16``: the
    same as sent, in integers: w and h in 1/16384, the rest but the class in 1/65535. ``candidates`` counts the cells
    above the threshold. If asked for, ``outputs`` has the integer output tensors [1, height, width, channels] by name,
    and ``thumbnail`` the network input, uint8 [height, width, channels].
    """

    frame_id: int
    rows: NDArray[np.float64]
    rows_q16: NDArray[np.int64]
    candidates: int
    timings: Timings
    outputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    thumbnail: NDArray[np.uint8] | None = None


@dataclass
class Tensor:
    """Bytes that arrive in pieces, in any order, some of them twice."""

    total: int
    data: bytearray = field(init=False)
    absent: bytearray = field(init=False)

    def __post_init__(self) -> None:
        self.data, self.absent = bytearray(self.total), bytearray(b"\1" * self.total)

    def take(self, message: Message) -> bool:
        """Store the piece of an OUTPUT or THUMBNAIL message; False if it does not fit."""
        start, end = message["offset"], message["offset"] + len(message.tail)
        if message["total"] != self.total or end > self.total:
            return False
        self.data[start:end] = message.tail
        self.absent[start:end] = bytes(end - start)
        return True

    @property
    def complete(self) -> bool:
        """True once every byte has come."""
        return 1 not in self.absent


@dataclass(frozen=True)
class Wanted:
    """What a device was configured to send with the boxes."""

    outputs: bool = False
    timing: bool = False
    thumbnail_every: int = 0
    results_every: int = 1

    def thumbnail(self, number: int) -> bool:
        """Whether the network input comes with the ``number``-th picture that has results."""
        return self.thumbnail_every > 0 and number % self.thumbnail_every == 0


_TIMES = ("timestamp_us", "receive_us", "preprocess_us", "inference_us", "decode_us", "inference_ticks")


def result(
    message: Message,
    info: DeviceInfo,
    outputs: dict[int, Tensor],
    thumbnail: Tensor | None,
    timing: Message | None = None,
    seconds: float = 0.0,
) -> Result:
    """A DETECTIONS message with the complete tensors that came before it, ``outputs`` by their index in INFO, and the
    TIMING message of the same picture. ``seconds``: from the picture's first byte to here, by the host's clock.
    """
    rows = np.array(
        [[b["score"], b["cls"], b["cx"], b["cy"], b["width"], b["height"]] for b in message.tail], np.int64
    ).reshape(-1, 6)
    return Result(
        frame_id=message["frame_id"],
        rows=rows_from_q16(rows),
        rows_q16=rows,
        candidates=message["candidates"],
        timings=Timings(**{name: timing[name] if timing else 0 for name in _TIMES}, round_trip_s=seconds),
        outputs={
            shape.name: np.frombuffer(outputs[i].data, shape.dtype.newbyteorder("<")).reshape(shape.shape).copy()
            for i, shape in enumerate(info.outputs)
            if i in outputs
        },
        thumbnail=np.frombuffer(thumbnail.data, np.uint8).reshape(info.input.shape[1:]).copy() if thumbnail else None,
    )


def rows_from_q16(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Integer rows [n, 6] as the link carries them (score, class, cx, cy, w, h) as fractions of the picture."""
    return np.asarray(rows, np.float64).reshape(-1, 6) / (65535, 1, 65535, 65535, 16384, 16384)
