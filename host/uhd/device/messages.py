"""The messages of the link, as one table.

The C++ header ``uhd/link_messages.hpp`` and the tables of ``docs/protocol.md`` are written from here by
``python -m uhd.device.messages --write``; the Python codec below reads the table itself. Integers are little
endian and packed without gaps; a message may end in a tail: bytes, UTF-8 text or rows of one fixed layout.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, field
from typing import Any

PROTOCOL_VERSION = 3

#: Bounds both sides rely on. Name -> (value, meaning).
LIMITS: dict[str, tuple[int, str]] = {
    "MAX_PAYLOAD": (4096, "bytes of payload in one frame"),
    "MAX_BODY": (4096 + 7, "type, sequence number, payload and CRC"),
    "MAX_ENCODED": (4096 + 7 + 17, "a body after COBS, without the zero bytes around it"),
    "MAX_CANDIDATES": (1024, "largest top_k"),
    "MAX_DETECTIONS": (250, "largest limit, so that the boxes of a picture fit one message"),
    "DEFAULT_LIMIT": (100, "boxes sent for a picture unless CONFIG says otherwise"),
    "MAX_FRAME_BYTES": (1 << 24, "bytes of one injected picture"),
    "TYPE_FIRST": (0x80, "smallest message type"),
    "TYPE_LAST": (0xBF, "largest message type"),
    "SHUTDOWN_MAGIC": (0x444E4548, "the value that SHUTDOWN must carry"),
    "FIRST_FAULT": (32, "error codes from here on are faults of the device: bit n of faults is code 32 + n"),
    "CAMERA_FRAMES": (1 << 31, "frame_id from here on are pictures of the device's own camera, counted from 1"),
    "TIMED_PICTURES": (32, "pictures that the times in STATS are of, at most"),
    "HOST_PAUSE_MS": (5000, "so long after the last FRAME the device's own camera goes on"),
}

#: Enumerations. Name -> ((member, value, meaning), ...).
ENUMS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "FrameFormat": (
        ("NETWORK_U8", 0, "network input before quantization: uint8 [height, width, channels], value / 255"),
        ("CAMERA_YUYV", 1, "camera picture, bytes Y0 U Y1 V; even width, any stride of at least 2 * width"),
        ("TENSOR", 2, "quantized network input as the model takes it: int8 or int16, NHWC"),
    ),
    "ConfigFlags": (
        ("SEND_OUTPUTS", 1, "send the integer output tensors of every frame as OUTPUT"),
        ("SEND_TIMING", 2, "send TIMING before every DETECTIONS"),
        ("STREAM", 4, "send the results of the device's own camera as they come"),
    ),
    "DetectionFlags": (
        ("CAMERA", 1, "a picture of the device's own camera; otherwise one that the host sent"),
        ("CLASSES", 2, "the classes of the boxes follow their rows; otherwise all are of class 0"),
    ),
    "CameraFormat": (
        ("NONE", 0, "no camera"),
        ("YUYV", 1, "bytes Y0 U Y1 V"),
        ("RGB565LE", 2, "low byte first"),
        ("RGB565BE", 3, "high byte first"),
    ),
    "ResetReason": (
        ("UNKNOWN", 0, "the chip does not say"),
        ("POWER_ON", 1, "power was switched on, or the reset button pressed"),
        ("SOFTWARE", 2, "the firmware asked for it, for example after flashing"),
        ("PANIC", 3, "a crash"),
        ("WATCHDOG", 4, "something did not return"),
        ("BROWN_OUT", 5, "the supply voltage fell too low"),
    ),
    "Health": (
        ("OK", 0, "ready"),
        ("MODEL_HASH", 1, "the embedded .espdl does not have the SHA-256 it was generated from: no inference"),
        ("MEMORY", 2, "the memory given to the device is too small for this model: no inference"),
        ("MODEL", 3, "the model description is not one that this firmware can run: no inference"),
        ("BACKEND", 4, "the inference backend refuses the model, or there is none to load: no inference"),
        ("RESTARTS", 5, "restarted too often in a row, so camera and model stay off until the power is cut"),
    ),
    "ErrorCode": (
        ("VERSION", 1, "HELLO asked for another protocol version"),
        ("NO_SESSION", 2, "a request came before HELLO, for example because the device restarted"),
        ("BAD_MESSAGE", 3, "a known message of the wrong size"),
        ("BAD_CONFIG", 4, "CONFIG holds a value out of range; nothing was changed"),
        ("BAD_FRAME", 5, "FRAME describes a picture that does not fit its size or the model"),
        ("NOT_READY", 6, "health is not OK: inference is refused"),
        ("MODEL_FAILED", 7, "the model returned an error"),
        ("UNSUPPORTED", 8, "this device cannot do that"),
        ("CAMERA_MISSING", 32, "the camera does not start; pictures from the host work"),
        ("CAMERA_STOPPED", 33, "the camera delivers no pictures any more and is being set up again"),
        ("CAMERA_FORMAT", 34, "the camera's pictures do not fit the model's input"),
        ("PSRAM_MISSING", 35, "no PSRAM answers; what fits internal memory works"),
        ("NO_MEMORY", 36, "too little memory for the activations: no inference"),
        ("MODEL_REFUSED", 37, "no model that this firmware can run: no inference"),
        ("BROWN_OUT", 38, "the last restart was a brown-out: the supply is too weak"),
        ("RESTARTS", 39, "restarted too often in a row: camera and model stay off until the power is cut"),
        ("DISPLAY_MISSING", 40, "the display does not start; everything else works"),
        ("LINK_STALLED", 41, "the host did not read, so bytes for it were dropped"),
    ),
}

#: Enumeration members, ``CODES["ErrorCode"]["VERSION"] == 1``.
CODES: dict[str, dict[str, int]] = {name: {m: v for m, v, _ in rows} for name, rows in ENUMS.items()}
#: ``temperature_x10`` in STATS of a device without a sensor.
NO_TEMPERATURE = -32768

_KINDS = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "u64": "Q"}


@dataclass(frozen=True)
class Field:
    """One member of a fixed layout. ``kind`` is an integer kind, or ``char[N]``/``u8[N]`` (N bytes)."""

    kind: str
    name: str
    meaning: str

    @property
    def count(self) -> int:
        """Number of bytes of an array kind, 0 for an integer."""
        return int(self.kind[self.kind.index("[") + 1 : -1]) if "[" in self.kind else 0

    @property
    def code(self) -> str:
        """The ``struct`` code."""
        return f"{self.count}s" if self.count else _KINDS[self.kind]

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return struct.calcsize("<" + self.code)


@dataclass(frozen=True)
class Layout:
    """Fields in wire order."""

    name: str
    fields: tuple[Field, ...]
    meaning: str

    @property
    def codec(self) -> struct.Struct:
        """The packed little-endian layout."""
        return struct.Struct("<" + "".join(f.code for f in self.fields))

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return self.codec.size


@dataclass(frozen=True)
class Spec(Layout):
    """A message: type byte, direction (``to device`` or ``to host``), fixed part, and what may follow it.

    ``tail`` is ``bytes``, ``text`` or a row layout; where the fixed part has a field ``count``, so many rows. With
    ``column`` (name, bit of ``flags``) one byte a row follows all rows if the bit is set; otherwise it counts as 0.
    """

    type: int = 0
    direction: str = ""
    tail: str = ""
    column: tuple[str, int] | None = None


def _fields(text: str) -> tuple[Field, ...]:
    rows = (line.split(maxsplit=2) for line in text.strip().splitlines())
    return tuple(Field(kind, name, meaning) for kind, name, meaning in rows)


_COUNTERS = """
u32 frames_received good frames since boot
u32 crc_errors frames whose CRC did not match
u32 malformed bytes between zeros that are no frame: bad COBS, too short, text
u32 overlong frames longer than the receive buffer
u32 unknown frames of a type this side does not know
u32 inferences pictures that went through the model
"""

#: Of an even number of pictures the median is the lower of the two in the middle.
_TIMES = "".join(
    f"u32 {stage}_{name}_us {name} of the last pictures' {meaning}\n"
    for stage, meaning in (
        ("preprocess", "preprocess_us as in TIMING"),
        ("inference", "inference_us"),
        ("decode", "decode_us"),
        ("total", "sum of the three"),
    )
    for name in ("min", "median", "max")
)

#: Row layouts that a tail repeats.
ROWS: dict[str, Layout] = {
    "TensorRow": Layout(
        "TensorRow",
        _fields("""
