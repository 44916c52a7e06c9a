"""Second opinions for the tests of .espdl files: scalar arithmetic, and esp-ppq's own file classes."""

from __future__ import annotations

import sys
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def round_fraction(value: Fraction, rounding: str) -> int:
    """Round to nearest; ties up or to even."""
    if rounding == "half_up":
        return floor(value + Fraction(1, 2))
    return round(value)  # Python's round() of a Fraction is half to even


def clamp(value: int, bits: int) -> int:
    """Saturate to a signed width."""
    return max(-(1 << bits - 1), min((1 << bits - 1) - 1, value))


def conv(
    x: np.ndarray, weight: np.ndarray, bias: list[int], *, strides: tuple[int, int], pads: tuple[int, int, int, int],
    dilations: tuple[int, int], group: int, shifts: list[int], rounding: str, bits: int, relu: bool,
) -> np.ndarray:  # fmt: skip
    """A convolution one number at a time. ``x`` [H, W, C], ``weight`` [N, KH, KW, C / group], result [OH, OW, N]."""
    height, width, channels = x.shape
    n, kh, kw, per_group = weight.shape
    rows = (height + pads[0] + pads[2] - dilations[0] * (kh - 1) - 1) // strides[0] + 1
    columns = (width + pads[1] + pads[3] - dilations[1] * (kw - 1) - 1) // strides[1] + 1
    out = np.zeros((rows, columns, n), np.int64)
    for oy in range(rows):
        for ox in range(columns):
            for k in range(n):
                total = bias[k]
                first = k // (n // group) * per_group
                for ky in range(kh):
                    for kx in range(kw):
                        iy = oy * strides[0] - pads[0] + ky * dilations[0]
                        ix = ox * strides[1] - pads[1] + kx * dilations[1]
                        if not (0 <= iy < height and 0 <= ix < width):
                            continue
                        for c in range(per_group):
                            total += int(x[iy, ix, first + c]) * int(weight[k, ky, kx, c])
                value = clamp(round_fraction(Fraction(total) / Fraction(2) ** shifts[k], rounding), bits)
                out[oy, ox, k] = max(value, 0) if relu else value
    assert channels == per_group * group
    return out


def logical_filter(
    flat: np.ndarray, n: int, h: int, w: int, c: int, *, lanes: int, plain: bool, grouped: bool
) -> np.ndarray:
    """Stored filter -> [N, H, W, C], by computing the address of every single weight."""
    out = np.zeros((n, h, w, c), flat.dtype)
    whole = n // lanes * lanes
    for k in range(n):
        for y in range(h):
            for x in range(w):
                for i in range(c):
                    if plain:
                        at = ((y * w + x) * c + i) * n + k if grouped else ((k * h + y) * w + x) * c + i
                    elif k < whole:
                        at = ((((k // lanes) * h + y) * w + x) * c + i) * lanes + k % lanes
                    elif grouped:
                        at = whole * h * w * c + ((i * h + y) * w + x) * (n - whole) + k - whole
                    else:
                        at = whole * h * w * c + (((k - whole) * h + y) * w + x) * c + i
                    out[k, y, x, i] = flat[at]
    return out


def ppq_graph(data: bytes) -> Any:
    """The graph as the classes generated for esp-ppq see it (they trust the file, and import no torch)."""
    metadata = pytest.importorskip("importlib.metadata")
    folder = Path(str(metadata.distribution("esp-ppq").locate_file("esp_ppq/parser/espdl")))
    sys.path.insert(0, str(folder))
    try:
        from FlatBuffers.Dl import Model
    finally:
        sys.path.remove(str(folder))
    return Model.Model.GetRootAs(data[16:], 0).Graph()


def ppq_raw(tensor: Any, dtype: str) -> np.ndarray:
    """The flat stored integers of one of esp-ppq's Tensor objects (padding included)."""
    data = bytes(b for i in range(tensor.RawDataLength()) for b in tensor.RawData(i).Bytes())
    return np.frombuffer(data, dtype)
