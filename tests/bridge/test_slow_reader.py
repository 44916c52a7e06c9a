"""T8: a reader that takes one picture a second while the device gives sixty."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

from support.pty_board import CameraFirmware, pty_board
from uhd.bridge import events
from uhd.bridge.hub import Hub
from uhd.bridge.setup import port_opener
from uhd.bridge.source_live import LiveSource

SECONDS = float(os.environ.get("UHD_SOAK_SECONDS", "10"))


def test_memory_stays_and_the_newest_is_shown(line: Path) -> None:
    hub = Hub()
    process = psutil.Process()
    with pty_board(line, lambda: CameraFirmware(rate=60)):
        source = LiveSource(port_opener(str(line)), str(line))
        reader = hub.subscribe(images=True)
        source.start(hub)
        try:
            started = time.monotonic()
            shown: list[int] = []  # numbers only: pixels kept here would count as growth
            dropped: list[int] = []
            growth = before = 0
            wanted = started + 3.0
            while time.monotonic() < started + SECONDS:
                event = reader.get(10)
                assert event is not None
                if isinstance(event, events.Stats):
                    dropped.append(event.dropped)
                elif isinstance(event, events.Picture):
                    behind = time.time() - event.wall
                    assert behind < 0.9, f"the picture shown is {behind:.2f} s old"
                    assert event.image
                    shown.append(event.frame_id)
                    if time.monotonic() > wanted:
                        # Counted from when the first seconds have filled caches and queues.
                        before = before or process.memory_info().rss
                        growth = max(growth, process.memory_info().rss - before)
                    time.sleep(1.0)
            given = source.pictures
        finally:
            source.close()
            hub.close()
    rate = given / SECONDS
    assert rate > 30, f"the source gave only {rate:.0f} pictures a second"
    assert shown == sorted(set(shown))
    missed = reader.dropped
    assert given - len(shown) - 2 <= missed <= given, (given, len(shown), missed)
    assert dropped == sorted(dropped) and dropped[-1] > given - len(shown) - 240
    assert growth < 20 << 20, f"{growth / 2**20:.1f} MB more"
    print(f"{SECONDS:g} s: {rate:.1f} pictures/s, {len(shown)} shown, {missed} dropped, {growth / 2**20:+.1f} MB")
