"""Colour conversion in the integers of OpenCV, for NumPy arrays and torch tensors alike.

Weights are fractions of 2**14 and every sum is rounded half up by adding 2**13 before the shift. Full-range luma
follows BT.601; the packed form uses studio range (Y 16..235, U and V 16..240), and its chroma is that of the sum of a
pixel pair. All sums stay within 32 bits.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from uhd.errors import ConfigError

Array = Any
"""A NumPy array or a torch tensor of integers in 0..255; every function returns the kind that it was given."""

_SHIFT = 14
_ROUND = 1 << (_SHIFT - 1)
LUMA = (4899, 9617, 1868)
"""Full-range Y of R, G, B: .299, .587, .114."""
STUDIO_LUMA = (4211, 8258, 1606)
"""Studio-range Y of R, G, B: .257, .504, .098, plus 16."""
PAIR_U = (-1212, -2384, 3596)
"""U of the sum of two pixels (half of -.148, -.291, .439), plus 128."""
PAIR_V = (3596, -3015, -582)
"""V of the sum of two pixels (half of .439, -.368, -.071), plus 128."""


def _torch_of(array: Array) -> Any:
    """The torch module if ``array`` is a tensor, else ``None``; never imports torch."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(array, torch.Tensor) else None


def _to_int32(rgb: Array) -> Array:
    if rgb.ndim < 3 or rgb.shape[-1] != 3:
        raise ValueError(f"expected RGB of shape [..., H, W, 3], got {tuple(rgb.shape)}")
    torch = _torch_of(rgb)
    return rgb.to(torch.int32) if torch else np.asarray(rgb).astype(np.int32)


def _to_uint8(values: Array) -> Array:
    torch = _torch_of(values)
    return values.to(torch.uint8) if torch else values.astype(np.uint8)


def _stack(values: list[Array], axis: int) -> Array:
    torch = _torch_of(values[0])
    return torch.stack(values, axis) if torch else np.stack(values, axis)


def _weigh(rgb: Array, weights: tuple[int, int, int], offset: int) -> Array:
    r, g, b = weights
    total = rgb[..., 0] * r + rgb[..., 1] * g + rgb[..., 2] * b
    return (total + ((offset << _SHIFT) + _ROUND)) >> _SHIFT


def luma_u8(rgb: Array) -> Array:
    """Full-range luma, [..., H, W, 3] -> uint8 [..., H, W]; equals channel 0 of OpenCV's ``RGB2YUV``."""
    return _to_uint8(_weigh(_to_int32(rgb), LUMA, 0))


def yuv422_u8(rgb: Array) -> Array:
    """Packed studio-range YUV, [..., H, W, 3] -> uint8 [..., H, W, 2]; equals OpenCV's ``RGB2YUV_YUYV``.

    Channel 0 is Y; channel 1 is U at even x and V at odd x, both of the pixel pair. Raises ``ConfigError`` for an odd
    width.
    """
    wide = _to_int32(rgb)
    if wide.shape[-2] % 2:
        raise ConfigError(f"yuv422 needs an even picture width, not {wide.shape[-2]}")
    pairs = wide[..., 0::2, :] + wide[..., 1::2, :]
    chroma = _stack([_weigh(pairs, PAIR_U, 128), _weigh(pairs, PAIR_V, 128)], -1)
    luma = _weigh(wide, STUDIO_LUMA, 16)
    return _to_uint8(_stack([luma, chroma.reshape(luma.shape)], -1))
