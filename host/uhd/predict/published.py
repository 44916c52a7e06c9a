"""The published latencies on an ESP32-S3, and the models that they are of."""

from __future__ import annotations

import functools
import gzip
import json
from dataclasses import dataclass
from pathlib import Path

from uhd.predict.workload import Op, from_rows

FILE = Path(__file__).with_name("published.json.gz")


@dataclass(frozen=True)
class Point:
    """``ms`` milliseconds of a model with these operators."""

    variant: str
    preset: str
    ms: float
    ops: tuple[Op, ...]


#: Milliseconds on an ESP32-S3 at 240 MHz, weights and activations in PSRAM, by variant and preset. Source: README of
#: the reference (commit 4731a49), table of the RGB models with nearest resize ("emphasis on speed", "on precision").
PUBLISHED = {
    ("R", "speed"): 11.28, ("Y", "speed"): 26.15, ("Z", "speed"): 33.66, ("A", "speed"): 127.51,
    ("F", "speed"): 292.63, ("P", "speed"): 545.65, ("N", "speed"): 808.49,
    ("R", "precision"): 20.05, ("Y", "precision"): 28.51, ("Z", "precision"): 48.57, ("A", "precision"): 205.96,
}  # fmt: skip


@functools.cache
def published() -> tuple[Point, ...]:
    """All of them. The operators are those of this project's own files of the same architecture, RGB input, the same
    lists of int16 operators; which file was measured is not known, but sizes and parameters agree."""
    table = json.loads(gzip.decompress(FILE.read_bytes()))
    return tuple(
        Point(variant, preset, ms, from_rows(table[f"{variant}-{preset}"]))
        for (variant, preset), ms in PUBLISHED.items()
    )
