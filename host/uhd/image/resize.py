"""From a picture of any size to the network input: the eight resize modes.

The integer modes pick pixels by nearest neighbour and, where they say so, convert colour in integers; their network
input is one byte a channel (``network_input_u8``), which ``network_values`` turns into the real number. The two linear
modes interpolate in float32.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from uhd.errors import ConfigError
from uhd.image.colour import luma_u8, yuv422_u8

_CHANNELS = {
    "torch_bilinear": 3,
    "torch_nearest": 3,
    "opencv_inter_linear": 3,
    "opencv_inter_nearest": 3,
    "opencv_inter_nearest_y": 1,
    "opencv_inter_nearest_y_bin": 1,
    "opencv_inter_nearest_y_tri": 1,
    "opencv_inter_nearest_yuv422": 2,
}
RESIZE_MODES = tuple(_CHANNELS)
INTEGER_MODES = tuple(mode for mode in RESIZE_MODES if "linear" not in mode)
"""The modes whose network input is one byte a channel."""

Index = NDArray[np.int64]


def normalise_mode(mode: str) -> str:
    """The mode in its written form: lower case, underscores. Raises ``ConfigError`` for a mode that does not exist."""
    name = mode.lower().replace("-", "_")
    if name not in _CHANNELS:
        raise ConfigError(f"unknown resize mode {mode!r}", hint=f"choose one of {', '.join(RESIZE_MODES)}")
    return name


def input_channels(mode: str) -> int:
    """Channels of the network input: 3, 2 (yuv422) or 1 (luma)."""
    return _CHANNELS[normalise_mode(mode)]


def network_values(mode: str) -> NDArray[np.float32]:
    """The network's real input for each byte of an integer mode, [256] float32.

    byte / 255, but for the modes that threshold luma: ``y_bin`` 0 or 1 from 128, ``y_tri`` 0, 0.5 from 85, 1 from 170.
    """
    name = normalise_mode(mode)
    if name not in INTEGER_MODES:
        raise ConfigError(f"resize mode {name} has no byte form", hint=f"integer modes: {', '.join(INTEGER_MODES)}")
    byte = np.arange(256)
    if name.endswith("_y_bin"):
        return (2 * byte >= 255).astype(np.float32)
    if name.endswith("_y_tri"):
        return np.where(3 * byte < 255, 0, np.where(3 * byte < 510, 0.5, 1)).astype(np.float32)
    return byte.astype(np.float32) / np.float32(255)


def opencv_nearest_index(source: int, target: int) -> Index:
    """Source pixel of each target pixel as OpenCV's INTER_NEAREST computes it, in double precision.

    That is floor(i * source / target) except where 1 / (target / source) rounds down: for a target of 64, 149 of the
    sources up to 4096 (the first is 186) have a pixel that comes from one place earlier.
    """
    step = 1.0 / (target / source)
    return np.minimum(np.floor(np.arange(target) * step).astype(np.int64), source - 1)


def torch_nearest_index(source: int, target: int) -> Index:
    """Source pixel of each target pixel as torch's ``nearest`` computes it, in single precision."""
    step = np.float32(source) / np.float32(target)
    return np.minimum(np.floor(np.arange(target, dtype=np.float32) * step).astype(np.int64), source - 1)


def _linear_index(source: int, target: int) -> tuple[Index, Index, NDArray[np.float32]]:
    """Two neighbours and the weight of the second, as torch's ``bilinear`` (align_corners False, no antialias).

    torch computes scale * (i + 0.5) - 0.5 in single precision with one rounding (a fused multiply-add).
    """
    step = np.float32(source) / np.float32(target)
    exact = np.float64(step) * (np.arange(target) + 0.5) - 0.5
    place = np.maximum(exact.astype(np.float32), np.float32(0))
    first = np.minimum(place.astype(np.int64), source - 1)
    return first, np.minimum(first + 1, source - 1), place - first.astype(np.float32)


