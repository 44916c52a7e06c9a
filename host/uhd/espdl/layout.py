"""Filter storage orders of the .espdl file, and back to the logical order.

The file's ``dims`` always say H, W, C, N (or H, W, N, C for grouped filters), but the bytes lie differently:
plain targets keep N, H, W, C (grouped: H, W, C, N); SIMD targets keep blocks of ``lanes`` output channels,
[N / lanes][H][W][C][lanes], and after them the channels that fill no block as n, H, W, C (grouped: C, H, W, n).
The tensor's note ``layout ==> ...`` names the order.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from uhd.errors import ModelError

#: Note in the file -> output channels per block (1: plain order).
LANES: dict[str, int] = {
    "NHWC": 1,
    "HWCN": 1,
    "(N/16)HWC16": 16,
    "(N/16)HWC16_UNALIGNED": 16,
    "(N/8)HWC8": 8,
    "(N/8)HWC8_UNALIGNED": 8,
}


def filter_dims(dims: tuple[int, ...], grouped: bool) -> tuple[int, int, int, int]:
    """(N, H, W, C) of a filter from the four ``dims`` in the file; C is channels per group."""
    height, width, third, fourth = dims
    return (third, height, width, fourth) if grouped else (fourth, height, width, third)


def unpack_filter(
    flat: NDArray[np.generic], nhwc: tuple[int, int, int, int], layout: str, grouped: bool
) -> NDArray[np.generic]:
    """Stored integers -> logical [N, H, W, C] (a copy). Raises ``ModelError`` for an unknown ``layout``."""
    n, h, w, c = nhwc
    if layout not in LANES:
        raise ModelError(f"unknown filter layout {layout[:40]!r}", hint="quantize the model with esp-ppq 1.3.12")
    lanes = LANES[layout]
    if lanes == 1:
        if grouped:
            return np.ascontiguousarray(flat.reshape(h, w, c, n).transpose(3, 0, 1, 2))
        return flat.reshape(n, h, w, c).copy()
    whole = n // lanes * lanes
    per_channel = h * w * c
    blocks = flat[: whole * per_channel].reshape(n // lanes, h, w, c, lanes).transpose(0, 4, 1, 2, 3)
    rest = flat[whole * per_channel :]
    tail = rest.reshape(c, h, w, n - whole).transpose(3, 1, 2, 0) if grouped else rest.reshape(n - whole, h, w, c)
    return np.concatenate([blocks.reshape(whole, h, w, c), tail])


def pack_filter(logical: NDArray[np.generic], layout: str, grouped: bool) -> NDArray[np.generic]:
    """The inverse of ``unpack_filter``: logical [N, H, W, C] -> the flat stored order of ``layout``."""
    if layout not in LANES:
        raise ModelError(f"unknown filter layout {layout[:40]!r}", hint="use one of " + ", ".join(LANES))
    n, h, w, c = logical.shape
    lanes = LANES[layout]
    if lanes == 1:
        return logical.transpose(1, 2, 3, 0).reshape(-1) if grouped else logical.reshape(-1)
    whole = n // lanes * lanes
    blocks = logical[:whole].reshape(n // lanes, lanes, h, w, c).transpose(0, 2, 3, 4, 1)
    tail = logical[whole:].transpose(3, 1, 2, 0) if grouped else logical[whole:]
    return np.concatenate([blocks.reshape(-1), tail.reshape(-1)])


def count(shape: tuple[int, ...]) -> int:
    """Number of elements of ``shape`` (1 for a scalar)."""
    return math.prod(shape)
