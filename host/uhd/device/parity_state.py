"""The state of a parity run on disk: one line a photo, so that a run can go on after whatever has ended it."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from uhd.device.parity_record import PhotoRecord
from uhd.errors import ConfigError, DataError

FORMAT = 1


def key_digest(key: Mapping[str, Any]) -> str:
    """Twelve characters that stand for a key."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]


class Journal:
    """The state file of one run, held open and locked: records by place of the photo, in ``records``.

    The first line is the key of the run (what its figures depend on); then each start and each photo adds a line. A
    line is written in one piece and handed to the system at once: a process that is killed loses the photo it was at.
    Damaged lines count as not written. ``runs`` counts the starts.
    """

    def __init__(self, path: Path, key: Mapping[str, Any], *, resume: bool = False) -> None:
        """Open ``path``; with ``resume`` take up what it holds, else begin anew and keep the former file as ``.old``.

        Raises ``ConfigError`` where it is another run's or in use, ``DataError`` where it is no state file.
        """
        self.path, self.key = path, dict(key)
        self.records: dict[int, PhotoRecord] = {}
        self.stats: dict[str, int] | None = None
        self.runs = self.damaged = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+")
        try:
            self._lock()
            if not resume and path.stat().st_size:
                self._set_aside()
            self._read()
        except BaseException:
            self._file.close()
            raise
        self.runs += 1
        self._append({"run": self.runs})

    def add(self, place: int, record: PhotoRecord) -> None:
        """Keep the record of the photo at ``place``, in the place of an earlier one."""
        self.records[place] = record
        self._append({"photo": place, **record.as_dict()})

    def add_stats(self, stats: Mapping[str, int]) -> None:
        """Keep the device's counters at the end of a run."""
        self.stats = dict(stats)
        self._append({"stats": self.stats})

    def close(self) -> None:
        """Release the file; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"{self.path}: another run is using this state", hint="give --state FILE") from None

    def _set_aside(self) -> None:
        self.path.replace(self.path.with_name(f"{self.path.name}.old"))
        self._file.close()
        self._file = self.path.open("ab+")
        self._lock()

    def _read(self) -> None:
        self._file.seek(0)
        data = self._file.read()
        complete = data[: data.rfind(b"\n") + 1]
        if len(complete) < len(data):
            self.damaged += 1
            self._file.truncate(len(complete))
        lines = complete.splitlines()
        if not lines:
            self._append({"parity": FORMAT, **self.key})
            return
        head = _parsed(lines[0])
        if head is None or head.pop("parity", None) != FORMAT:
            raise DataError(f"{self.path}: not the state of a parity run", hint="give another --state FILE")
        other = [name for name in sorted(self.key.keys() | head.keys()) if self.key.get(name) != head.get(name)]
        if other:
            raise ConfigError(
                f"{self.path}: the state of another run (different: {', '.join(other)})",
                hint="give the same arguments, or leave --resume out to begin anew",
            )
        for line in lines[1:]:
            self._take(_parsed(line))

    def _take(self, entry: dict[str, Any] | None) -> None:
        try:
            if entry is None:
                raise ValueError
            if "photo" in entry:
                self.records[int(entry["photo"])] = PhotoRecord.from_dict(entry)
            elif "stats" in entry:
                self.stats = {name: int(value) for name, value in entry["stats"].items()}
            else:
                self.runs = int(entry["run"])
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            self.damaged += 1

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
        self._file.flush()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
