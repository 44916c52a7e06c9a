"""One line of text for each message of the link, for people who watch it."""

from __future__ import annotations

from uhd.device.link import Frame
from uhd.device.messages import BY_TYPE, CODES, Message, unpack

#: Longest line of boxes; the rest is a number.
_BOXES = 4


def message_line(frame: Frame) -> str:
    """What a frame says, on one line: its name, then the fields that matter."""
    spec = BY_TYPE.get(frame.type)
    if spec is None:
        return f"message of unknown type 0x{frame.type:02x}, {len(frame.payload)} bytes"
    try:
        message = unpack(frame.type, frame.payload)
    except ValueError as error:
        return f"{spec.name} that this version cannot read ({error}), {len(frame.payload)} bytes"
    text = {"INFO": _info, "DETECTIONS": _detections, "TIMING": _timing, "ERROR": _error}.get(spec.name, _fields)(
        message
    )
    return " ".join(f"{spec.name} {text}".split())


def _name(enumeration: str, value: int) -> str:
    return next((n for n, v in CODES[enumeration].items() if v == value), str(value))


def _info(message: Message) -> str:
    rows = message.tail
    shape = "x".join(str(rows[0][key]) for key in ("height", "width", "channels")) if rows else "?"
    who = f"{message['name']}, variant {message['variant']}, for {message['target']}"
    state = f"{message['backend']} backend, health {_name('Health', message['health'])}"
    version = f"protocol {message['protocol_version']}"
    return f"{who}: input {shape}, {state}, {version}, .espdl {message['model_hash'].hex()[:12]}"


def _detections(message: Message) -> str:
    boxes = message.tail
    shown = [
        f"{b['score'] / 65535:.2f} at {b['cx'] / 65535:.2f},{b['cy'] / 65535:.2f} "
        f"size {b['width'] / 16384:.2f}x{b['height'] / 16384:.2f}"
        for b in boxes[:_BOXES]
    ]
    more = [f"and {len(boxes) - _BOXES} more"] if len(boxes) > _BOXES else []
    count = "no box" if not boxes else f"{len(boxes)} box" + ("es" if len(boxes) > 1 else "")
    return f"picture {message['frame_id']}: {count}" + "".join(f"; {part}" for part in [*shown, *more])


def _timing(message: Message) -> str:
    stages = ("receive", "preprocess", "inference", "decode")
    times = ", ".join(f"{stage} {message[f'{stage}_us'] / 1000:.1f} ms" for stage in stages)
    return f"picture {message['frame_id']}: {times}, {message['inference_ticks']} ticks"


def _error(message: Message) -> str:
    return f"{_name('ErrorCode', message['code'])}: {message.tail}"


def _fields(message: Message) -> str:
    values = []
    for name, value in message.fields.items():
        if not name.startswith("reserved"):
            values.append(f"{name}={value.hex() if isinstance(value, bytes) else value}")
    if message.tail:
        values.append(message.tail if isinstance(message.tail, str) else f"+ {len(message.tail)} bytes")
    return " ".join(values)
