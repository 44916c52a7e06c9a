"""The C++ kernels through ctypes, and slow references that share no code with the package."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from uhd.device import compile as compiling
from uhd.errors import ToolMissingError

API = Path(__file__).with_name("kernels_api.cpp")
_WINDOW = ("in_h", "in_w", "in_c", "out_h", "out_w", "out_c", "kernel_h", "kernel_w", "stride_h", "stride_w",
           "dilation_h", "dilation_w", "pad_top", "pad_left")  # fmt: skip


class Window(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint16) for name in _WINDOW]


def _structure(name: str, *fields: tuple[str, Any]) -> Any:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields)})


_U32, _I32, _I64, _I8, _U16 = ctypes.c_uint32, ctypes.c_int32, ctypes.c_int64, ctypes.c_int8, ctypes.c_uint16
_LIMITS = (("lowest", _I32), ("highest", _I32))
GemmConv = _structure("GemmConv", ("window", Window), ("stream", _U32), ("bias", _U32), ("shift", _U32), *_LIMITS,
                      ("out_pitch", _U16))  # fmt: skip
DepthwiseConv = _structure("DepthwiseConv", ("window", Window), *((n, _U32) for n in
                           ("weights", "mode", "centre", "bias", "shift")), *_LIMITS)  # fmt: skip
AnyConv = _structure("AnyConv", ("window", Window), ("groups", _U16), ("weights", _U32), ("bias", _U32),
                     ("shift", _U32), *_LIMITS)  # fmt: skip
Binary = _structure("Binary", *((n, _U32) for n in ("h", "w", "c", "a_row", "a_column", "a_channel", "b_row",
                    "b_column", "b_channel")), ("shift", _I8), *_LIMITS)  # fmt: skip
Requantize = _structure("Requantize", ("count", _U32), ("shift", _I8), *_LIMITS)
Mean = _structure("Mean", ("pixels", _U32), ("channels", _U32), ("numerator", _I64), ("denominator", _I64))
Resize = _structure("Resize", ("in_h", _U16), ("in_w", _U16), ("out_h", _U16), ("out_w", _U16), ("pixel_bytes", _U32))
Move = _structure("Move", ("extent", _U32 * 6), ("from", _U32 * 6), ("to", _U32 * 6))


@functools.cache
def library(scalar: bool = False) -> ctypes.CDLL:
    """The kernels compiled for this machine; ``scalar``: with the device's lanes instead of vectors."""
    try:
        toolchain = compiling.host_toolchain()
    except ToolMissingError as error:
        pytest.skip(str(error))
    defines = ["UHD_SCALAR_LANES=1"] if scalar else []
    # Not the backend, which asks for a model.
    sources = [*(p for p in compiling.runtime_sources() if p.name != "backend.cpp"), API]
    return ctypes.CDLL(str(compiling.build(toolchain, sources, "test-kernels.so", defines=defines)))


def pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


def guarded(count: int, dtype: Any, fill: int = 0x5A) -> tuple[NDArray[Any], NDArray[Any]]:
    """(whole, view): ``count`` elements, 16-byte aligned, between 64 guard bytes on either side."""
    size = count * np.dtype(dtype).itemsize
    raw = np.full(size + 64 + 64 + 16, fill, np.uint8)
    start = 64 + (-(raw.ctypes.data + 64)) % 16
    return raw, raw[start : start + size].view(dtype)


def guards_intact(whole: NDArray[Any], view: NDArray[Any], fill: int = 0x5A) -> bool:
    """Whether nothing was written beside the view."""
    start = view.ctypes.data - whole.ctypes.data
    rest = np.concatenate([whole[:start], whole[start + view.nbytes :]])
    return bool((rest == fill).all())


def reference_round(value: int, shift: int, even: bool) -> int:
    """value / 2**shift on Python integers; negative shifts multiply."""
    if shift <= 0:
        return value << -shift
    floor, rest = value >> shift, value & ((1 << shift) - 1)
    half = 1 << (shift - 1)
    up = rest > half or (rest == half and (not even or floor & 1))
    return floor + int(up)


def reference_conv(
    x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any], shift: NDArray[Any], window: Window, groups: int,
    limits: tuple[int, int], even: bool,
) -> NDArray[Any]:  # fmt: skip
    """Convolution straight from its definition. ``x`` [H, W, C], ``weight`` [N, KH, KW, C / groups]."""
    w, outputs = window, weight.shape[0] // groups
    result = np.zeros((w.out_h, w.out_w, weight.shape[0]), np.int64)
    for oy in range(w.out_h):
        for ox in range(w.out_w):
            patch = np.zeros((w.kernel_h, w.kernel_w, w.in_c), np.int64)
            for ky in range(w.kernel_h):
                for kx in range(w.kernel_w):
                    iy = oy * w.stride_h + ky * w.dilation_h - w.pad_top
                    ix = ox * w.stride_w + kx * w.dilation_w - w.pad_left
                    if 0 <= iy < w.in_h and 0 <= ix < w.in_w:
                        patch[ky, kx] = x[iy, ix]
            for n in range(weight.shape[0]):
                first = n // outputs * weight.shape[3]
                total = int((patch[:, :, first : first + weight.shape[3]] * weight[n].astype(np.int64)).sum())
                value = reference_round(total + int(bias[n]), int(shift[n]), even)
                result[oy, ox, n] = min(max(value, limits[0]), limits[1])
    return result
