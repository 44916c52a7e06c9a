"""The C++ device behind a pseudo terminal, as a board on a USB port: it can be unplugged in the middle of a frame."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import select
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from support.fakemodel import FakeModel
from support.live import LiveDevice
from support.twinlib import CppDevice, Library, library


class Firmware(Protocol):
    """What is on the board."""

    def said(self, data: bytes) -> bytes:
        """What it says, after it has heard ``data`` (maybe nothing)."""
        ...

    def close(self) -> None: ...


class PictureFirmware:
    """Takes pictures from the host only."""

    def __init__(self, model: FakeModel | None = None, *, of: Library | None = None) -> None:
        self.device = CppDevice(of or library(model or FakeModel()))

    def said(self, data: bytes) -> bytes:
        self.device.write(data)
        said = bytes(self.device.said)
        self.device.said.clear()
        return said

    def close(self) -> None:
        self.device.close()


class CameraFirmware:
    """Has a camera that gives ``rate`` random pictures a second."""

    SIDE = 96

    def __init__(self, model: FakeModel | None = None, rate: float = 60.0) -> None:
        self.device = LiveDevice(model or FakeModel())
        self._period = 1 / rate
        self._rng = np.random.default_rng(3)
        self._started = self._next = time.monotonic()
        self.pictures = 0

    def said(self, data: bytes) -> bytes:
        said = self.device.said(data)
        now = time.monotonic()
        while now >= self._next:
            self._next = max(self._next + self._period, now - 0.5)
            self.pictures += 1
            self.device.clock(int((now - self._started) * 1e6) + 1)
            pixels = self._rng.integers(0, 256, 2 * self.SIDE**2, dtype=np.uint8).tobytes()
            self.device.picture(pixels, self.SIDE, self.SIDE)
            self.device.watch()
            said += self.device.said()
        return said

    def close(self) -> None:
        self.device.close()


class PtyBoard:
    """Firmware on a terminal that ``path``, a link, leads to while it is plugged in. ``make``: a board that starts."""

    def __init__(self, path: Path, make: Callable[[], Firmware]) -> None:
        self.path, self._make = path, make
        self.firmware = make()
        self._master = -1
        self._cut: int | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.unplugged = threading.Event()
        self.mute = False
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self.plug()
        self._thread.start()

    def plug(self) -> None:
        """Power up and appear."""
        master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        with self._lock:
            self.unplugged.clear()
            self._master = master
            temporary = self.path.with_suffix(".new")
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(os.ttyname(slave))
            temporary.replace(self.path)
        # Held open for a moment: a terminal that nobody has opened yet says that it is hung up.
        self._slave = slave

    def unplug(self) -> None:
        """Vanish; whatever the board knew is lost."""
        with self._lock:
            self._vanish()

    def unplug_after(self, count: int) -> None:
        """Vanish once ``count`` more bytes were said."""
        with self._lock:
            self._cut = count

    def reset(self) -> None:
        """Restart without leaving the port."""
        with self._lock:
            self.firmware.close()
            self.firmware = self._make()

    def say(self, data: bytes) -> None:
        """Bytes that are not the firmware's doing."""
        with self._lock:
            os.write(self._master, data)

    def _vanish(self) -> None:
        if self._master >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self._slave)
            os.close(self._master)
            self._master, self._cut = -1, None
            self.firmware.close()
            self.firmware = self._make()
            self.unplugged.set()

    def _carry(self) -> None:
        while not self._over.is_set():
            with self._lock:
                master = self._master
                heard = b""
                if master >= 0:
                    ready, _, _ = select.select([master], [], [], 0)
                    if ready:
                        with contextlib.suppress(OSError):
                            heard = os.read(master, 4096)
                    said = b"" if self.mute else self.firmware.said(heard)
                    self._write(said)
                    master = self._master
            if not heard:
                if master < 0:
                    self._over.wait(0.002)
                else:
                    with contextlib.suppress(OSError, ValueError):
                        select.select([master], [], [], 0.002)

    def _write(self, data: bytes) -> None:
        if self._cut is not None and len(data) >= self._cut:
            data = data[: self._cut]
            self._put(data)
            self._vanish()
            return
        if self._cut is not None:
            self._cut -= len(data)
        self._put(data)

    def _put(self, data: bytes) -> None:
        deadline = time.monotonic() + 2  # a host that reads nothing loses what it does not read, as on a real port
        while data and time.monotonic() < deadline and not self._over.is_set():
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                select.select([], [self._master], [], 0.05)
            except OSError:
                return

    def close(self) -> None:
        self._over.set()
        self._thread.join(10)
        self.unplug()
        self.firmware.close()


@contextlib.contextmanager
def pty_board(path: Path, make: Callable[[], Firmware] = PictureFirmware) -> Iterator[PtyBoard]:
    """A plugged-in board at ``path`` for as long as the block runs."""
    board = PtyBoard(path, make)
    try:
        yield board
    finally:
        board.close()


def cut_points(count: int, top: int, seed: int = 7) -> list[int]:
    """Where in what the board says it is unplugged, in bytes."""
    rng = random.Random(seed)
    return [rng.randint(1, top) for _ in range(count)]
