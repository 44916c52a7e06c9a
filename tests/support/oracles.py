"""Plain per-pixel definitions of the image contract, to test the vectorised ones."""

from __future__ import annotations

import numpy as np


def camera_pixel(frame: bytes, width: int, height: int, stride: int, out: tuple[int, int], x: int, y: int) -> list[int]:
    """The two network bytes of destination (x, y), written down from the contract's words."""
    sx, sy = (x * width) // out[1], (y * height) // out[0]
    row = frame[sy * stride : sy * stride + 2 * width]
    macropixel = row[4 * (sx >> 1) : 4 * (sx >> 1) + 4]
    y0, u, y1, v = macropixel
    return [y1 if sx & 1 else y0, v if x & 1 else u]


def studio(rgb: np.ndarray) -> tuple[float, float, float]:
    """Y, U, V of one colour by the real-valued BT.601 studio-range formula."""
    r, g, b = (float(v) for v in rgb)
    return (
        16 + 0.257 * r + 0.504 * g + 0.098 * b,
        128 - 0.148 * r - 0.291 * g + 0.439 * b,
        128 + 0.439 * r - 0.368 * g - 0.071 * b,
    )
