"""Decoded photos on disk: decode once, then read uint8 pixels from mapped memory.

A cache folder holds ``index.json`` and one pixel file that the index names. The index is replaced last, so a crash at
any moment leaves the old pair or the new one. Each photo is known by its size, times and content hash; its pixels carry
a checksum that is verified when they are first used.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from uhd.data.problems import Problem
from uhd.errors import ConfigError, DataError
from uhd.files import atomic_path, sha256_bytes, write_text
from uhd.image.files import decode_rgb, read_file

Progress = Callable[[int, int], None]
"""Called with (photos decoded, photos to decode)."""

_FORMAT = 2
_RACY_NS = 2_000_000_000  # a file changed this shortly before it was looked at may change again with the same times
_COPY_BYTES = 1 << 24


@dataclass(frozen=True)
class Entry:
    """One decoded photo: what its file was, and where its pixels are."""

    bytes: int
    mtime_ns: int
    ctime_ns: int
    checked_ns: int
    """When the content was last known to be this (clock of this machine)."""
    sha256: str
    original_height: int
    original_width: int
    height: int
    width: int
    offset: int
    crc32: int
    reason: str = ""
    """Why it could not be decoded; then it has no pixels."""

    @property
    def length(self) -> int:
        """Bytes of pixels."""
        return self.height * self.width * 3

    def matches(self, stat: os.stat_result) -> bool:
        """True where size and times say that the file cannot have changed since it was looked at."""
        same = (self.bytes, self.mtime_ns, self.ctime_ns) == (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        return same and max(stat.st_mtime_ns, stat.st_ctime_ns) < self.checked_ns - _RACY_NS


def default_directory() -> Path:
    """``$XDG_CACHE_HOME/uhd``, or ``~/.cache/uhd``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "uhd"


