"""Byte pipes to a device: serial ports, pseudo terminals, TCP and socket pairs, all behind one small interface."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Protocol

from uhd.errors import ConfigError, DeviceError

DEFAULT_BAUD = 921600


class Port(Protocol):
    """A byte pipe. Both calls raise ``DeviceError`` when the other side is gone."""

    name: str

    def read(self, timeout: float) -> bytes:
        """What has arrived; waits up to ``timeout`` seconds for the first byte, b"" if none came."""
        ...

    def write(self, data: bytes, timeout: float = 5.0) -> None:
        """Send everything, or fail after ``timeout`` seconds without progress."""
        ...

    def close(self) -> None:
        """Release the pipe; a second call does nothing."""
        ...


class FdPort:
    """A port on a file descriptor, which it takes over. Reads while it writes: neither side can block the other."""

    def __init__(self, fd: int, name: str, release: Callable[[], None] | None = None) -> None:
        """``release`` closes whatever owns ``fd``; by default the descriptor itself is closed."""
        self.name = name
        self._fd = fd
        self._release = release or (lambda: os.close(fd))
        self._received = bytearray()
        self._polls = tuple(select.poll() for _ in range(2))  # select() refuses descriptors above 1023
        self._polls[0].register(fd, select.POLLIN)
        self._polls[1].register(fd, select.POLLIN | select.POLLOUT)
        os.set_blocking(fd, False)

    def read(self, timeout: float) -> bytes:
        """See ``Port``."""
        if not self._received and self._wait(timeout, writing=False)[0]:
            self._receive()
        data = bytes(self._received)
        self._received.clear()
        return data

    def write(self, data: bytes, timeout: float = 5.0) -> None:
        """See ``Port``."""
        view = memoryview(data)
        deadline = time.monotonic() + timeout
        while view:
            readable, writable = self._wait(max(0.0, deadline - time.monotonic()), writing=True)
            if readable:
                self._receive()
            if writable:
                try:
                    view = view[os.write(self._fd, view) :]
                    deadline = time.monotonic() + timeout
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise self._gone(error) from None
            elif time.monotonic() >= deadline:
                raise DeviceError(
                    f"{self.name}: the device takes no bytes for {timeout:g} s",
                    hint="is it running, is the port right?",
                )

    def close(self) -> None:
        """See ``Port``."""
        if self._fd >= 0:
            self._fd = -1
            self._release()

    def _wait(self, timeout: float, *, writing: bool) -> tuple[bool, bool]:
        if self._fd < 0:
            raise DeviceError(f"{self.name}: the port is closed")
        events = 0
        for _, event in self._polls[writing].poll(timeout * 1000):
            events |= event
        ended = events & (select.POLLHUP | select.POLLERR)
        return bool(events & select.POLLIN or ended), bool(events & select.POLLOUT)

    def _receive(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._gone(error) from None
        if not data:
            raise DeviceError(f"{self.name}: the device closed the link")
        self._received += data

    def _gone(self, error: OSError) -> DeviceError:
        return DeviceError(f"{self.name}: the link is gone ({error.strerror})", hint="is the device still connected?")


def socket_port(connection: socket.socket, name: str) -> FdPort:
    """A port on a connected socket, which it takes over."""
    with contextlib.suppress(OSError):  # only TCP has it
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return FdPort(connection.fileno(), name, connection.close)


def _open_serial(path: str, baud: int) -> FdPort:
    import serial

    try:
        port = serial.Serial(path, baud, timeout=0, exclusive=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DeviceError(f"{path}: cannot open the serial port ({reason})", hint="give --port or free it") from None
    return FdPort(port.fileno(), path, port.close)


def _open_socket(address: str, timeout: float) -> FdPort:
    host, colon, number = address.rpartition(":")
    if not colon or not number.isdecimal() or not 0 < int(number) < 65536:
        raise ConfigError(f"socket://{address}: not an address", hint="write socket://HOST:PORT")
    try:
        connection = socket.create_connection((host, int(number)), timeout)
    except OSError as error:
        raise DeviceError(f"socket://{address}: cannot connect ({error.strerror or error})") from None
    connection.settimeout(None)
    return socket_port(connection, f"socket://{address}")


def open_port(url: str, *, baud: int = DEFAULT_BAUD, timeout: float = 5.0) -> FdPort:
    """Open ``/dev/ttyACM0``, ``/dev/pts/3`` (any serial path; ``baud`` applies) or ``socket://HOST:PORT``.

    Raises ``DeviceError`` if it cannot be opened and ``ConfigError`` if the address makes no sense.
    """
    if url.startswith("socket://"):
        return _open_socket(url.removeprefix("socket://"), timeout)
    if "://" in url:
        raise ConfigError(f"{url}: unknown kind of port", hint="give a serial path or socket://HOST:PORT")
    return _open_serial(url, baud)
