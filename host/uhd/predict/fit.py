"""Fitting the rates to published latencies, and how far off a point is that the fit has not seen."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uhd.predict.latency import Chip, Rates, fetched, requantized, weighted_macs, with_rates
from uhd.predict.published import Point

#: The fitted ones, in the order of the columns: cycles a multiply-accumulate, bytes of filter, values requantized.
PARAMETERS = ("mac", "psram", "requantize")


@dataclass(frozen=True)
class Fit:
    """``chip`` with fitted rates. Errors are predicted / published - 1, point by point: of the fit itself, and of the
    fit to all the other points."""

    chip: Chip
    points: tuple[Point, ...]
    errors: tuple[float, ...]
    held_out: tuple[float, ...]


def columns(point: Point, chip: Chip) -> list[float]:
    """What each parameter is multiplied by: weighted multiply-accumulates, fetched bytes, requantized values."""
    return [
        sum(weighted_macs(op, chip.rates) for op in point.ops),
        sum(fetched(op, chip.cache_bytes) for op in point.ops),
        float(sum(requantized(op) for op in point.ops)),
    ]


def nonnegative(matrix: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """The x >= 0 with the least ``|matrix x - wanted|``, by trying all choices of those above 0: for few columns."""
    count = matrix.shape[1]
    free = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
    if (free >= 0).all():
        return np.asarray(free, dtype=np.float64)
    best, least = np.zeros(count), float(np.sum(wanted**2))
    for size in range(1, count + 1):
        for chosen in itertools.combinations(range(count), size):
            part = matrix[:, chosen]
            x = np.linalg.lstsq(part, wanted, rcond=None)[0]
            loss = float(np.sum((part @ x - wanted) ** 2))
            if (x >= 0).all() and loss < least:
                best, least = np.zeros(count), loss
                best[list(chosen)] = x
    return best


def fit(points: Sequence[Point], chip: Chip) -> Fit:
    """Fit relative errors; ``chip`` gives the cache and the factors that are not fitted.

    Raises ``ValueError`` for fewer points than parameters.
    """
    if len(points) <= len(PARAMETERS):
        raise ValueError(f"{len(points)} points are too few for {len(PARAMETERS)} parameters")
    features = np.array([columns(point, chip) for point in points])
    published = np.array([point.ms for point in points])
    scale = features.max(0)
    scale[scale == 0] = 1.0
    relative = features / scale / published[:, None]
    ones = np.ones(len(points))
    x = nonnegative(relative, ones)
    held_out = []
    for left in range(len(points)):
        kept = np.arange(len(points)) != left
        held_out.append(float(relative[left] @ nonnegative(relative[kept], ones[kept]) - 1))
    per_ms, milliseconds = chip.clock_hz / 1000, x / scale
    old = chip.rates
    rates = Rates(
        float(milliseconds[0]) * per_ms, float(milliseconds[2]) * per_ms, old.unaligned, old.int16, old.depthwise
    )
    bandwidth = 1000 / float(milliseconds[1]) if milliseconds[1] > 0 else chip.bandwidth["psram"]
    errors = tuple(float(v) for v in relative @ x - 1)
    return Fit(with_rates(chip, rates, bandwidth), tuple(points), errors, tuple(held_out))