char[120] name tensor name, cut to 120 bytes, zero padded
u16 height rows
u16 width columns
u16 channels channels
u8 bytes 1: int8, 2: int16
i8 exponent real = integer * 2**exponent
"""),
        "A tensor at the model's border, NHWC, batch 1.",
    ),
    "Box": Layout(
        "Box",
        _fields("""
u16 cx centre x in 1/65535 of the picture's width
u16 cy centre y in 1/65535 of the picture's height
u16 width in 1/16384 of the picture's width; may exceed the picture, up to 65535 / 16384 of it
u16 height in 1/16384 of the picture's height; the same
u16 score in 1/65535
"""),
        "A detection. Not clipped: corners may lie outside the picture.",
    ),
}

MESSAGES: dict[str, Spec] = {
    m.name: m
    for m in (
        Spec("HELLO", _fields("""
u16 protocol_version what the host speaks
u16 reserved 0
"""), "Start a session: default configuration, no picture in flight. Answer: INFO, or ERROR VERSION.",
             0x81, "to device"),
        Spec("CONFIG", _fields("""
u16 score_threshold keep score >= this / 65535; 0 keeps every score above 0
u16 nms_iou drop a box whose IoU with a better one of its class is >= this / 65535
u16 top_k best candidates that enter suppression, 1 to MAX_CANDIDATES
u16 limit best boxes that leave it, 1 to MAX_DETECTIONS
u16 flags ConfigFlags
u16 thumbnail_every n: the network input of every n-th picture goes with its results; 0: none
u16 results_every n: with STREAM, the results of every n-th picture of the camera, at least 1
"""), "Replace the configuration. Answer: ACK, or ERROR BAD_CONFIG.", 0x82, "to device"),
        Spec("FRAME", _fields("""
