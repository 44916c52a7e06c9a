"""The camera path: a packed YUYV frame to the two-channel network input. The firmware computes the same integers.

The contract in words: docs/image-contract.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.errors import DataError
from uhd.image.colour import yuv422_u8


def rgb_to_yuyv(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame as a camera gives it: RGB uint8 [H,W,3] -> uint8 [H,2W], bytes Y0 U Y1 V of each pixel pair.

    The integers of OpenCV's ``RGB2YUV_YUYV``. Raises ``ConfigError`` for an odd width.
    """
    packed = np.asarray(yuv422_u8(rgb), dtype=np.uint8)
    return packed.reshape(packed.shape[0], 2 * packed.shape[1])


def frame_rows(
    frame: Any, width: int, height: int, stride_bytes: int | None, out: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Bytes of a camera frame of two bytes a pixel, and where in them the row of each destination row starts.

    Raises ``DataError`` for sizes that do not fit.
    """
    stride = 2 * width if stride_bytes is None else stride_bytes
    rows, columns = out
    if min(width, height, rows, columns) < 1:
        raise DataError(f"camera frame of {width} x {height} to {columns} x {rows}: sizes must be at least 1")
    if width % 2:
        raise DataError(
            f"camera frame is {width} pixels wide", hint="cameras pack pixels in pairs, the width must be even"
        )
    if stride < 2 * width:
        raise DataError(f"camera frame has a stride of {stride} bytes, but a row of {width} pixels takes {2 * width}")
    data = np.frombuffer(np.ascontiguousarray(frame) if isinstance(frame, np.ndarray) else frame, dtype=np.uint8)
    needed = (height - 1) * stride + 2 * width
    if len(data) < needed:
        raise DataError(
            f"camera frame holds {len(data)} bytes, but {width} x {height} pixels at a stride of {stride} take {needed}"
        )
    return data, np.arange(rows) * height // rows * stride


def camera_to_network(
    frame: Any, width: int, height: int, stride_bytes: int | None = None, out: tuple[int, int] = (64, 64)
) -> NDArray[np.uint8]:
    """Pick the network input from a camera frame: YUYV bytes -> uint8 [out.h, out.w, 2].

    ``frame``: any buffer of bytes (bytes, memoryview, uint8 array of any shape); row ``y`` starts at byte ``y *
    stride_bytes`` (default ``2 * width``; any number from there on, odd ones included). Destination (x, y) takes the
    source pixel (x * width // out.w, y * height // out.h): channel 0 is its Y, channel 1 the U (x even) or V (x odd) of
    the pixel pair that it lies in. Raises ``DataError`` for an odd width, a stride that is too small and a buffer that
    is too short.
    """
    data, starts = frame_rows(frame, width, height, stride_bytes, out)
    row_start = starts[:, None]
    x = np.arange(out[1])
    source_x = x * width // out[1]
    luma = row_start + 2 * source_x
    chroma = row_start + 4 * (source_x // 2) + 1 + 2 * (x % 2)
    return data[np.stack([luma, chroma], axis=-1)]
