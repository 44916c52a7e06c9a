"""Recordings (``.uhdr``): everything that passed on a link, with times. The format is ``docs/recording.md``.

A recording is only ever appended to, one whole record a write, so one that ends anywhere is good up to its last whole
record.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uhd.errors import DataError

MAGIC = b"\x89UHDR\r\n\x1a"
VERSION = 1
SUFFIX = ".uhdr"

#: Magic, version, reserved, bytes of the JSON header; the header and its CRC-32 follow.
PREAMBLE = struct.Struct("<8sHHI")
#: Bytes of payload, kind, message type, sequence number, microseconds; payload and CRC-32 follow.
RECORD = struct.Struct("<IBBHQ")
CRC = struct.Struct("<I")
MAX_HEADER = 1 << 20
MAX_RECORD = 1 << 20

TO_DEVICE, TO_HOST, CONSOLE, NOTE, PHOTO = 1, 2, 3, 4, 5
KINDS = {TO_DEVICE: "to device", TO_HOST: "to host", CONSOLE: "console", NOTE: "note", PHOTO: "photo"}
#: What notes are about: their member "note".
NOTES = ("state", "model", "photo", "host")
#: Bytes at the start of a PHOTO record that name it; its JPEG follows.
DIGEST = 16


@dataclass(frozen=True)
class Record:
    """One thing that passed: ``kind`` as in ``KINDS``, ``time_us`` microseconds since the recording began; ``type``
    and ``seq`` of a message, else 0.
    """

    kind: int
    time_us: int
    payload: bytes
    type: int = 0
    seq: int = 0

    def encoded(self) -> bytes:
        """The bytes in the file. Raises ``ValueError`` above ``MAX_RECORD`` bytes."""
        if len(self.payload) > MAX_RECORD:
            raise ValueError(f"a record of {len(self.payload)} bytes, at most {MAX_RECORD} are possible")
        head = RECORD.pack(len(self.payload), self.kind, self.type, self.seq, self.time_us)
        return head + self.payload + CRC.pack(zlib.crc32(self.payload, zlib.crc32(head)))

    def note(self) -> dict[str, Any]:
        """The JSON object of a note. Raises ``DataError`` for anything else."""
        return json_object(self.payload, "the note")


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """``data`` as a JSON object. Raises ``DataError`` for anything else, numbers that are not finite included."""
    try:
        value = json.loads(data, parse_constant=_not_finite)
    except (ValueError, RecursionError):
        raise DataError(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise DataError(f"{what} is no JSON object")
    return value


def _not_finite(name: str) -> float:
    raise ValueError(name)


def dump_json(value: Mapping[str, Any]) -> bytes:
    """Compact JSON in UTF-8. Raises ``ValueError`` for numbers that are not finite."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


class Recorder:
    """Writes a recording; a file that is there already is left alone. Not for use by several threads at once."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        """``header``: what ``docs/recording.md`` lists. Raises ``DataError`` where the file cannot be made."""
        self.path = path
        text = dump_json(header)
        start = PREAMBLE.pack(MAGIC, VERSION, 0, len(text)) + text
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise DataError(f"{path}: there is such a file already", hint="give another name, or remove it") from None
        except OSError as error:
            raise DataError(f"{path}: cannot write the recording ({error.strerror})") from None
        self.size = 0
        self._photos: set[bytes] = set()
        self._append(start + CRC.pack(zlib.crc32(start)))

    def write(self, record: Record) -> None:
        """Append a record; a photo that is in the file already is left out. Raises ``DataError`` when the disk is full:
        then the file ends with the record before, and nothing more may be written.
        """
        if record.kind == PHOTO:
            name = record.payload[:DIGEST]
            if name in self._photos:
                return
            self._photos.add(name)
        self._append(record.encoded())

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            os.ftruncate(self._fd, self.size)
            raise DataError(f"{self.path}: the recording ends here ({error.strerror})") from None
        self.size += len(data)

    def close(self) -> None:
        """Finish; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
