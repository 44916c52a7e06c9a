"""The camera contract once more, one pixel at a time, from its wording alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def slow_camera_to_network(
    data: bytes, width: int, height: int, stride: int, out: tuple[int, int]
) -> NDArray[np.uint8]:
    """uint8 [out height, out width, 2] of a YUYV picture."""
    out_height, out_width = out
    result = np.zeros((out_height, out_width, 2), np.uint8)
    for y in range(out_height):
        for x in range(out_width):
            source_x, source_y = x * width // out_width, y * height // out_height
            row = data[source_y * stride : source_y * stride + 2 * width]
            macropixel = row[4 * (source_x // 2) : 4 * (source_x // 2) + 4]  # Y0 U Y1 V
            result[y, x, 0] = macropixel[0] if source_x % 2 == 0 else macropixel[2]
            result[y, x, 1] = macropixel[1] if x % 2 == 0 else macropixel[3]
    return result
