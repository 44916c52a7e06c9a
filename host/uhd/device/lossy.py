"""A port that loses: drops bytes, flips bits and delays, both ways, the same in every run with the same seed.

For trying out what the rest does about a bad line. Commands take it from ``uhd.host.loss``.
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from dataclasses import dataclass

from uhd.device.ports import Port
from uhd.errors import ConfigError, DeviceError


@dataclass(frozen=True)
class Loss:
    """How bad the line is, each way: ``drop_rate`` (0..1) of the bytes are dropped, ``flip_rate`` (0..1) of the bits
    flipped, everything comes ``delay_s`` seconds late.
    """

    drop_rate: float = 0.0
    flip_rate: float = 0.0
    delay_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("drop_rate", "flip_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="give a number from 0 to 1")
        if not 0 <= self.delay_s < 60:
            raise ConfigError(f"a delay of {self.delay_s:g} s", hint="give 0 to 60 seconds")

    def __bool__(self) -> bool:
        return bool(self.drop_rate or self.flip_rate or self.delay_s)

    def wrap(self, port: Port) -> Port:
        """``port`` behind this line; ``port`` itself if the line is good."""
        return LossyPort(port, self) if self else port


@dataclass
class LossCounters:
    """What was done to one direction. ``bytes`` counts what came in, ``flipped`` bits."""

    bytes: int = 0
    dropped: int = 0
    flipped: int = 0


class _Events:
    """How many tries pass until the next hit, for hits that each try has with probability ``rate``."""

    def __init__(self, rate: float, generator: random.Random) -> None:
        self._rate, self._random = rate, generator
        self._left = self._draw()

    def _draw(self) -> float:
        if self._rate <= 0:
            return math.inf
        if self._rate >= 1:
            return 0
        return math.floor(math.log(1.0 - self._random.random()) / math.log1p(-self._rate))

    def take(self, tries: int) -> list[int]:
        """Which of the next ``tries`` are hits, in order."""
        hits = []
        while self._left < tries:
            hits.append(int(self._left))
            self._left += 1 + self._draw()
        self._left -= tries
        return hits


class Line:
    """One direction. What is lost depends on the bytes before, not on how they are cut into pieces."""

    def __init__(self, loss: Loss, seed: int) -> None:
        self.counters = LossCounters()
        self._drops = _Events(loss.drop_rate, random.Random(2 * seed))
        self._flips = _Events(loss.flip_rate, random.Random(2 * seed + 1))

    def carry(self, data: bytes) -> bytes:
        """What arrives of ``data``."""
        arrived = bytearray(data)
        flips, drops = self._flips.take(8 * len(data)), self._drops.take(len(data))
        for bit in flips:
            arrived[bit // 8] ^= 1 << (bit % 8)
        for place in reversed(drops):
            del arrived[place]
        self.counters.bytes += len(data)
        self.counters.dropped += len(drops)
        self.counters.flipped += len(flips)
        return bytes(arrived)


class LossyPort:
    """``port`` behind a bad line; a ``Port`` itself. ``to_device`` and ``to_host`` count what it did.

    With a delay, bytes to the device leave during later calls (a program that waits for an answer makes them), at the
    latest in ``close``.
    """

    def __init__(self, port: Port, loss: Loss) -> None:
        self.name = port.name
        self._port, self._delay = port, loss.delay_s
        self._out, self._in = Line(loss, 2 * loss.seed), Line(loss, 2 * loss.seed + 1)
        self._leaving: deque[tuple[float, bytes]] = deque()  # (when it is due, bytes)
        self._coming: deque[tuple[float, bytes]] = deque()

    @property
    def to_device(self) -> LossCounters:
        """Of what the host has written."""
        return self._out.counters

    @property
    def to_host(self) -> LossCounters:
        """Of what the host was to read."""
        return self._in.counters

    def read(self, timeout: float) -> bytes:
        """See ``Port``. What came before the other side was gone is still handed out."""
        deadline = time.monotonic() + timeout
        while True:
            self._send_due()
            now = time.monotonic()
            if data := self._arrived(now):
                return data
            due = min((queue[0][0] for queue in (self._leaving, self._coming) if queue), default=math.inf)
            try:
                came = self._port.read(max(0.0, min(deadline, due) - now))
            except DeviceError:
                if not self._coming:
                    raise
                return self._arrived(math.inf)
            if came:
                self._coming.append((time.monotonic() + self._delay, self._in.carry(came)))
            now = time.monotonic()
            data = self._arrived(now)
            if data or now >= deadline:
                return data

    def write(self, data: bytes, timeout: float = 5.0) -> None:
        """See ``Port``."""
        self._leaving.append((time.monotonic() + self._delay, self._out.carry(data)))
        self._send_due(timeout)

    def close(self) -> None:
        """See ``Port``."""
        try:
            while self._leaving:
                time.sleep(max(0.0, self._leaving[0][0] - time.monotonic()))
                self._send_due()
        except DeviceError:
            self._leaving.clear()  # nobody is there to get it
        finally:
            self._port.close()

    def _send_due(self, timeout: float = 5.0) -> None:
        while self._leaving and self._leaving[0][0] <= time.monotonic():
            data = self._leaving.popleft()[1]
            if data:
                self._port.write(data, timeout)

    def _arrived(self, now: float) -> bytes:
        data = b""
        while self._coming and self._coming[0][0] <= now:
            data += self._coming.popleft()[1]
        return data
