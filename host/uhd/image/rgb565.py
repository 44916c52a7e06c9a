"""The camera path for RGB565 frames, to the two-channel network input. The firmware computes the same integers.

The contract in words: docs/image-contract.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.errors import ConfigError
from uhd.image.colour import yuv422_u8
from uhd.image.yuyv import frame_rows


def rgb_to_rgb565(rgb: NDArray[np.uint8], *, big_endian: bool = False) -> NDArray[np.uint8]:
    """A frame as a camera gives it: RGB uint8 [H,W,3] -> uint8 [H,2W], the lowest bits of each colour cut off."""
    wide = rgb.astype(np.uint16)
    words = (wide[..., 0] >> 3 << 11) | (wide[..., 1] >> 2 << 5) | (wide[..., 2] >> 3)
    return words.astype(">u2" if big_endian else "<u2").view(np.uint8)


def rgb565_to_rgb(words: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Pixels of 5, 6 and 5 bits, red highest, to RGB uint8 [..., 3]: the top bits again below, so white is 255."""
    r, g, b = words >> 11, words >> 5 & 63, words & 31
    return np.stack([r << 3 | r >> 2, g << 2 | g >> 4, b << 3 | b >> 2], axis=-1).astype(np.uint8)


def rgb565_to_network(
    frame: Any, width: int, height: int, stride_bytes: int | None = None, out: tuple[int, int] = (64, 64), *,
    big_endian: bool = False,
) -> NDArray[np.uint8]:  # fmt: skip
    """The network input of an RGB565 camera frame: bytes -> uint8 [out.h, out.w, 2].

    ``frame`` and ``stride_bytes`` as in ``uhd.image.yuyv.camera_to_network``; ``big_endian``: the byte with the red
    bits comes first. Destination (x, y) takes the source pixel (x * width // out.w, y * height // out.h), its colours
    filled up to 8 bits; then the picked pixels are packed like a photo's (``uhd.image.colour.yuv422_u8``). Raises
    ``DataError`` for an odd width, a stride that is too small and a buffer that is too short, ``ConfigError`` for an
    odd ``out`` width.
    """
    rows, columns = out
    data, starts = frame_rows(frame, width, height, stride_bytes, out)
    if columns % 2:
        raise ConfigError(f"yuv422 needs an even network width, not {columns}")
    places = starts[:, None] + 2 * (np.arange(columns) * width // columns)
    first, second = data[places].astype(np.uint16), data[places + 1].astype(np.uint16)
    words = first << 8 | second if big_endian else second << 8 | first
    return np.asarray(yuv422_u8(rgb565_to_rgb(words)), dtype=np.uint8)
