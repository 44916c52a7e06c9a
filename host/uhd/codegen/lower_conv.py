"""Convolutions: the fastest kernel that provably gives the same integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uhd.codegen.lower import Lowering, limits, unsupported
from uhd.codegen.pack import GROUP, SUMS_BY_ROW, Int64, depthwise_sums, pack_dense, sum_bound
from uhd.codegen.steps import DataBase, DescriptorRef, Fields, Ref, Scratch, Value
from uhd.espdl import shapes
from uhd.espdl.model import Node

_MAX_SHIFT = {1: 30, 2: 62}
_SUM_LIMIT = {1: 1 << 31, 2: 1 << 62}
#: Of the depthwise kernel (kDepthwiseMaxKernel, kDepthwiseMaxStride).
_MAX_KERNEL_COLUMNS, _MAX_STRIDE = 32, 4
_ACCUMULATOR = {1: "<i4", 2: "<i8"}


@dataclass(frozen=True)
class _Conv:
    """A convolution, ready to be packed: ``weight`` [N, products], ``bias`` and ``shift`` [N], clamp limits."""

    node: Node
    x: Value
    y: Value
    weight: Int64
    bias: Int64
    shift: Int64
    window: Fields
    group: int
    lowest: int
    highest: int

    @property
    def half(self) -> Int64:
        """Half of 2**shift, which turns a shift into a rounding one."""
        return np.where(self.shift > 0, np.int64(1) << np.maximum(self.shift - 1, 0), 0)

    @property
    def fits(self) -> bool:
        """Whether the fast kernels' shifts and sums suffice."""
        if self.shift.min() < 0 or self.shift.max() > _MAX_SHIFT[self.x.bytes]:
            return False
        bound = sum_bound(self.weight, self.x.low, self.x.high) + np.abs(self.bias) + self.half
        return bool(bound.max() < _SUM_LIMIT[self.x.bytes])


def window_fields(node: Node, x: tuple[int, ...], y: tuple[int, ...]) -> Fields:
    """The C++ ``Window`` of a Conv or pooling node on NHWC shapes."""
    geometry = shapes.window(node)
    fields = dict(
        zip(
            ("in_h", "in_w", "in_c", "out_h", "out_w", "out_c", "kernel_h", "kernel_w", "stride_h", "stride_w",
             "dilation_h", "dilation_w", "pad_top", "pad_left"),
            (*x[1:], *y[1:], *geometry.kernel, *geometry.strides, *geometry.dilations, *geometry.pads[:2]),
            strict=True,
        )
    )  # fmt: skip
    for name, value in fields.items():
        if not 0 <= value <= 0xFFFF:
            raise unsupported(node, f"{name} is {value}, more than 65535", "use a smaller input")
    return fields


def lower_conv(state: Lowering, node: Node) -> None:
    """Conv: dense, depthwise or any other grouping, int8 or int16."""
    x = state.value(node)
    filter_ = state.constant(node.inputs[1])
    assert filter_ is not None and filter_.data is not None  # the reader has checked it
    if filter_.dtype != x.ctype.removesuffix("_t") or state.model.tensors[node.outputs[0]].dtype != filter_.dtype:
        raise unsupported(node, f"a filter of {filter_.dtype} on {x.ctype}", "quantize filter and activations alike")
    exponents = np.array(filter_.exponents, np.int64) + state.exponent(x.name)
    channels = state.model.tensors[node.outputs[0]].shape[3]
    bias = np.zeros(channels, np.int64)
    if len(node.inputs) > 2 and node.inputs[2]:
        tensor = state.constant(node.inputs[2])
        if tensor is None or tensor.data is None:
            raise unsupported(node, "the bias is not a constant")
        bias = tensor.data.reshape(-1).astype(np.int64)
        if not np.array_equal(np.broadcast_to(tensor.exponents, exponents.shape), exponents):
            raise unsupported(
                node, f"the bias has exponent {tensor.exponents[0]}, its products {exponents[0]}",
                "quantize again with other calibration data",
            )  # fmt: skip
    shift = np.broadcast_to(state.exponent(node.outputs[0]) - exponents, channels).astype(np.int64)
    low, high = limits(x)
    low = 0 if node.attributes.get("activation") == "Relu" else low
    y = state.make(node, low, high)
    weight = filter_.data.astype(np.int64)
    depthwise = shapes.is_depthwise(node, filter_)
    weight = np.ascontiguousarray(weight.reshape(-1, channels).T if depthwise else weight.reshape(channels, -1))
    weight, bias, shift = _without_left_shifts(weight, bias, shift, *limits(x))
    conv = _Conv(
        node, x, y, weight, bias, shift, window_fields(node, x.shape, y.shape),
        shapes.integer(node, "group", 1), low, high,
    )  # fmt: skip
    if conv.fits and conv.group == 1:
        _gemm(state, conv)
    elif conv.fits and depthwise and _fits_plane(shapes.window(node)):
        _depthwise(state, conv)
    else:
        _any(state, conv)


def _without_left_shifts(weight: Int64, bias: Int64, shift: Int64, low: int, high: int) -> tuple[Int64, Int64, Int64]:
    """The same convolution with left shifts multiplied into weights and bias, in channels where these still fit.

    With an exponent a channel, a channel that hardly counts (or not at all: weights of 0) may have one.
    """
    factor = np.int64(1) << np.clip(-shift, 0, 16)
    scaled = weight * factor[:, None]
    fits = (shift >= -16) & (scaled.min(axis=1) >= low) & (scaled.max(axis=1) <= high) & (np.abs(bias) < 1 << 13)
    change = (shift < 0) & fits
    return (
        np.where(change[:, None], scaled, weight),
        np.where(change, bias * factor, bias),
        np.where(change, 0, shift),
    )


