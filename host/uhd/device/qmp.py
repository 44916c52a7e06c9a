"""QEMU's control socket: one JSON object a line."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

from uhd.errors import DeviceError


class Control:
    """A connection to QEMU's monitor (QMP), which it takes over."""

    def __init__(self, connection: socket.socket, timeout: float = 20.0) -> None:
        connection.settimeout(timeout)
        self._socket = connection
        self._stream = connection.makefile("rwb")

    def greet(self) -> None:
        """Take the greeting and enter command mode. Raises ``EOFError`` or ``OSError`` if QEMU is gone."""
        self._read()
        self.command("qmp_capabilities")

    def command(self, name: str) -> Any:
        """Run a command and return its answer. Raises ``DeviceError`` if QEMU refuses it."""
        self._stream.write(json.dumps({"execute": name}).encode() + b"\n")
        self._stream.flush()
        while True:
            answer = self._read()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise DeviceError(f"the emulator refuses {name}: {answer['error'].get('desc', '')}")

    def _read(self) -> dict[str, Any]:
        line = self._stream.readline()
        if not line:
            raise EOFError("the emulator closed its control socket")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """Release the socket."""
        with contextlib.suppress(OSError):  # unsent bytes to a process that is gone
            self._stream.close()
        self._socket.close()