u32 frame_id names the picture, below CAMERA_FRAMES; every picture of a session has its own
u8 format FrameFormat
u8 reserved 0
u16 width in pixels
u16 height in pixels
u32 stride bytes from one camera row to the next; 0 for the other formats
u32 total bytes of the whole picture
u32 offset of this piece's first byte
"""), "A piece of a picture. offset == total and no data asks for the state, or the results, again. Answer: ACK.",
             0x83, "to device", "bytes"),
        Spec("STATS_REQUEST", (), "Ask for STATS.", 0x84, "to device"),
        Spec("SHUTDOWN", _fields("u32 magic SHUTDOWN_MAGIC"),
             "Ask an emulator to exit with status 0. Answer: none, or ERROR UNSUPPORTED.", 0x85, "to device"),
        Spec("INFO", _fields(f"""
u16 protocol_version what the device speaks
u8 health Health
u8 reserved 0
u16 class_count classes the model tells apart
u16 score_threshold the model's own, as in CONFIG
u16 nms_iou the model's own, as in CONFIG
u16 top_k the model's own, as in CONFIG
u32 arena_size bytes of activations
u32 espdl_size bytes of the embedded .espdl
u32 max_frame_bytes largest total accepted in FRAME
u32 credit bytes of picture that may be under way before the first ACK
u8[32] model_hash SHA-256 of the .espdl
char[32] name model name, cut, zero padded
char[16] variant variant letter or name
char[16] target what the model was quantized for
char[16] backend what runs it
u32 faults faults that stand: bit n is error code FIRST_FAULT + n
u8 reset_reason ResetReason of the last start
u8 camera_format CameraFormat
u16 camera_width of the device's own camera, in pixels
u16 camera_height of the device's own camera, in pixels
u16 reserved2 0
{_COUNTERS.strip()}
"""), "Who the device is. Rows: the input tensor, then the outputs.", 0xA1, "to host", "TensorRow"),
        Spec("ACK", _fields("""