def shrink(rgb: NDArray[np.uint8], max_side: int | None) -> NDArray[np.uint8]:
    """Reduce a picture to ``max_side`` pixels on its longest side (area average); never enlarges."""
    height, width = rgb.shape[:2]
    longest = max(height, width)
    if max_side is None or longest <= max_side:
        return rgb
    size = (max(1, round(width * max_side / longest)), max(1, round(height * max_side / longest)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _decode(path: Path, max_side: int | None) -> tuple[Entry, NDArray[np.uint8]]:
    """Read and decode one photo. The times are taken before the bytes, so a change in between is noticed later."""
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot read the picture ({error.strerror})") from None
    now = time.time_ns()
    data = read_file(path)
    original = decode_rgb(data, str(path))
    rgb = np.ascontiguousarray(shrink(original, max_side))
    entry = Entry(
        bytes=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        ctime_ns=stat.st_ctime_ns,
        checked_ns=now,
        sha256=sha256_bytes(data),
        original_height=original.shape[0],
        original_width=original.shape[1],
        height=rgb.shape[0],
        width=rgb.shape[1],
        offset=0,
        crc32=zlib.crc32(rgb.data),
    )
    return entry, rgb


def _decode_or_tell(path: Path, max_side: int | None) -> tuple[Entry | None, NDArray[np.uint8]]:
    """As ``_decode``; for a broken photo an entry that says why, or ``None`` where there is no file to remember."""
    nothing = np.empty((0, 0, 3), np.uint8)
    try:
        return _decode(path, max_side)
    except DataError as error:
        try:
            stat, now, data = path.stat(), time.time_ns(), path.read_bytes()
        except OSError:
            return None, nothing
        times = {"mtime_ns": stat.st_mtime_ns, "ctime_ns": stat.st_ctime_ns, "checked_ns": now}
        place = dict.fromkeys(("original_height", "original_width", "height", "width", "offset", "crc32"), 0)
        return Entry(len(data), **times, sha256=sha256_bytes(data), **place, reason=str(error)), nothing


class PhotoCache(Sequence[NDArray[np.uint8]]):
    """The decoded pictures of ``images``, in that order; ``cache[i]`` is a read-only RGB uint8 [H,W,3] view.

    ``directory``: where caches are kept (default ``default_directory()``); one subfolder for each combination of photo
    folders and ``max_side``. ``max_side`` shrinks what is stored. Opening looks at every photo: new and changed ones
    are decoded (``progress`` is told), entries of photos that are gone are dropped, a damaged cache is made anew.
    Raises ``DataError`` for a photo that cannot be read or decoded and for a cache folder that cannot be written;
    what was there before stays intact. Given a list of ``problems``, photos that cannot be read are told there and
    left out of the sequence and of ``images`` instead.
    """

    def __init__(
        self,
        images: Sequence[Path],
        *,
        directory: Path | None = None,
        max_side: int | None = None,
        progress: Progress | None = None,
        problems: list[Problem] | None = None,
    ) -> None:
        if max_side is not None and max_side < 1:
            raise ConfigError(f"max_side must be at least 1, not {max_side}")
        self._images = [Path(image).absolute() for image in images]
        self._max_side = max_side
        self._problems = problems
        parents = sorted({str(image.parent) for image in self._images})
        key = hashlib.sha256(json.dumps([_FORMAT, max_side, parents]).encode()).hexdigest()[:16]
        self.folder = (directory or default_directory()) / "photos" / key
        self._pixels: NDArray[np.uint8] | None = None
        self._verified: set[int] = set()
        self._repaired: dict[int, NDArray[np.uint8]] = {}
        try:
            with _locked(self.folder):
                known, self._pixel_file = _read_index(self.folder)
                self._refresh(known, progress)
                self._map()  # keeps this pixel file alive when another process replaces it
        except OSError as error:
            raise DataError(
                f"{self.folder}: cannot write the photo cache ({error.strerror})", hint="choose another cache folder"
            ) from None

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Any) -> Any:
        number = range(len(self))[index]
        if not isinstance(number, int):
            return [self[i] for i in number]
        if number in self._repaired:
            return self._repaired[number]
        entry = self._entries[number]
        view = self._map()[entry.offset : entry.offset + entry.length].reshape(entry.height, entry.width, 3)
        if number not in self._verified:
            if zlib.crc32(view.data) != entry.crc32:
                return self._repair(number)
            self._verified.add(number)
        return view

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: they map the file again instead of getting a copy of it."""
        return {**self.__dict__, "_pixels": None}

    @property
    def images(self) -> list[Path]:
        """The photo files, absolute, in order."""
        return list(self._images)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the original photo, before ``max_side``."""
        entry = self._entries[index]
        return entry.original_height, entry.original_width

    def _map(self) -> NDArray[np.uint8]:
        if self._pixels is None:
            path = self.folder / self._pixel_file
            empty = path.stat().st_size == 0
            self._pixels = np.empty(0, np.uint8) if empty else np.memmap(path, dtype=np.uint8, mode="r")
        return self._pixels

    def _repair(self, number: int) -> NDArray[np.uint8]:
        """Pixels on disk are damaged: decode this photo again, and have the next opening make the cache anew."""
        _, rgb = _decode(self._images[number], self._max_side)
        rgb.flags.writeable = False
        self._repaired[number] = rgb
        with contextlib.suppress(OSError):
            (self.folder / "index.json").unlink()
        return rgb

    def _refresh(self, known: dict[str, Entry], progress: Progress | None) -> None:
        current: dict[str, Entry] = {}
        stale: list[Path] = []
        touched = False
        for image in dict.fromkeys(self._images):
            entry = known.get(str(image))
            if entry is not None and (not entry.reason or self._problems is not None):
                refreshed = _recheck(image, entry)
                if refreshed is not None:
                    touched |= refreshed is not entry
                    current[str(image)] = refreshed
                    continue
            stale.append(image)
        gone = [path for path in known if path not in current and not Path(path).exists()]
        if stale or gone or not self._pixel_file:
            asked = {str(image) for image in stale}
            others = {p: e for p, e in known.items() if p not in current and p not in asked and p not in gone}
            current = self._rewrite({**others, **current}, stale, progress)
        elif touched:
            current = {**known, **current}
            _write_index(self.folder, self._pixel_file, current)
        self._leave_out_broken(current)
        self._entries = [current[str(image)] for image in self._images]

    def _leave_out_broken(self, current: dict[str, Entry]) -> None:
        for image in dict.fromkeys(self._images):
            entry = current.get(str(image))
            if self._problems is not None and (entry is None or entry.reason):
                reason = entry.reason if entry else f"{image}: cannot read the picture"
                self._problems.append(Problem(image, reason))
        self._images = [image for image in self._images if str(image) in current and not current[str(image)].reason]

    def _rewrite(self, keep: dict[str, Entry], stale: list[Path], progress: Progress | None) -> dict[str, Entry]:
        """Write a new pixel file: kept photos copied from the old one, the others decoded; then the new index."""
        self.folder.mkdir(exist_ok=True)
        for leftover in self.folder.glob(".pixels-*"):  # of a process that was killed
            leftover.unlink(missing_ok=True)
        entries: dict[str, Entry] = {}
        name = f"pixels-{time.time_ns():x}.bin"
        offset = 0
        try:
            with atomic_path(self.folder / name) as temporary, temporary.open("wb") as out:
                if keep:
                    with (self.folder / self._pixel_file).open("rb") as old:
                        for name_kept, kept in keep.items():
                            _copy(old, kept, out)
                            entries[name_kept] = replace(kept, offset=offset)
                            offset += kept.length
                for done, (path, entry, rgb) in enumerate(self._decode_all(stale), start=1):
                    if entry is not None:
                        out.write(rgb.data)
                        entries[str(path)] = replace(entry, offset=offset)
                        offset += entry.length
                    if progress is not None:
                        progress(done, len(stale))
            _write_index(self.folder, name, entries)
        except BaseException:
            (self.folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.folder.rmdir()
            raise
        for old_file in self.folder.glob("pixels-*.bin"):
            if old_file.name != name:
                old_file.unlink(missing_ok=True)
        self._pixel_file = name
        return entries

    def _decode_all(self, images: list[Path]) -> Iterator[tuple[Path, Entry | None, NDArray[np.uint8]]]:
        """Decode on a few threads (OpenCV releases the interpreter), in order, a bounded number ahead."""
        decode = _decode if self._problems is None else _decode_or_tell
        threads = min(8, os.cpu_count() or 1)
        window = 8 * threads
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(images), window):
                batch = images[start : start + window]
                decoded = pool.map(lambda path: decode(path, self._max_side), batch)
                for path, (entry, rgb) in zip(batch, decoded, strict=True):
                    yield path, entry, rgb


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time for this cache: the others wait, and find it made."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _recheck(image: Path, entry: Entry) -> Entry | None:
    """``entry`` if the file is the same, an updated one if only its times changed, else ``None``."""
    try:
        stat = image.stat()
        if entry.matches(stat):
            return entry
        now = time.time_ns()
        if stat.st_size != entry.bytes or sha256_bytes(image.read_bytes()) != entry.sha256:
            return None
    except OSError:
        return None  # decoding will say what is wrong
    return replace(entry, mtime_ns=stat.st_mtime_ns, ctime_ns=stat.st_ctime_ns, checked_ns=now)


def _copy(source: BinaryIO, entry: Entry, out: BinaryIO) -> None:
    source.seek(entry.offset)
    left = entry.length
    while left:
        block = source.read(min(left, _COPY_BYTES))
        if not block:
            raise OSError(0, "the pixel file became shorter")
        out.write(block)
        left -= len(block)


def _write_index(folder: Path, pixel_file: str, entries: dict[str, Entry]) -> None:
    body = json.dumps(
        {"format": _FORMAT, "pixels": pixel_file, "photos": {path: asdict(entry) for path, entry in entries.items()}}
    )
    write_text(folder / "index.json", f"{sha256_bytes(body.encode())}\n{body}\n")


def _read_index(folder: Path) -> tuple[dict[str, Entry], str]:
    """Entries by path and the name of the pixel file; empty when there is no cache or it is damaged."""
    try:
        digest, body = (folder / "index.json").read_text(encoding="utf-8").split("\n")[:2]
        if digest != sha256_bytes(body.encode()):
            return {}, ""
        index = json.loads(body)
        length = (folder / index["pixels"]).stat().st_size
        entries = {path: Entry(**fields) for path, fields in index["photos"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}, ""
    if index["format"] != _FORMAT or any(entry.offset + entry.length > length for entry in entries.values()):
        return {}, ""
    return entries, str(index["pixels"])