def _torch_bilinear(rgb: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    above, below, down = _linear_index(rgb.shape[0], size[0])
    left, right, across = _linear_index(rgb.shape[1], size[1])
    across, down = across[None, :, None], down[:, None, None]

    def mixed(rows: Index) -> NDArray[np.float32]:
        line = rgb[rows]
        return line[:, left] * (1 - across) + line[:, right] * across

    return np.asarray(mixed(above) * (1 - down) + mixed(below) * down, dtype=np.float32)


def _check(rgb: NDArray[Any], size: tuple[int, int]) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"expected an RGB picture [H,W,3], got shape {rgb.shape}")
    if rgb.dtype not in (np.uint8, np.float32):
        raise ValueError(f"expected uint8 or float32 pixels, got {rgb.dtype}")
    if min(size) < 1:
        raise ConfigError(f"size must be at least 1 x 1, not {size[0]} x {size[1]}")


def network_input_u8(rgb: NDArray[np.uint8], size: tuple[int, int], mode: str) -> NDArray[np.uint8]:
    """The network input as bytes: RGB uint8 [H,W,3] -> uint8 [size.h, size.w, channels].

    ``size`` is (height, width). ``network_values(mode)[byte]`` is the real input: byte / 255, and for ``y_bin`` and
    ``y_tri`` the thresholds applied to this same luma byte. Raises ``ConfigError`` for a linear mode and for yuv422
    with an odd width.
    """
    _check(rgb, size)
    name = normalise_mode(mode)
    if name not in INTEGER_MODES:
        raise ConfigError(f"resize mode {name} has no byte form", hint=f"integer modes: {', '.join(INTEGER_MODES)}")
    index = torch_nearest_index if name == "torch_nearest" else opencv_nearest_index
    picked = rgb[index(rgb.shape[0], size[0])][:, index(rgb.shape[1], size[1])]
    if input_channels(name) == 3:
        return picked
    if input_channels(name) == 2:
        return np.asarray(yuv422_u8(picked), dtype=np.uint8)
    return np.asarray(luma_u8(picked), dtype=np.uint8)[..., None]


def resize_image(rgb: NDArray[np.uint8] | NDArray[np.float32], size: tuple[int, int], mode: str) -> NDArray[np.float32]:
    """The network input as real numbers: RGB [H,W,3] -> float32 [size.h, size.w, channels] in 0..1.

    ``rgb`` is uint8, or float32 in 0..1 (colour modes then take the byte trunc(255 * clip(x))). ``size`` is (height,
    width). Raises ``ConfigError`` for an unknown mode and for yuv422 with an odd width.
    """
    _check(rgb, size)
    name = normalise_mode(mode)
    if name in INTEGER_MODES and (rgb.dtype == np.uint8 or input_channels(name) < 3):
        return network_values(name)[network_input_u8(to_bytes(rgb), size, name)]
    real = rgb.astype(np.float32) / np.float32(255) if rgb.dtype == np.uint8 else np.asarray(rgb, dtype=np.float32)
    if name == "torch_bilinear":
        resized = _torch_bilinear(real, size)
    elif name == "opencv_inter_linear":
        planes = [np.ascontiguousarray(real[..., c]) for c in range(3)]
        resized = np.stack([cv2.resize(p, size[::-1], interpolation=cv2.INTER_LINEAR) for p in planes], axis=-1)
    else:
        index = torch_nearest_index if name == "torch_nearest" else opencv_nearest_index
        resized = real[index(real.shape[0], size[0])][:, index(real.shape[1], size[1])]
    return np.clip(resized, 0, 1)


def to_bytes(rgb: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 as it is; float32 in 0..1 as trunc(255 * clip(x)). Exact for byte / 255."""
    if rgb.dtype == np.uint8:
        return rgb
    return np.clip(rgb * np.float32(255), 0, 255).astype(np.uint8)
