"""A pseudo terminal in front of a TCP port: for tools that want a serial port."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import socket
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pty_of(number: int) -> Iterator[str]:
    """Path of a terminal that is connected to ``127.0.0.1:number`` for as long as the block runs.

    When the program behind the port ends, what is written meanwhile is lost, and the next one there is connected.
    """
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    stop = threading.Event()

    def carry(link: socket.socket) -> None:
        while not stop.is_set():
            ready, _, _ = select.select([ours, link], [], [], 0.05)
            if ours in ready:
                link.sendall(os.read(ours, 4096))
            if link in ready:
                data = link.recv(4096)
                if not data:
                    return
                os.write(ours, data)

    def serve(link: socket.socket | None) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), link or socket.create_connection(("127.0.0.1", number)) as connected:
                carry(connected)
            link = None
            stop.wait(0.02)

    thread = threading.Thread(target=serve, args=(socket.create_connection(("127.0.0.1", number)),))
    thread.start()
    try:
        yield os.ttyname(theirs)
    finally:
        stop.set()
        thread.join()
        for descriptor in (ours, theirs):
            os.close(descriptor)
