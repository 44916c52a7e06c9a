"""What a device tells, as host types: what it is, and what it found in a picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.device.messages import Message


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
class DeviceInfo:
    """What a device is. ``model_hash`` is the hexadecimal SHA-256 of its .espdl; ``*_q16`` are in 1/65535."""

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
    counters: dict[str, int] = field(default_factory=dict)


_COUNTERS = ("frames_received", "crc_errors", "malformed", "overlong", "unknown", "inferences")


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
        counters={name: message[name] for name in _COUNTERS},
    )


@dataclass(frozen=True)
class Timings:
    """Where the time went. Microseconds of the device's clock, except ``round_trip_s`` (seconds, host's clock).

    ``inference_ticks`` are CPU cycles, or instructions in an emulator that counts them.
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
    same integers as sent (1/65535). ``candidates`` counts the cells above the threshold. If asked for, ``outputs`` has
    the integer output tensors [1, height, width, channels] by name, and ``thumbnail`` the network input, uint8
    [height, width, channels].
    """

    frame_id: int
    rows: NDArray[np.float64]
    rows_q16: NDArray[np.int64]
    candidates: int
    timings: Timings
    outputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    thumbnail: NDArray[np.uint8] | None = None


def rows_from_q16(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Integer rows [n, 6] (score, class, cx, cy, w, h in 1/65535, class as is) as fractions."""
    result = np.asarray(rows, np.float64).reshape(-1, 6) / 65535
    result[:, 1] *= 65535
    result[:, 1] = np.rint(result[:, 1])
    return result
