"""Integer rounding as the chips do it. All functions are exact on 64-bit integers; none goes through floats.

Facts: ESP-DL rounds right shifts half up (floor(x + 1/2)) on ESP32 and ESP32-S3, half to even on ESP32-P4
(``dl_define_private.hpp``, ``dl_tool.cpp``); a negative shift multiplies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uhd.targets import Rounding

Int64 = NDArray[np.int64]

#: Beyond this magnitude every result saturates, whatever is shifted left afterwards.
_LEFT_LIMIT = 1 << 31


def round_shift(values: NDArray[Any], shift: ArrayLike, rounding: Rounding) -> Int64:
    """values / 2**shift, rounded.

    Args:
        values: integers of any shape.
        shift: one integer, or an array that broadcasts against ``values``; negative shifts multiply, saturating
            at +-2**62 (far beyond the 16 bits any result is cut to).
        rounding: of the right shift.
    """
    wide = values.astype(np.int64)
    amount = np.asarray(shift, dtype=np.int64)
    right = np.clip(amount, 0, 63)
    floor = wide >> right
    rest = wide - (floor << right)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), np.int64(1))
    tie_goes_up = (floor & 1 == 1) | (rounding == "half_up")
    up = (rest > half) | ((rest == half) & tie_goes_up)
    result = np.where(amount > 63, 0, floor + up)
    if np.any(amount < 0):
        multiplied = np.clip(wide, -_LEFT_LIMIT, _LEFT_LIMIT) << np.clip(-amount, 0, 31)
        result = np.where(amount < 0, multiplied, result)
    return result


def round_ratio(numerator: int, denominator: int, rounding: Rounding) -> int:
    """numerator / denominator (positive), rounded; Python integers of any size."""
    floor, rest = divmod(numerator, denominator)
    if rounding == "half_up":
        return floor + (2 * rest >= denominator)
    return floor + (2 * rest > denominator or (2 * rest == denominator and floor % 2 == 1))


def round_real(values: NDArray[np.float64], rounding: Rounding) -> Int64:
    """Real numbers, rounded; what lies beyond 32 bits saturates there."""
    rounded = np.floor(values + 0.5) if rounding == "half_up" else np.rint(values)
    return np.clip(rounded, -float(_LEFT_LIMIT), float(_LEFT_LIMIT)).astype(np.int64)


def saturate(values: Int64, dtype: str) -> NDArray[Any]:
    """``values`` cut to the range of ``dtype`` (int8 or int16) and converted to it."""
    limits = np.iinfo(dtype)
    return np.clip(values, limits.min, limits.max).astype(dtype)
