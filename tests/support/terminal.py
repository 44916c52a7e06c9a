"""A program in a terminal of its own: what it shows, and keys for it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence

from support.shared import ROOT

_ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>()][0-9A-Za-z]?")


def _own_terminal() -> None:
    """Ctrl-C on the new terminal reaches the program, also where this process was started with it ignored."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Terminal:
    """A running program. ``raw`` is all that it wrote, ``text()`` the same without colours and movements."""

    def __init__(self, arguments: Sequence[str], columns: int = 110, lines: int = 36) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        environment["PYTHONPATH"] = f"{ROOT / 'host'}:{ROOT / 'tests'}"
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        self._process = subprocess.Popen(
            arguments, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
            preexec_fn=_own_terminal,
        )  # fmt: skip
        os.close(slave)
        self.raw = b""

    def text(self, since: int = 0) -> str:
        return _ESCAPES.sub(b"", self.raw[since:]).decode("utf-8", "replace")

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, what: str | re.Pattern[str], seconds: float = 30.0) -> None:
        """Read until ``what`` was shown, from now on."""
        start = len(self.raw)
        pattern = re.compile(re.escape(what)) if isinstance(what, str) else what
        deadline = time.monotonic() + seconds
        while not pattern.search(self.text(start)):
            self.read(0.1)
            assert time.monotonic() < deadline, f"{what!r} was not shown:\n{self.text(start)[-3000:]}"

    def read(self, seconds: float) -> bool:
        """Take what is there; False once the program has closed the terminal, or nothing came."""
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self.raw += data
        return bool(data)

    def ended(self, seconds: float = 30.0) -> int:
        """The exit code, once the program has ended."""
        deadline = time.monotonic() + seconds
        while self._process.poll() is None:
            self.read(0.1)
            assert time.monotonic() < deadline, f"still running:\n{self.text()[-2000:]}"
        while self.read(0.05):
            pass
        return self._process.returncode

    @property
    def echoes(self) -> bool:
        """Whether keys are shown as they are typed, as in a shell."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)


@contextlib.contextmanager
def terminal(arguments: Sequence[str], columns: int = 110, lines: int = 36) -> Iterator[Terminal]:
    """A program that is ended with the context."""
    made = Terminal(arguments, columns, lines)
    try:
        yield made
    finally:
        made.close()
