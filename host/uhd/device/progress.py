"""Steps of a long program on stderr, and programs whose output goes to a log while their steps are shown."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from uhd.errors import UhdError

#: Hears (done, all, what).
Progress = Callable[[int, int, str], None]


class Printer:
    """The current step on one line of stderr; a line every ten seconds where there is no terminal."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._last = time.monotonic()

    def __call__(self, done: int, total: int, what: str) -> None:
        if self._stream.isatty():
            width = shutil.get_terminal_size().columns - 1
            end = "\n" if done == total else ""
            self._stream.write(f"\r\x1b[K{f'      {done}/{total} {what}'[:width]}{end}")
        elif time.monotonic() - self._last >= 10:
            self._last = time.monotonic()
            self._stream.write(f"      {done}/{total} {what}\n")
        self._stream.flush()


def run_logged(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    on_line: Callable[[str], None],
    hint: str,
) -> int:
    """Run ``command`` with its output in ``log``, each line also to ``on_line``; returns the exit code.

    A carriage return ends a line too, as progress bars need it. Raises ``UhdError`` with ``hint`` if it does not start.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(environment)
        )
    except OSError as error:
        raise UhdError(f"{command[0]} does not start: {error.strerror}", hint=hint) from None
    with process, log.open("w", encoding="utf-8") as stream:
        assert process.stdout is not None
        try:
            for line in _lines(process.stdout):
                stream.write(line)
                on_line(line.rstrip("\n"))
        except BaseException:
            process.kill()
            raise
    return process.returncode


def _lines(stream: IO[bytes]) -> Iterator[str]:
    pending = b""
    while piece := stream.read1(65536):  # type: ignore[attr-defined]
        pending += piece
        *lines, pending = pending.replace(b"\r\n", b"\n").replace(b"\r", b"\r\n").split(b"\n")
        for line in lines:
            yield (line.removesuffix(b"\r") + b"\n").decode("utf-8", "replace")
    if pending:
        yield pending.decode("utf-8", "replace")
