"""Reading recordings in constant memory: record by record, up to the last whole one, and from any time on."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from uhd.bridge.recording import (
    CRC,
    DIGEST,
    KINDS,
    MAGIC,
    MAX_HEADER,
    MAX_RECORD,
    NOTE,
    NOTES,
    PHOTO,
    PREAMBLE,
    RECORD,
    TO_DEVICE,
    TO_HOST,
    VERSION,
    Record,
    json_object,
)
from uhd.device.messages import MESSAGES, unpack
from uhd.errors import DataError

#: Checkpoints of an index; when there are more, every other one goes.
_MOST_POINTS = 1024
_CONFIG = MESSAGES["CONFIG"].type
_ACK = MESSAGES["ACK"].type
#: Messages whose newest one tells how things stand.
_CONTEXT_TYPES = {MESSAGES["INFO"].type, _CONFIG, MESSAGES["STATS"].type}


@dataclass(frozen=True)
class Point:
    """A place to start from: the offset of the first record not before ``time_us``, and of the earlier records that
    say how things stood there.
    """

    time_us: int
    offset: int
    context: tuple[int, ...]


@dataclass
class Index:
    """Places to start from, in order; ``last_us``: time of the last record; ``photos``: where each photo lies."""

    points: list[Point] = field(default_factory=list)
    last_us: int = 0
    records: int = 0
    photos: dict[bytes, int] = field(default_factory=dict)

    def before(self, time_us: int) -> Point:
        """The last place not after ``time_us``."""
        place = bisect_right(self.points, time_us, key=lambda point: point.time_us)
        return self.points[max(0, place - 1)]


class RecordingReader:
    """An open recording. ``problems`` says, one line each, what could not be read and where; ``cut``: its end is
    missing, as after a crash of whoever wrote it.
    """

    def __init__(self, path: Path) -> None:
        """Raises ``DataError`` for a file that is no recording, or one of another version."""
        self.path = path
        self.problems: list[str] = []
        self.cut = False
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise DataError(f"{path}: cannot read the recording ({error.strerror})") from None
        try:
            self.header = self._header()
        except BaseException:
            self._file.close()
            raise
        self.start = self._file.tell()
        self._index: Index | None = None

    def _header(self) -> dict[str, Any]:
        head = self._read(PREAMBLE.size)
        if head[: len(MAGIC)] != MAGIC:
            raise DataError(f"{self.path}: no recording of a link", hint="`bridge --record FILE` makes one")
        if len(head) < PREAMBLE.size:
            raise DataError(f"{self.path}: the recording ends inside its header")
        _, version, _, size = PREAMBLE.unpack(head)
        if version != VERSION:
            raise DataError(
                f"{self.path}: a recording of format version {version}, this tool reads version {VERSION}",
                hint="use the release that made it",
            )
        if size > MAX_HEADER:
            raise DataError(f"{self.path}: a header of {size} bytes, at most {MAX_HEADER} are possible")
        text = self._read(size + CRC.size)
        if len(text) < size + CRC.size:
            raise DataError(f"{self.path}: the recording ends inside its header")
        if zlib.crc32(text[:size], zlib.crc32(head)) != CRC.unpack(text[size:])[0]:
            raise DataError(f"{self.path}: the header is damaged (CRC)")
        return json_object(text[:size], f"{self.path}: the header")

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise DataError(f"{self.path}: cannot read the recording ({error.strerror})") from None

    def records(self, offset: int = 0) -> Iterator[tuple[int, Record]]:
        """Offset and record, from ``offset`` (0: the first) to the last whole one.

        A record that is damaged is left out if the next one follows where it should, else reading ends there; either
        is told in ``problems``.
        """
        place = offset or self.start
        while True:
            self._file.seek(place)
            record, size, problem = self._next(place)
            if record is not None:
                yield place, record
            elif problem:
                self._tell(problem)
                if not size:
                    return
            else:
                return
            place += size

    def _tell(self, problem: str) -> None:
        if problem not in self.problems and len(self.problems) < 100:
            self.problems.append(problem)

    def _next(self, place: int) -> tuple[Record | None, int, str]:
        """(record, bytes to go on, problem) at the file's position; nothing of it at the end of the file."""
        head = self._read(RECORD.size)
        if not head:
            return None, 0, ""
        cut = f"the recording is cut off at byte {place}, inside a record; all before it is whole"
        if len(head) < RECORD.size:
            self.cut = True
            return None, 0, cut
        length, kind, type_, seq, time_us = RECORD.unpack(head)
        if length > MAX_RECORD or kind not in KINDS:
            return None, 0, f"what lies at byte {place} is no record; the rest cannot be read"
        rest = self._read(length + CRC.size)
        if len(rest) < length + CRC.size:
            self.cut = True
            return None, 0, cut
        payload = rest[:length]
        if zlib.crc32(payload, zlib.crc32(head)) == CRC.unpack(rest[length:])[0]:
            return Record(kind, time_us, payload, type_, seq), RECORD.size + length + CRC.size, ""
        size = RECORD.size + length + CRC.size
        if self._plausible(place + size):
            return None, size, f"the record at byte {place} is damaged (CRC) and left out"
        return None, 0, f"the record at byte {place} is damaged (CRC); the rest cannot be read"

    def _plausible(self, place: int) -> bool:
        """Whether a whole record, or the end of the file, is at ``place``."""
        self._file.seek(place)
        head = self._read(RECORD.size)
        if len(head) < RECORD.size:
            return not head
        length, kind, *_ = RECORD.unpack(head)
        if length > MAX_RECORD or kind not in KINDS:
            return False
        rest = self._read(length + CRC.size)
        return (
            len(rest) == length + CRC.size
            and zlib.crc32(rest[:length], zlib.crc32(head)) == CRC.unpack(rest[length:])[0]
        )

    def record_at(self, offset: int) -> Record | None:
        """The record that begins at ``offset``, None if there is no whole one."""
        self._file.seek(offset)
        return self._next(offset)[0]

    def index(self) -> Index:
        """Places to start from, about a second apart at first; read once, from the whole file."""
        if self._index is None:
            self._index = self._scan()
        return self._index

    def _scan(self) -> Index:
        found = Index()
        context: dict[str, int] = {}
        spacing = 1_000_000
        for offset, record in self.records():
            if not found.points or record.time_us >= found.points[-1].time_us + spacing:
                found.points.append(Point(record.time_us, offset, tuple(sorted(context.values()))))
                if len(found.points) > _MOST_POINTS:
                    del found.points[1::2]
                    spacing *= 2
            if record.kind == PHOTO:
                found.photos[record.payload[:DIGEST]] = offset
            elif key := context_key(record):
                context[key] = offset
            found.last_us = max(found.last_us, record.time_us)
            found.records += 1
        if not found.points:
            found.points.append(Point(0, self.start, ()))
        return found

    def photo(self, digest: bytes) -> bytes | None:
        """The JPEG of a photo that was noted, None if the recording has none."""
        place = self.index().photos.get(digest)
        record = self.record_at(place) if place is not None else None
        return record.payload[DIGEST:] if record is not None and record.kind == PHOTO else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> RecordingReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def context_key(record: Record) -> str:
    """What a record tells about how things stand; "" for nothing. The newest of each key is enough."""
    if record.kind == NOTE:
        try:
            name = record.note().get("note")
        except DataError:
            return ""
        return f"note {name}" if name in NOTES else ""
    if record.kind == TO_HOST and record.type == _ACK:
        try:  # the answer that makes a CONFIG effective
            return "config ack" if unpack(_ACK, record.payload)["reply_type"] == _CONFIG else ""
        except ValueError:
            return ""
    if record.kind in (TO_DEVICE, TO_HOST) and record.type in _CONTEXT_TYPES:
        return f"type {record.type}"
    return ""
