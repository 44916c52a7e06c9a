"""The integer operators of ESP-DL in NumPy: written to be read, exact by construction.

Activations are [1, H, W, C] arrays. Sums of products run as float64 matrix products: with 8- or 16-bit factors and
fewer than 2**22 terms every partial sum stays below 2**53, so each is an exact integer.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.errors import ModelError
from uhd.espdl.arith import Int64, round_ratio, round_shift
from uhd.espdl.shapes import Window
from uhd.targets import Rounding

Array = NDArray[Any]
_MAX_TERMS = 1 << 22


def pad(x: Array, geometry: Window, fill: int) -> Array:
    """``x`` with the window's padding, and as much more below and right as a ceil-mode window overhangs."""
    top, left, bottom, right = geometry.pads
    rows, columns = geometry.output(x.shape[1], x.shape[2])
    need = [
        (count - 1) * stride + dilation * (kernel - 1) + 1
        for count, stride, dilation, kernel in zip(
            (rows, columns), geometry.strides, geometry.dilations, geometry.kernel, strict=True
        )
    ]
    bottom = max(bottom, need[0] - x.shape[1] - top)
    right = max(right, need[1] - x.shape[2] - left)
    if not any((top, left, bottom, right)):
        return x
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)


def taps(x: Array, geometry: Window, fill: int) -> list[Array]:
    """For each filter tap (row by row) the [1, OH, OW, C] view of the padded input that it meets."""
    rows, columns = geometry.output(x.shape[1], x.shape[2])
    padded = pad(x, geometry, fill)
    (sy, sx), (dy, dx) = geometry.strides, geometry.dilations
    views = []
    for ky in range(geometry.kernel[0]):
        for kx in range(geometry.kernel[1]):
            y, z = ky * dy, kx * dx
            views.append(padded[:, y : y + (rows - 1) * sy + 1 : sy, z : z + (columns - 1) * sx + 1 : sx])
    return views


def conv_sums(x: Array, weight: Array, geometry: Window, group: int) -> Int64:
    """Sums of products of a convolution, [1, OH, OW, N], before bias and rounding.

    ``weight``: dense or grouped [N, H, W, C / group], depthwise [1, H, W, N].
    """
    views = taps(x, geometry, 0)
    if group > 1 and weight.shape[0] == 1:
        kernel = weight.reshape(-1, group).astype(np.int64)
        total = np.zeros(views[0].shape, np.int64)
        for view, factors in zip(views, kernel, strict=True):
            total += view * factors
        return total
    outputs = weight.shape[0] // group
    per_group = weight.shape[3]
    if weight[0].size >= _MAX_TERMS:
        raise ModelError(f"a filter sums {weight[0].size} products", hint="split the layer")
    columns = np.concatenate([view.reshape(-1, x.shape[3]) for view in views], axis=1).astype(np.float64)
    columns = columns.reshape(-1, len(views), group, per_group)
    sums = [
        columns[:, :, g].reshape(-1, len(views) * per_group)
        @ weight[g * outputs : (g + 1) * outputs].reshape(outputs, -1).T.astype(np.float64)
        for g in range(group)
    ]
    return np.concatenate(sums, axis=1).astype(np.int64).reshape(*views[0].shape[:3], -1)


def max_pool(x: Array, geometry: Window) -> Array:
    """Largest value under each window; padding never wins."""
    return np.maximum.reduce(taps(x, geometry, int(np.iinfo(x.dtype).min)))


def mean(x: Array, axes: tuple[int, ...], shift: int, rounding: Rounding) -> Int64:
    """Mean over ``axes`` (kept, size 1), divided by 2**shift, rounded once.

    esp-ppq takes the mean in float32 (float64 for int16) and then rounds; ESP-DL multiplies the integer sum by the
    two scales in float32. Both equal this for int8 and any power-of-two count; ESP-DL's int16 mean over other
    counts may differ in the last place once its 24-bit fraction is used up (more than 256 values).
    """
    sums = x.astype(np.int64).sum(axis=axes, keepdims=True)
    count = math.prod(x.shape[axis] for axis in axes)
    over, under = (1 << max(-shift, 0)), count << max(shift, 0)
    values = [round_ratio(int(total) * over, under, rounding) for total in sums.reshape(-1)]
    limit = 1 << 62
    return np.array([max(-limit, min(limit, v)) for v in values], np.int64).reshape(sums.shape)


def resize_nearest(x: Array, height: int, width: int) -> Array:
    """Source index floor(i * in / out): ONNX's "asymmetric" coordinates with "floor"."""
    rows = np.arange(height) * x.shape[1] // height
    columns = np.arange(width) * x.shape[2] // width
    return x[:, rows][:, :, columns]


def lut(x: Array, table: Array, rounding: Rounding) -> Array:
    """Table look-up. int8: 256 entries from -128 up. int16: 65536 / step + 1 entries, nearest one (ESP-DL's
    ``lut_s16_nearest_neighbor``, which rounds the index as the chip rounds shifts).
    """
    flat = table.reshape(-1)
    if x.dtype == np.int8:
        if flat.size != 256:
            raise ModelError(f"a table of {flat.size} entries for int8", hint="quantize the model again")
        return flat[x.astype(np.int64) + 128]
    steps = flat.size - 1
    if steps < 1 or steps > 65536 or steps & (steps - 1):
        raise ModelError(f"a table of {flat.size} entries for int16", hint="use a power-of-two step")
    shift = (65536 // steps).bit_length() - 1
    return flat[round_shift(x.astype(np.int64) + 32768, shift, rounding)]
