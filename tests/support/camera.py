"""The camera contracts once more, one pixel at a time, from their wording alone."""

from __future__ import annotations

import cv2
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


def slow_rgb565_to_network(
    data: bytes, width: int, height: int, stride: int, out: tuple[int, int], big_endian: bool
) -> NDArray[np.uint8]:
    """uint8 [out height, out width, 2] of an RGB565 picture; OpenCV packs the picked pixels."""
    out_height, out_width = out
    picked = np.zeros((out_height, out_width, 3), np.uint8)
    for y in range(out_height):
        for x in range(out_width):
            start = y * height // out_height * stride + 2 * (x * width // out_width)
            bits = f"{int.from_bytes(data[start : start + 2], 'big' if big_endian else 'little'):016b}"
            red, green, blue = bits[:5], bits[5:11], bits[11:]
            picked[y, x] = [int((colour * 2)[:8], 2) for colour in (red, green, blue)]
    return np.asarray(cv2.cvtColor(picked, cv2.COLOR_RGB2YUV_YUYV), np.uint8)
