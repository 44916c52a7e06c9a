"""Watching a port: console text as it is, a line for each message, crashes with their source lines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime

from uhd.device.counters import counter_lines, line_counters
from uhd.device.link import Decoder, Frame, encode_frame
from uhd.device.lossy import Loss
from uhd.device.message_lines import message_line
from uhd.device.messages import MESSAGES, PROTOCOL_VERSION, pack
from uhd.device.panic import Decoder as CrashDecoder
from uhd.device.ports import Port
from uhd.errors import DeviceError

#: How long one read waits, hence how late a key is noticed.
_TICK = 0.1
_SILENCE = 5.0
#: Seconds that the device may take to tell its counters at the end.
_LAST_ANSWER = 1.0
_BEGUN = "-- nothing yet: press the board's reset button; --hello asks the device who it is"


@dataclass
class Options:
    """What is shown, and how. ``seconds``: end after so long, 0 for never. ``patience``: seconds that the port may take
    to appear at first, as after a reset.
    """

    timestamps: bool = False
    raw: bool = False
    hello: bool = False
    seconds: float = 0.0
    patience: float = 0.0


class Monitor:
    """Reads a port until ``stop`` says so, and opens it again when the device comes back.

    ``open_port``: gives the port, or raises ``DeviceError`` while there is none. ``write``: takes lines (or, with
    ``raw``, whatever came). ``stop``: asked about ten times a second. ``loss``: of a line put before the port.
    """

    def __init__(
        self,
        open_port: Callable[[], Port],
        write: Callable[[str], None],
        stop: Callable[[], bool],
        options: Options,
        crashes: CrashDecoder | None = None,
        loss: Loss | None = None,
    ) -> None:
        self._open, self._write, self._stop = open_port, write, stop
        self._loss = loss or Loss()
        self._options, self._crashes = options, crashes
        self._decoder = Decoder()
        self._damaged = 0
        self._stats = 0
        self._deadline = time.monotonic() + options.seconds if options.seconds else float("inf")

    def run(self) -> None:
        """Watch. Raises ``DeviceError`` if the port cannot be opened the first time; later ones are waited for."""
        port = self._loss.wrap(self._first())
        while True:
            try:
                self._watch(port)
                self._end(port)
                return
            except DeviceError as error:
                self._line(f"-- {error}")
            finally:
                port.close()
            self._line("-- waiting for it to come back")
            reopened = self._reopen()
            if reopened is None:
                return
            port = self._loss.wrap(reopened)
            self._decoder = Decoder()
            self._damaged = 0
            self._line(f"-- back on {port.name}")

    def _first(self) -> Port:
        last = time.monotonic() + self._options.patience
        while True:
            try:
                return self._open()
            except DeviceError:
                if time.monotonic() >= last:
                    raise
                time.sleep(_TICK)

    def _over(self) -> bool:
        return time.monotonic() >= self._deadline or self._stop()

    def _watch(self, port: Port) -> None:
        if self._options.hello:
            port.write(encode_frame(MESSAGES["HELLO"].type, 0, pack("HELLO", protocol_version=PROTOCOL_VERSION)))
        silent_since: float | None = time.monotonic()
        while not self._over():
            data = port.read(_TICK)
            if data:
                silent_since = None
                self._take(data)
            elif silent_since is not None and time.monotonic() - silent_since > _SILENCE:
                silent_since = None
                self._line(_BEGUN)

    def _end(self, port: Port) -> None:
        """Ask for the device's counters if it was greeted, and show those of this side."""
        if self._options.raw:
            return
        if self._options.hello:
            port.write(encode_frame(MESSAGES["STATS_REQUEST"].type, 1, pack("STATS_REQUEST")))
            end, before = time.monotonic() + _LAST_ANSWER, self._stats
            while time.monotonic() < end and self._stats == before:
                self._take(port.read(_TICK))
        counted = asdict(self._decoder.counters)
        if any(value for name, value in counted.items() if name != "console_lines") or self._loss:
            for line in counter_lines({"host": counted} | line_counters(port)):
                self._line(f"-- {line}")

    def _reopen(self) -> Port | None:
        while not self._over():
            time.sleep(_TICK)
            with contextlib.suppress(DeviceError):
                return self._open()
        return None

    def _take(self, data: bytes) -> None:
        if self._options.raw:
            self._write(data.decode("utf-8", "backslashreplace"))
            return
        for item in self._decoder.feed(data):
            if isinstance(item, Frame):
                self._line(f"<< {message_line(item)}")
                self._stats += item.type == MESSAGES["STATS"].type
            else:
                self._line(item)
                for line in self._crashes.lines(item) if self._crashes else ():
                    self._line(f"-- {line}")
        counters = self._decoder.counters
        damaged = counters.crc_errors + counters.malformed + counters.overlong
        if damaged > self._damaged:
            self._line(f"-- {damaged - self._damaged} damaged or unreadable piece(s); is --baud right?")
            self._damaged = damaged

    def _line(self, text: str) -> None:
        stamp = f"{datetime.now():%H:%M:%S.%f}"[:-3] + "  " if self._options.timestamps else ""
        self._write(f"{stamp}{text}\n")
