"""What ``train.log`` tells of a run's pace. ``metrics.jsonl`` has no times, so that equal runs write equal files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

LOG = "train.log"
_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (.*)")
_EPOCH = re.compile(r"epoch (\d+)/\d+\b")
_RATE = re.compile(r"\b(\d+(?:\.\d+)?) images/s")


def read_log(folder: Path) -> list[str]:
    """All lines of ``train.log``, none where it is missing."""
    try:
        return (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def pace(lines: Sequence[str]) -> tuple[float | None, list[tuple[float, float]]]:
    """Seconds spent on epochs, and (epoch, images a second) in order; None where the log does not tell.

    An epoch took from the line before it to its own, so the time between a stop and a resumption does not count, as
    a resumed run begins with a line of its own. The last word on a repeated epoch counts.
    """
    spent: dict[int, float] = {}
    rates: dict[int, float] = {}
    before: datetime | None = None
    for line in lines:
        stamped = _LINE.match(line)
        if not stamped:
            continue
        try:
            now = datetime.strptime(stamped[1], "%Y-%m-%d %H:%M:%S")
        except ValueError:
            continue
        epoch = _EPOCH.match(stamped[2])
        if epoch:
            rate = _RATE.search(stamped[2])
            if rate:
                rates[int(epoch[1])] = float(rate[1])
            if before is not None and now >= before:
                spent[int(epoch[1])] = (now - before).total_seconds()
        before = now
    return (sum(spent.values()) if spent else None), [(float(e), rates[e]) for e in sorted(rates)]
