"""Network inputs and photos as pictures that people can look at."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

#: Longest side of a photo that is shown, in pixels.
MOST_SHOWN = 640
_QUALITY = 85
#: Channels of a network input that is a picture.
SHOWN_CHANNELS = (1, 2, 3)


def rgb_of_network(network: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3] of a network input uint8 [H, W, C]: C = 3 as it is, 1 grey, 2 studio-range YUV 4:2:2.

    A packed picture of odd width loses nothing: its last column takes the chroma of its neighbour.
    """
    height, width, channels = network.shape
    if channels == 3:
        return network
    if channels == 1:
        return np.repeat(network, 3, axis=2)
    if channels != 2:
        raise ValueError(f"a network input of {channels} channels is no picture")
    even = width - width % 2
    if not even:
        return np.repeat(network[..., :1], 3, axis=2)
    packed = np.ascontiguousarray(network[:, :even])
    rgb = np.asarray(cv2.cvtColor(packed, cv2.COLOR_YUV2RGB_YUYV), np.uint8)
    return rgb if even == width else np.concatenate([rgb, rgb[:, -1:]], axis=1)


def photo_jpeg(rgb: NDArray[np.uint8]) -> bytes:
    """A photo, RGB uint8 [H, W, 3], as JPEG of at most ``MOST_SHOWN`` pixels a side."""
    scale = MOST_SHOWN / max(rgb.shape[:2])
    if scale < 1:
        size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()
