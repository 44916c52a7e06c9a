"""Figures of one layer's outputs, gathered photo by photo."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Ratio that stands for "no noise at all", and the most that is told (dB).
MOST_DB = 200.0
#: Bins of a histogram over the whole range of a type: one an integer in int8, one for 256 integers in int16.
BINS = 256


def used_bits(lowest: int, highest: int) -> int:
    """Bits of the narrowest signed integer that holds both."""
    return 1 + max((value if value >= 0 else ~value).bit_length() for value in (lowest, highest))


@dataclass(frozen=True)
class Spread:
    """How integers lie in the range of their type.

    ``histogram``: ``BINS`` counts over that range. ``at_lowest``, ``at_highest``: shares (0 to 1) of the integers that
    are the type's ends, which is where saturation puts them.
    """

    count: int
    lowest: int
    highest: int
    used_bits: int
    at_lowest: float
    at_highest: float
    histogram: tuple[int, ...]


class Counts:
    """Counts of every value of an int8 or int16 tensor."""

    def __init__(self, dtype: str) -> None:
        limits = np.iinfo(dtype)
        self._first = int(limits.min)
        self._counts = np.zeros(int(limits.max) - int(limits.min) + 1, np.int64)

    def add(self, values: NDArray[Any]) -> None:
        """Take the integers of another photo in."""
        places = values.reshape(-1).astype(np.int64) - self._first
        self._counts += np.bincount(places, minlength=len(self._counts))

    def spread(self) -> Spread:
        """The figures of all that was added. Raises ``ValueError`` if that is nothing."""
        total = int(self._counts.sum())
        if total == 0:
            raise ValueError("no integers were counted")
        seen = np.flatnonzero(self._counts)
        lowest, highest = self._first + int(seen[0]), self._first + int(seen[-1])
        return Spread(
            count=total,
            lowest=lowest,
            highest=highest,
            used_bits=used_bits(lowest, highest),
            at_lowest=int(self._counts[0]) / total,
            at_highest=int(self._counts[-1]) / total,
            histogram=tuple(int(count) for count in self._counts.reshape(BINS, -1).sum(axis=1)),
        )


@dataclass
class Noise:
    """Energy of a signal and of what was added to it."""

    signal: float = 0.0
    noise: float = field(default=0.0)

    def add(self, wanted: NDArray[Any], found: NDArray[Any]) -> None:
        """Take in what should be there, and what is."""
        exact = wanted.astype(np.float64)
        self.signal += float(np.sum(exact**2))
        self.noise += float(np.sum((found.astype(np.float64) - exact) ** 2))

    @property
    def db(self) -> float | None:
        """10 log10(signal / noise), ``MOST_DB`` at most; None where there is no signal."""
        if self.signal == 0:
            return None
        if self.noise == 0:
            return MOST_DB
        return min(MOST_DB, 10 * math.log10(self.signal / self.noise))