def _fits_plane(window: shapes.Window) -> bool:
    return window.kernel[1] <= _MAX_KERNEL_COLUMNS and window.strides[1] <= _MAX_STRIDE


def _clamp(conv: _Conv) -> Fields:
    return {"lowest": conv.lowest, "highest": conv.highest}


def is_pointwise(window: Fields) -> bool:
    """Whether each output pixel reads the input pixel of the same place and no other."""
    ones = ("kernel_h", "kernel_w", "stride_h", "stride_w")
    same = window["in_h"] == window["out_h"] and window["in_w"] == window["out_w"]
    return same and all(window[name] == 1 for name in ones) and window["pad_top"] == window["pad_left"] == 0


def _gemm(state: Lowering, conv: _Conv) -> None:
    channels, products = conv.weight.shape
    stream = pack_dense(conv.weight, conv.x.bytes, conv.x.low, conv.x.high)
    bias = np.zeros(len(stream.centres), np.int64)
    bias[:channels] = conv.bias + conv.half
    bias -= stream.centres
    if conv.x.bytes == 1:  # modulo 2**32, as the kernel adds; only the finished sum has to fit
        bias = (bias + (1 << 31)) % (1 << 32) - (1 << 31)
    shift = np.zeros(len(bias), np.int64)
    shift[:channels] = conv.shift
    fields = {
        "window": conv.window,
        "stream": state.data.add(stream.content),
        "bias": state.data.add(bias.astype(_ACCUMULATOR[conv.x.bytes])),
        "shift": state.data.add(shift.astype("u1")),
        **_clamp(conv),
        "out_pitch": channels,
    }
    state.add(
        conv.node, f"conv_gemm<{conv.x.ctype}, {state.tag}>",
        (DataBase(), DescriptorRef(), Ref(conv.x.name), Ref(conv.y.name), Scratch("uint32_t")),
        (conv.x.name,), conv.y.name, struct="GemmConv", fields=fields, scratch_bytes=16 * (products + products % 2),
        in_place=(conv.x.name,) if is_pointwise(conv.window) and channels <= conv.x.shape[3] else (),
    )  # fmt: skip
    assert len(bias) % GROUP == 0


def plane_words(window: Fields, element_bytes: int, parts: int) -> int:
    """Words of the depthwise kernel's scratch: the plane, and ``parts`` times the sums (see kernels.hpp)."""
    w = {name: value for name, value in window.items() if isinstance(value, int)}
    rows = (w["out_h"] + 1) // 2 if element_bytes == 1 else w["out_h"]
    width = -(-w["out_w"] // 4) * 4
    columns = (width - 1) * w["stride_w"] + (w["kernel_w"] - 1) * w["dilation_w"] + 1
    line = -(-columns // w["stride_w"]) * w["stride_w"]
    return ((rows - 1) * w["stride_h"] + (w["kernel_h"] - 1) * w["dilation_h"] + 1) * line + parts * rows * width


def _depthwise(state: Lowering, conv: _Conv) -> None:
    size = conv.x.bytes
    rows = shapes.window(conv.node).kernel[0]
    sums = depthwise_sums(conv.weight, rows, size, conv.x.low, conv.x.high)
    parts = rows if SUMS_BY_ROW in sums.mode else 1
    bias = conv.bias + conv.half - sums.folded
    if size == 1:
        bias = (bias + (1 << 31)) % (1 << 32) - (1 << 31)
    fields = {
        "window": conv.window,
        "weights": state.data.add(conv.weight.astype("<i1" if size == 1 else "<i2")),
        "mode": state.data.add(sums.mode.astype("u1")),
        "centre": state.data.add(sums.centre.astype("<u2" if size == 1 else "<u4")),
        "bias": state.data.add(bias.astype(_ACCUMULATOR[size])),
        "shift": state.data.add(conv.shift.astype("u1")),
        **_clamp(conv),
    }
    state.add(
        conv.node, f"conv_depthwise<{conv.x.ctype}, {state.tag}>",
        (DataBase(), DescriptorRef(), Ref(conv.x.name), Ref(conv.y.name), Scratch("uint32_t")),
        (conv.x.name,), conv.y.name, struct="DepthwiseConv", fields=fields,
        scratch_bytes=4 * plane_words(conv.window, size, parts), in_place=(conv.x.name,),
    )  # fmt: skip


def _any(state: Lowering, conv: _Conv) -> None:
    if np.abs(conv.bias).max() + sum_bound(conv.weight, conv.x.low, conv.x.high).max() >= 1 << 60:
        raise unsupported(conv.node, "sums of more than 60 bits", "quantize again with other calibration data")
    fields = {
        "window": conv.window,
        "groups": conv.group,
        "weights": state.data.add(conv.weight.astype("<i1" if conv.x.bytes == 1 else "<i2")),
        "bias": state.data.add(conv.bias.astype("<i8")),
        "shift": state.data.add(np.clip(conv.shift, -32, 63).astype("i1")),
        **_clamp(conv),
    }
    state.add(
        conv.node, f"conv_any<{conv.x.ctype}, {state.tag}>",
        (DataBase(), DescriptorRef(), Ref(conv.x.name), Ref(conv.y.name)),
        (conv.x.name,), conv.y.name, struct="AnyConv", fields=fields,
    )  # fmt: skip