u16 reply_to sequence number of the frame that is answered
u8 reply_type type of the frame that is answered
u8 reserved 0
u32 frame_id the picture in flight
u32 next_offset bytes of it received in order; the next piece starts here
u32 credit bytes that may be sent beyond next_offset
"""), "A request was taken. For FRAME: how far the picture has come; the host goes back to next_offset.",
             0xA2, "to host"),
        Spec("DETECTIONS", _fields("""
u32 frame_id the picture
u16 candidates cells above the score threshold; 65535 stands for more
u8 count rows in the tail, best score first
u8 flags DetectionFlags
"""), "The boxes of a picture, the last message of its results.", 0xA3, "to host", "Box",
             ("cls", CODES["DetectionFlags"]["CLASSES"])),
        Spec("OUTPUT", _fields("""
u32 frame_id the picture
u8 index which output, as listed in INFO
u8 reserved 0
u16 reserved2 0
u32 total bytes of the tensor
u32 offset of this piece's first byte
"""), "A piece of an output tensor: int8 or int16, NHWC.", 0xA4, "to host", "bytes"),
        Spec("THUMBNAIL", _fields("""
u32 frame_id the picture
u16 width of the network input
u16 height of the network input
u8 channels of the network input
u8 reserved 0
u16 reserved2 0
u32 total bytes of the network input
u32 offset of this piece's first byte
"""), "A piece of the network input before quantization: uint8 [height, width, channels].", 0xA5, "to host",
             "bytes"),
        Spec("STATS", _fields(f"""
u64 uptime_us device clock
u32 memory_used bytes taken of the memory given at start
u32 memory_size bytes given at start
u32 heap_free bytes free now; 0 where nothing is allocated at run time
u32 heap_low_water least of that since boot
u32 faults faults that stand, as in INFO
u32 dropped_bytes bytes for the host that found no room
u32 camera_captured pictures that the camera delivered
u32 camera_dropped of those, replaced by a newer one before anyone took them
u32 camera_restarts times it was set up again because it had stopped
u32 camera_inferences of those that went through the model
u32 camera_fps_x10 pictures through the model in the last second or more, times 10
i16 temperature_x10 of the chip, in tenths of a degree Celsius; -32768: no sensor
u16 timed_pictures pictures that the times below are of: the last ones, at most TIMED_PICTURES
{_TIMES.strip()}
{_COUNTERS.strip()}
"""), "Counters since boot, and the times of the last pictures.", 0xA6, "to host"),
        Spec("TIMING", _fields("""
u32 frame_id the picture
u64 timestamp_us device clock when the picture was complete; CAMERA: when it was captured
u32 receive_us first piece to last piece; CAMERA: how long the picture waited
u32 preprocess_us turning the picture into network input (of receive_us where it came in pieces)
u32 inference_us the model
u32 decode_us decode and suppression
u64 inference_ticks the model in CPU cycles; instructions where the emulator counts them
"""), "Where the time of a picture went, with SEND_TIMING. Sent just before DETECTIONS.", 0xA8, "to host"),
        Spec("ERROR", _fields("""
