"""A port that can be left at any moment, and that knows when the other side is silent or gone."""

from __future__ import annotations

import time
from collections.abc import Callable

from uhd.device.ports import Port
from uhd.errors import DeviceError

#: Longest wait inside one call, so that the end is noticed soon.
_SLICE = 0.05
#: Seconds without a byte after which a device is called silent.
SILENCE = 3.0


class Stopped(Exception):
    """The source is being closed."""


class Guard:
    """A port around ``port``. ``stopped``: asked many times a second; once it says so, calls raise ``Stopped``.

    ``on_silence`` hears True when nothing has come for ``SILENCE`` seconds, and False when something comes again.
    ``gone`` is set once the port has failed.
    """

    def __init__(self, port: Port, stopped: Callable[[], bool], on_silence: Callable[[bool], None]) -> None:
        self.name, self.gone = port.name, False
        self._port, self._stopped, self._on_silence = port, stopped, on_silence
        self._heard = time.monotonic()
        self._silent = False

    def read(self, timeout: float) -> bytes:
        """See ``Port``."""
        deadline = time.monotonic() + timeout
        while True:
            if self._stopped():
                raise Stopped
            left = max(0.0, deadline - time.monotonic())
            data = self._read(min(left, _SLICE))
            self._listen(bool(data))
            if data or left <= _SLICE:
                return data

    def _read(self, timeout: float) -> bytes:
        try:
            return self._port.read(timeout)
        except DeviceError:
            self.gone = True
            raise

    def _listen(self, heard: bool) -> None:
        now = time.monotonic()
        if heard:
            self._heard = now
        silent = now - self._heard >= SILENCE
        if silent != self._silent:
            self._silent = silent
            self._on_silence(silent)

    def write(self, data: bytes, timeout: float = 5.0) -> None:
        """See ``Port``."""
        if self._stopped():
            raise Stopped
        try:
            # A port that takes nothing is as good as silent; half a second more or less of that does not matter.
            self._port.write(data, min(timeout, SILENCE))
        except DeviceError:
            self._read(0)  # a port that is gone says so here, too; one that is stuck does not
            self._silent = True
            self._on_silence(True)
            raise

    def close(self) -> None:
        """See ``Port``."""
        self._port.close()
