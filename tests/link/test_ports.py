"""Byte pipes: sockets, pseudo terminals, TCP; ends that close, ends that do not read."""

from __future__ import annotations

import os
import pty
import random
import socket
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from uhd.device.ports import FdPort, open_port, socket_port
from uhd.errors import ConfigError, DeviceError


@pytest.fixture
def pair() -> Iterator[tuple[FdPort, socket.socket]]:
    ours, theirs = socket.socketpair()
    port = socket_port(ours, "pair")
    with theirs:
        yield port, theirs
    port.close()


def read_all(port: FdPort, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = port.read(5)
        assert piece, f"only {len(data)} of {size} bytes"
        data += piece
    return data


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_bytes_go_both_ways_unchanged(pair: tuple[FdPort, socket.socket]) -> None:
    port, other = pair
    data = bytes(range(256)) * 4
    port.write(data)
    assert other.recv(1024, socket.MSG_WAITALL) == data
    other.sendall(data)
    assert read_all(port, len(data)) == data


def test_read_waits_no_longer_than_asked(pair: tuple[FdPort, socket.socket]) -> None:
    port, _ = pair
    started = time.monotonic()
    assert port.read(0.05) == b""
    assert 0.04 <= time.monotonic() - started < 1
    assert port.read(0) == b""


def test_closed_other_side_is_an_error(pair: tuple[FdPort, socket.socket]) -> None:
    port, other = pair
    other.sendall(b"last words")
    other.close()
    assert port.read(1) == b"last words"
    with pytest.raises(DeviceError, match="pair: the device closed the link"):
        port.read(1)
    with pytest.raises(DeviceError, match="pair"):
        port.write(b"x" * 10)


def test_closed_port_is_an_error_and_closes_twice(pair: tuple[FdPort, socket.socket]) -> None:
    port, _ = pair
    port.close()
    port.close()
    with pytest.raises(DeviceError, match="closed"):
        port.read(1)
    with pytest.raises(DeviceError, match="closed"):
        port.write(b"x")


def test_write_to_one_who_does_not_read_gives_up(pair: tuple[FdPort, socket.socket]) -> None:
    port, _ = pair
    started = time.monotonic()
    with pytest.raises(DeviceError, match=r"takes no bytes for 0.2 s"):
        port.write(bytes(10_000_000), timeout=0.2)
    assert time.monotonic() - started < 3


def test_two_sides_that_write_at_once_do_not_block_each_other(pair: tuple[FdPort, socket.socket]) -> None:
    port, other = pair
    ours, theirs = random.Random(1).randbytes(3_000_000), random.Random(2).randbytes(3_000_000)
    received = bytearray()

    def device() -> None:
        """Like a device: writes all of its answer before it reads on."""
        other.sendall(theirs)
        while len(received) < len(ours):
            received.extend(other.recv(65536))

    thread = threading.Thread(target=device)
    thread.start()
    port.write(ours)
    assert read_all(port, len(theirs)) == theirs
    thread.join(10)
    assert bytes(received) == ours


def test_pty_path_is_opened_raw() -> None:
    """All byte values pass a pseudo terminal, both ways, once pyserial has set it up."""
    master, slave = pty.openpty()
    try:
        tty.setraw(master)
        port = open_port(os.ttyname(slave))
        data = bytes(range(256))
        port.write(data)
        arrived = b""
        while len(arrived) < 256:
            arrived += os.read(master, 4096)
        assert arrived == data
        os.write(master, data)
        assert read_all(port, 256) == data
        port.close()
    finally:
        os.close(master)
        os.close(slave)


def test_unplugging_two_hundred_times_leaks_nothing() -> None:
    before, threads = open_fds(), threading.active_count()
    for i in range(200):
        master, slave = pty.openpty()
        port = open_port(os.ttyname(slave))
        os.close(slave)
        os.write(master, b"\0\x05half a frame"[: 2 + i % 10])
        assert port.read(1)
        os.close(master)
        with pytest.raises(DeviceError):
            for _ in range(3):
                port.read(0.1)
                port.write(b"x")
        port.close()
    assert open_fds() <= before  # less where others' files were collected meanwhile
    assert threading.active_count() <= threads


def test_tcp_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        port = open_port(f"socket://127.0.0.1:{number}")
        connection, _ = server.accept()
        with connection:
            port.write(b"ping")
            assert connection.recv(10) == b"ping"
            connection.sendall(b"pong")
            assert port.read(5) == b"pong"
            assert port.name == f"socket://127.0.0.1:{number}"
        port.close()
    with pytest.raises(DeviceError, match=f"socket://127.0.0.1:{number}: cannot connect"):
        open_port(f"socket://127.0.0.1:{number}", timeout=1)


@pytest.mark.parametrize("url", ["socket://host", "socket://host:0", "socket://host:x", "socket://h:70000", "ftp://x"])
def test_senseless_addresses(url: str) -> None:
    with pytest.raises(ConfigError, match="socket://HOST:PORT"):
        open_port(url)


def test_path_that_is_no_serial_port(tmp_path: Path) -> None:
    missing = tmp_path / "ttyNONE"
    with pytest.raises(DeviceError, match=f"{missing}: cannot open the serial port .*No such file"):
        open_port(str(missing))
    plain = tmp_path / "file"
    plain.write_bytes(b"")
    with pytest.raises(DeviceError, match="cannot open the serial port"):
        open_port(str(plain))
