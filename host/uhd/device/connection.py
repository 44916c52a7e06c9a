"""Messages to and from a device: sequence numbers, console text, versions and refusals."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from uhd.device.link import Decoder, Frame, encode_frame
from uhd.device.messages import BY_TYPE, CODES, MESSAGES, PROTOCOL_VERSION, Message, pack, unpack
from uhd.device.ports import Port
from uhd.errors import DeviceError

_CODES = CODES["ErrorCode"]


#: Hears what passes on a link: (``TO_DEVICE``, ``TO_HOST`` or ``CONSOLE``, type, sequence number, payload). A line of
#: console text is UTF-8, its numbers are 0.
Tap = Callable[[str, int, int, bytes], None]
TO_DEVICE, TO_HOST, CONSOLE = "to device", "to host", "console"


class VersionError(DeviceError):
    """The device speaks another protocol version."""


class SessionLost(Exception):
    """The device knows of no session: it has restarted."""


@dataclass
class ClientCounters:
    """What went wrong and was put right: sent again, went on after a restart, came too late or for someone else."""

    retries: int = 0
    restarts: int = 0
    stale: int = 0


class Connection:
    """A port with the codec on it. ``timeout``: seconds of silence after which something is sent again; ``retries``:
    how often in a row.
    """

    def __init__(
        self,
        port: Port,
        timeout: float,
        retries: int,
        on_console: Callable[[str], None] | None = None,
        tap: Tap | None = None,
    ) -> None:
        self.port, self.timeout, self.retries = port, timeout, retries
        self.decoder = Decoder()
        self.counters = ClientCounters()
        self.console: deque[str] = deque(maxlen=200)
        self._on_console = on_console
        self._tap = tap
        self._inbox: deque[Frame] = deque()
        self._seq = 0

    def send(self, name: str, /, tail: bytes = b"", **values: Any) -> int:
        """Send a message; returns its sequence number."""
        seq = self._seq
        self._seq = (seq + 1) & 0xFFFF
        payload = pack(name, tail, **values)
        if self._tap:
            self._tap(TO_DEVICE, MESSAGES[name].type, seq, payload)
        self.port.write(encode_frame(MESSAGES[name].type, seq, payload))
        return seq

    def receive(self, deadline: float) -> Message | None:
        """The next message, or None at the deadline (``time.monotonic``).

        Raises ``DeviceError`` when the device speaks another protocol version.
        """
        while True:
            while self._inbox:
                message = self._understand(self._inbox.popleft())
                if message:
                    return message
            left = deadline - time.monotonic()
            data = self.port.read(max(left, 0.0))
            for item in self.decoder.feed(data):
                if isinstance(item, Frame):
                    self._inbox.append(item)
                    if self._tap:
                        self._tap(TO_HOST, item.type, item.seq, item.payload)
                else:
                    if self._tap:
                        self._tap(CONSOLE, 0, 0, item.encode())
                    self.console.append(item)
                    if self._on_console:
                        self._on_console(item)
            if not data and left <= 0:
                return None

    def request(self, name: str, answer: str, /, **values: Any) -> Message:
        """Send a request, again if need be, and return its answer.

        Raises ``DeviceError`` if none comes or the device refuses, ``SessionLost`` if it wants a HELLO first.
        """
        sent: set[int] = set()
        for attempt in range(self.retries + 1):
            self.counters.retries += attempt > 0
            sent.add(self.send(name, **values))
            deadline = time.monotonic() + self.timeout
            while message := self.receive(deadline):
                answers = "reply_to" not in message.fields or message["reply_to"] in sent
                if answers and message.name == answer:
                    return message
                if answers and message.name == "ERROR" and message["reply_type"] == MESSAGES[name].type:
                    self.refused(message)
                self.counters.stale += 1
        raise DeviceError(
            f"{self.port.name}: no answer to {name} ({self.retries + 1} attempts, {self.timeout:g} s each)",
            hint="is the device running this firmware, and no other program using the port?",
        )

    def refused(self, message: Message) -> NoReturn:
        """Raise what an ERROR message says."""
        code = message["code"]
        if code == _CODES["NO_SESSION"]:
            raise SessionLost
        name = next((n for n, v in _CODES.items() if v == code), f"error {code}")
        raise DeviceError(f"{self.port.name}: the device refuses: {message.tail} ({name})")

    def _understand(self, frame: Frame) -> Message | None:
        if frame.type not in BY_TYPE:
            self.decoder.counters.unknown += 1
            return None
        version = int.from_bytes(frame.payload[:2], "little")
        if BY_TYPE[frame.type].name in ("INFO", "ERROR") and version != PROTOCOL_VERSION:
            raise VersionError(
                f"{self.port.name}: the device speaks protocol version {version}, this host version {PROTOCOL_VERSION}",
                hint="use firmware and host tools of the same release",
            )
        try:
            return unpack(frame.type, frame.payload)
        except ValueError:
            self.decoder.counters.malformed += 1
            return None
