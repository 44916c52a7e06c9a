"""A pseudo terminal in front of a TCP port: for tools that want a serial port."""

from __future__ import annotations

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
    """Path of a terminal that is connected to ``127.0.0.1:number`` for as long as the block runs."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    stop_read, stop_write = os.pipe()
    with socket.create_connection(("127.0.0.1", number)) as link:

        def carry() -> None:
            while True:
                ready, _, _ = select.select([ours, link, stop_read], [], [])
                if stop_read in ready:
                    return
                if ours in ready:
                    link.sendall(os.read(ours, 4096))
                if link in ready:
                    data = link.recv(4096)
                    if not data:
                        return
                    os.write(ours, data)

        thread = threading.Thread(target=carry)
        thread.start()
        try:
            yield os.ttyname(theirs)
        finally:
            os.write(stop_write, b".")
            thread.join()
            for descriptor in (ours, theirs, stop_read, stop_write):
                os.close(descriptor)
