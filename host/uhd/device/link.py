"""Frames over a byte stream: COBS, CRC-32 and console text in between. The format is ``docs/protocol.md``."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from uhd.device.messages import LIMITS, MAX_ENCODED, MAX_PAYLOAD

_HEAD = struct.Struct("<BH")
_CRC = struct.Struct("<I")
_FIRST, _LAST = LIMITS["TYPE_FIRST"][0], LIMITS["TYPE_LAST"][0]
_MAX_BODY = LIMITS["MAX_BODY"][0]
#: What console text may not contain: control characters other than bell, backspace, tab, LF, FF, CR and escape.
_NOT_TEXT = re.compile("[\x00-\x06\x0b\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
_BREAK = re.compile(rb"[\0\n]")
_ONES = re.compile(rb"\x01+")
#: So many blocks take as long one by one as by ``cobs_array``, and so many are looked at before the rest is guessed.
_MANY, _LOOK = 300, 32


def cobs_encode(data: bytes) -> bytes:
    """``data`` without zero bytes: each run between zeros is preceded by its length + 1, at most 254 a block."""
    if data.count(0) > _MANY:
        from uhd.device import cobs_array

        return cobs_array.encode(data)
    out = bytearray()
    runs = data.split(b"\0")
    last = len(runs) - 1
    for index, run in enumerate(runs):
        while len(run) >= 254:
            out += b"\xff" + run[:254]
            run = run[254:]
            if not run and index == last:
                return bytes(out)  # a full block stands for no zero, so the end needs no further block
        out.append(len(run) + 1)
        out += run
    return bytes(out)


def cobs_decode(data: bytes) -> bytes | None:
    """The inverse, for ``data`` without zeros; None if a block is longer than what is left."""
    out = bytearray()
    position, size, blocks = 0, len(data), 0
    while position < size:
        code = data[position]
        if code == 1:  # zeros come in runs
            end = _ONES.match(data, position).end()  # type: ignore[union-attr]
            out += bytes(end - position - (end == size))
        else:
            end = position + code
            if end > size:
                return None
            out += data[position + 1 : end]
            if code != 0xFF and end < size:
                out.append(0)
        position = end
        blocks += 1
        # A short look tells how long the blocks are, hence how many there will be.
        if blocks == _LOOK and (size - position) * _LOOK > _MANY * position:
            from uhd.device import cobs_array

            rest = cobs_array.decode(data[position:])
            return None if rest is None else bytes(out) + rest
    return bytes(out)


def encode_frame(type_: int, seq: int, payload: bytes = b"") -> bytes:
    """A frame with the zero bytes around it. Raises ``ValueError`` above ``MAX_PAYLOAD`` bytes or for no such type."""
    if not _FIRST <= type_ <= _LAST:
        raise ValueError(f"type 0x{type_:02x} is not in 0x{_FIRST:02x}..0x{_LAST:02x}")
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"payload of {len(payload)} bytes exceeds {MAX_PAYLOAD}")
    body = _HEAD.pack(type_, seq & 0xFFFF) + payload
    return b"\0" + cobs_encode(body + _CRC.pack(zlib.crc32(body))) + b"\0"


@dataclass(frozen=True)
class Frame:
    """A frame that passed its CRC."""

    type: int
    seq: int
    payload: bytes


@dataclass
class Counters:
    """What a decoder has seen. ``lost`` counts gaps in the sequence numbers, ``console_lines`` lines of text."""

    frames: int = 0
    crc_errors: int = 0
    malformed: int = 0
    overlong: int = 0
    lost: int = 0
    console_lines: int = 0
    unknown: int = 0


@dataclass
class Decoder:
    """Takes a stream in pieces of any size and gives frames (``Frame``) and console lines (``str``) in order.

    The result does not depend on how the stream is cut; a line of text is held back until its line break or a zero.
    Memory is bounded: a segment that cannot be a frame any more is not stored.
    """

    counters: Counters = field(default_factory=Counters)
    _pending: bytearray = field(default_factory=bytearray)
    _state: str = "start"  # of the segment: start, text (some lines were handed out) or skip (not worth storing)
    _expected: int | None = None

    def feed(self, data: bytes) -> list[Frame | str]:
        """Frames and lines that ``data`` completes."""
        if 0 not in data and not self._may_have_lines(data, 0):
            self._take(data)  # what a slow line brings is mostly some bytes from the middle of a frame
            return []
        return list(self._events(data))

    def _events(self, data: bytes) -> Iterator[Frame | str]:
        position = 0
        while position < len(data):
            end = self._next_break(data, position)
            self._take(data[position:end])
            if end < len(data):
                if data[end] == 0:
                    yield from self._finish()
                else:
                    self._take(b"\n")
                    yield from self._line()
            position = end + 1

    def _next_break(self, data: bytes, position: int) -> int:
        """Where the segment ends, or a line of it; ``len(data)`` if in neither."""
        if self._may_have_lines(data, position):
            match = _BREAK.search(data, position)
            return match.start() if match else len(data)
        end = data.find(0, position)
        return end if end >= 0 else len(data)

    def _may_have_lines(self, data: bytes, position: int) -> bool:
        """False once the segment cannot be text: then a line break is a byte like any other."""
        if self._state != "start":
            return self._state == "text"
        head = bytes(self._pending[:2]) + data[position : position + 2]
        return len(head) < 2 or head[0] == 0 or not _FIRST <= head[1] <= _LAST

    def restart(self) -> None:
        """The other side begins anew: its next sequence number is not a gap."""
        self._expected = None

    def _take(self, piece: bytes) -> None:
        if self._state == "skip":
            return
        self._pending += piece
        if len(self._pending) > MAX_ENCODED:
            # Too long for a frame. Text without a line break in 4 KB is not worth keeping either.
            self.counters.overlong += 1
            self._pending.clear()
            self._state = "skip"

    def _is_text_start(self) -> bool:
        # The first byte alone tells nothing: a line break there may be a COBS code.
        return len(self._pending) >= 2 and not _FIRST <= self._pending[1] <= _LAST

    def _line(self) -> Iterator[str]:
        """A line break inside a segment: hand out a line at once if the segment is text so far."""
        if self._state == "text" or (self._state == "start" and self._is_text_start()):
            text = _text(bytes(self._pending))
            if text is None:
                return  # binary: wait for the zero
            self._pending.clear()
            self._state = "text"
            yield from self._lines(text)

    def _lines(self, text: str) -> Iterator[str]:
        for line in text.replace("\r\n", "\n").removesuffix("\n").split("\n"):
            self.counters.console_lines += 1
            yield line.rstrip("\r")

    def _finish(self) -> Iterator[Frame | str]:
        segment, state = bytes(self._pending), self._state
        self._pending.clear()
        self._state = "start"
        if state == "skip" or not segment:
            return
        error = ""
        if state == "start":
            frame, error = self._frame(segment)
            if frame:
                yield frame
                return
        text = _text(segment) if state == "text" or len(segment) < 2 or not _FIRST <= segment[1] <= _LAST else None
        if text is not None:
            yield from self._lines(text)
        elif error == "crc":
            self.counters.crc_errors += 1
        else:
            self.counters.malformed += 1

    def _frame(self, segment: bytes) -> tuple[Frame | None, str]:
        body = cobs_decode(segment)
        if body is None or not _HEAD.size + _CRC.size <= len(body) <= _MAX_BODY:
            return None, "malformed"
        if zlib.crc32(body[: -_CRC.size]) != _CRC.unpack(body[-_CRC.size :])[0]:
            return None, "crc"
        type_, seq = _HEAD.unpack(body[: _HEAD.size])
        if not _FIRST <= type_ <= _LAST:
            return None, "malformed"
        self.counters.frames += 1
        if self._expected is not None:
            gap = (seq - self._expected) & 0xFFFF
            self.counters.lost += gap if gap < 0x8000 else 0  # a step back is a restart or a repetition
        self._expected = (seq + 1) & 0xFFFF
        return Frame(type_, seq, body[_HEAD.size : -_CRC.size]), ""


def _text(data: bytes) -> str | None:
    """``data`` as console text, or None if it is not."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if _NOT_TEXT.search(text) else text