u16 protocol_version what the device speaks
u16 code ErrorCode
u16 reply_to sequence number of the frame that is answered
u8 reply_type type of the frame that is answered; 0 for none
u8 reserved 0
u32 frame_id the picture concerned, or 0
"""), "A request was refused, or (code FIRST_FAULT and up, reply_type 0) something failed; the text says what.",
             0xA7, "to host", "text"),
    )
}  # fmt: skip

BY_TYPE: dict[int, Spec] = {m.type: m for m in MESSAGES.values()}
MAX_PAYLOAD = LIMITS["MAX_PAYLOAD"][0]
MAX_ENCODED = LIMITS["MAX_ENCODED"][0]
MAX_CANDIDATES = LIMITS["MAX_CANDIDATES"][0]
MAX_DETECTIONS = LIMITS["MAX_DETECTIONS"][0]
DEFAULT_LIMIT = LIMITS["DEFAULT_LIMIT"][0]


@dataclass(frozen=True)
class Message:
    """A decoded payload: ``fields`` by name; ``tail`` is bytes, or a list of dicts for rows, or text."""

    name: str
    fields: dict[str, Any]
    tail: Any = field(default=b"")

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


def _pack(layout: Layout, values: dict[str, Any]) -> bytes:
    unknown = values.keys() - {f.name for f in layout.fields}
    if unknown:
        raise ValueError(f"{layout.name} has no field {sorted(unknown)[0]}")
    return layout.codec.pack(*(values.get(f.name, b"" if f.count else 0) for f in layout.fields))


def _unpack(layout: Layout, data: bytes) -> dict[str, Any]:
    values = dict(zip((f.name for f in layout.fields), layout.codec.unpack(data), strict=True))
    for f in layout.fields:
        if f.kind.startswith("char"):
            values[f.name] = values[f.name].split(b"\0", 1)[0].decode("utf-8", "replace")
    return values


def _pack_rows(spec: Spec, rows: list[dict[str, Any]], values: dict[str, Any]) -> bytes:
    if any(f.name == "count" for f in spec.fields) and values.get("count", 0) != len(rows):
        raise ValueError(f"{spec.name}: count is {values.get('count', 0)}, with {len(rows)} rows")
    column = b""
    if spec.column:
        name, bit = spec.column
        taken = bytes(row.get(name, 0) for row in rows)
        rows = [{key: value for key, value in row.items() if key != name} for row in rows]
        if values.get("flags", 0) & bit:
            column = taken
        elif any(taken):
            raise ValueError(f"{spec.name}: {name} is given, but flags do not say so")
    return b"".join(_pack(ROWS[spec.tail], row) for row in rows) + column


def pack(name: str, /, tail: Any = b"", **values: Any) -> bytes:
    """Payload of a message. Fields not given are 0; ``tail`` is bytes, str, or a list of dicts for rows.

    Raises ``ValueError`` for an unknown field, a value out of range or a payload above ``MAX_PAYLOAD``.
    """
    spec = MESSAGES[name]
    if tail and not spec.tail:
        raise ValueError(f"{name} has no tail")
    try:
        if isinstance(tail, str):
            tail = tail.encode()
        elif spec.tail in ROWS:
            tail = _pack_rows(spec, list(tail), values)
        payload = _pack(spec, values) + bytes(tail)
    except struct.error as error:
        raise ValueError(f"{name}: {error}") from None
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"{name}: payload of {len(payload)} bytes exceeds {MAX_PAYLOAD}")
    return payload


def unpack(type_: int, payload: bytes) -> Message:
    """Decode a payload. Raises ``ValueError`` for an unknown type or a size that the type cannot have."""
    spec = BY_TYPE.get(type_)
    if spec is None:
        raise ValueError(f"unknown message type 0x{type_:02x}")
    rest = len(payload) - spec.size
    row = ROWS.get(spec.tail)
    wrong = ValueError(f"{spec.name}: {len(payload)} bytes is no size of this message")
    if rest < 0 or (rest and not spec.tail):
        raise wrong
    fields = _unpack(spec, payload[: spec.size])
    tail: Any = payload[spec.size :]
    if row:
        column = bool(spec.column and fields["flags"] & spec.column[1])
        count = fields.get("count", rest // row.size)
        if rest != count * (row.size + column):
            raise wrong
        tail = _unpack_rows(row, tail, count)
        if spec.column:
            classes = payload[len(payload) - count :] if column else bytes(count)
            for entry, value in zip(tail, classes, strict=True):
                entry[spec.column[0]] = value
    elif spec.tail == "text":
        tail = tail.decode("utf-8", "replace")
    return Message(spec.name, fields, tail)


def _unpack_rows(row: Layout, data: bytes, count: int) -> list[dict[str, Any]]:
    return [_unpack(row, data[i : i + row.size]) for i in range(0, count * row.size, row.size)]


if __name__ == "__main__":
    from uhd.device import message_text

    sys.exit(message_text.main(sys.argv[1:]))
