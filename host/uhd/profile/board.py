"""Waiting on a port for the table that a board prints when it starts."""

from __future__ import annotations

import time
from collections.abc import Callable

from uhd.device.monitor import Monitor, Options
from uhd.device.ports import Port
from uhd.profile.board_log import parse


def read_profiles(open_port: Callable[[], Port], seconds: float, runs: int = 1) -> str:
    """The console's text up to the ``runs``-th whole table of times, or what came in ``seconds``.

    The port is opened again when it goes away, as it may when the board restarts. Raises ``DeviceError`` if it cannot
    be opened at first.
    """
    lines: list[str] = []
    seen = whole = 0
    end = time.monotonic() + seconds

    def enough() -> bool:
        nonlocal seen, whole
        if len(lines) > seen:
            seen = len(lines)
            whole = sum(run.whole for run in parse("".join(lines)))
        return whole >= runs or time.monotonic() >= end

    Monitor(open_port, lines.append, enough, Options(seconds=seconds)).run()
    return "".join(lines)
