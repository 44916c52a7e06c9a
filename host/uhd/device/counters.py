"""What both ends of a link and the line between them have counted, as text and for ``--json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from uhd.device.connection import Connection
from uhd.device.lossy import LossyPort
from uhd.device.ports import Port

_OF_DEVICE = ("frames_received", "crc_errors", "malformed", "overlong", "unknown", "dropped_bytes")


def link_counters(connection: Connection, stats: Mapping[str, int] | None = None) -> dict[str, dict[str, int]]:
    """By who has counted: ``host``; ``device``, if its STATS are known; the two directions of a ``LossyPort``."""
    found = {"host": asdict(connection.decoder.counters) | asdict(connection.counters)}
    if stats is not None:
        found["device"] = {name: stats[name] for name in _OF_DEVICE}
    return found | line_counters(connection.port)


def line_counters(port: Port) -> dict[str, dict[str, int]]:
    """What a ``LossyPort`` did to each direction; nothing for another port."""
    if not isinstance(port, LossyPort):
        return {}
    return {"line to device": asdict(port.to_device), "line to host": asdict(port.to_host)}


def counter_lines(counters: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line for each, for people."""
    return [f"{who}: " + ", ".join(f"{name} {value}" for name, value in its.items()) for who, its in counters.items()]
