"""Elementwise operators, tables, pooling, means, resizing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.codegen.lower import Lowering, limits, unsupported
from uhd.codegen.lower_conv import window_fields
from uhd.codegen.steps import Argument, ConstantRef, DescriptorRef, Fields, Ref, Scratch, Value
from uhd.espdl import shapes
from uhd.espdl.arith import round_real, saturate
from uhd.espdl.model import Node

_AGAIN = "quantize again with other calibration data"
_MEAN_SHIFT = 20


def aligned(state: Lowering, node: Node, *names: str) -> None:
    """Raise ``ModelError`` unless the tensors share one exponent, as ESP-DL's kernel assumes."""
    found = {state.exponent(name) for name in names}
    if len(found) != 1:
        raise unsupported(node, f"unaligned exponents {sorted(found)}", _AGAIN)


def _strides(node: Node, operand: tuple[int, ...], result: tuple[int, int, int]) -> tuple[int, int, int]:
    """Strides (row, column, channel) with which ``operand`` is broadcast over [h, w, c]."""
    shape = (1,) * (4 - len(operand)) + operand
    if len(shape) != 4 or shape[0] != 1:
        raise unsupported(node, f"an operand of shape {list(operand)}")
    steps = (shape[2] * shape[3], shape[3], 1)
    return tuple(0 if size == 1 and of != 1 else step for size, of, step in zip(shape[1:], result, steps, strict=True))  # type: ignore[return-value]


def _operand(state: Lowering, node: Node, index: int, ctype: str) -> tuple[Argument, tuple[int, ...], tuple[int, int]]:
    """(argument, shape, range) of a binary operand, constant or not."""
    name = node.inputs[index]
    constant = state.constant(name)
    if constant is None:
        value = state.value(node, index)
        if value.ctype != ctype:
            raise unsupported(node, f"operands of {value.ctype} and {ctype}")
        return Ref(name), value.shape, (value.low, value.high)
    assert constant.data is not None
    if f"{constant.dtype}_t" != ctype:
        raise unsupported(node, f"a constant of {constant.dtype} with {ctype}")
    data = constant.data
    return (
        ConstantRef(ctype, state.data.add(data)), constant.shape, (int(data.min(initial=0)), int(data.max(initial=0)))
    )  # fmt: skip


def _binary(state: Lowering, node: Node) -> None:
    """Add, Sub, Mul with broadcasting; one operand may be constant."""
    output = state.model.tensors[node.outputs[0]]
    ctype = f"{output.dtype}_t"
    (a, a_shape, a_range), (b, b_shape, b_range) = (_operand(state, node, i, ctype) for i in (0, 1))
    low, high = limits(output)
    shift = 0
    if node.op == "Mul":
        shift = state.exponent(output.name) - sum(state.exponent(name) for name in node.inputs)
        ends = [p * q for p in a_range for q in b_range]
    else:
        aligned(state, node, *node.inputs, output.name)
        sign = 1 if node.op == "Add" else -1
        ends = [p + sign * q for p in a_range for q in b_range]
    y = state.make(node, *state.finished_range(ends, shift, low, high))
    if len(y.shape) > 4:
        raise unsupported(node, f"a result of shape {list(y.shape)}")
    extent = (1, 1, y.elements)
    steps = ((0, 0, 1), (0, 0, 1))
    if a_shape != b_shape:
        _, *sizes = (1,) * (4 - len(y.shape)) + y.shape
        extent = (sizes[0], sizes[1], sizes[2])
        steps = (_strides(node, a_shape, extent), _strides(node, b_shape, extent))
    fields: Fields = {
        **dict(zip("hwc", extent, strict=True)),
        **{f"{n}_{axis}": s for n, each in zip("ab", steps, strict=True)
           for axis, s in zip(("row", "column", "channel"), each, strict=True)},
        "shift": _shift(shift), "lowest": low, "highest": high,
    }  # fmt: skip
    kernel = {"Add": f"add<{ctype}>", "Sub": f"subtract<{ctype}>", "Mul": f"multiply<{ctype}, {state.tag}>"}[node.op]
    refs = [(arg.tensor, shape) for arg, shape in ((a, a_shape), (b, b_shape)) if isinstance(arg, Ref)]
    state.add(
        node, kernel, (DescriptorRef(), a, b, Ref(y.name)), [name for name, _ in refs], y.name, struct="Binary",
        fields=fields, in_place=tuple(name for name, shape in refs if math.prod(shape) == y.elements),
    )  # fmt: skip


def _shift(shift: int) -> int:
    """Shifts beyond these change nothing: all becomes 0, or saturates."""
    return max(-32, min(shift, 64))


def requantize(state: Lowering, node: Node, x: Value, y: Value, lowest: int, highest: int) -> None:
    """Append ``requantize`` from ``x`` to ``y``, clamped to [lowest, highest]."""
    shift = state.exponent(node.outputs[0]) - state.exponent(node.inputs[0])
    fields = {"count": y.elements, "shift": _shift(shift), "lowest": lowest, "highest": highest}
    state.add(
        node, f"requantize<{x.ctype}, {y.ctype}, {state.tag}>", (DescriptorRef(), Ref(x.name), Ref(y.name)),
        (x.name,), y.name, struct="Requantize", fields=fields, in_place=(x.name,) if x.bytes == y.bytes else (),
    )  # fmt: skip


def _clamped(state: Lowering, node: Node) -> None:
    """RequantizeLinear, Relu, Clip: rounding is monotonous, so clamping may follow it."""
    if node.op != "RequantizeLinear" and node.bits == 8 and "lut" in node.attributes:
        _table(state, node)
        return
    x, output = state.value(node), state.model.tensors[node.outputs[0]]
    low, high = limits(output)
    lowest = max(low, 0) if node.op == "Relu" else low
    highest = high
    if node.op == "Clip":
        lowest, highest = (_bound(state, node, index, default) for index, default in ((1, low), (2, high)))
        lowest, highest = min(lowest, highest), highest
    shift = output.exponent - state.exponent(x.name)
    y = state.make(node, *state.finished_range((x.low, x.high), shift, lowest, highest))
    requantize(state, node, x, y, lowest, highest)


def _bound(state: Lowering, node: Node, index: int, default: int) -> int:
    """A bound of Clip as an integer of the output."""
    if index >= len(node.inputs) or not node.inputs[index]:
        return default
    tensor = state.constant(node.inputs[index])
    if tensor is None or tensor.data is None or tensor.data.size != 1:
        raise unsupported(node, "a bound that is not one constant")
    output = state.model.tensors[node.outputs[0]]
    real = np.array([float(tensor.data.reshape(-1)[0]) * 2.0 ** tensor.exponents[0]])
    return int(saturate(round_real(real * 2.0**-output.exponent, state.rounding), output.dtype)[0])


_CURVES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "Sigmoid": lambda x: 1.0 / (1.0 + np.exp(-np.clip(x, -700.0, 700.0))),
    "Swish": lambda x: x / (1.0 + np.exp(-np.clip(x, -700.0, 700.0))),
    "Tanh": np.tanh,
}


def _curve(state: Lowering, node: Node) -> None:
    """Sigmoid and its like: esp-ppq's table where the node has one, otherwise the function of every input integer."""
    if node.bits == 8 and "lut" in node.attributes:
        _table(state, node)
        return
    if node.op not in _CURVES:
        raise unsupported(node, "no table in the file", "quantize the model again")
    x, output = state.value(node), state.model.tensors[node.outputs[0]]
    low, high = limits(x)
    real = _CURVES[node.op](np.arange(low, high + 1, dtype=np.float64) * 2.0 ** state.exponent(x.name))
    _look_up(state, node, saturate(round_real(real * 2.0**-output.exponent, state.rounding), output.dtype))


def _table(state: Lowering, node: Node) -> None:
    """A unary operator by the table in its node."""
    output = state.model.tensors[node.outputs[0]]
    table = state.constant(str(node.attributes.get("lut", "")))
    if table is None or table.data is None or table.dtype != output.dtype or table.exponent != output.exponent:
        raise unsupported(node, f"no table that fits {output.dtype}", "quantize the model again")
    _look_up(state, node, table.data.reshape(-1))


def _look_up(state: Lowering, node: Node, table: NDArray[Any]) -> None:
    x = state.value(node)
    y = state.make(node, int(table.min()), int(table.max()))
    if x.ctype != y.ctype:
        raise unsupported(node, f"a table from {x.ctype} to {y.ctype}")
    data = ConstantRef(y.ctype, state.data.add(table.astype("<i1" if y.bytes == 1 else "<i2")))
    ends = (f"{y.elements}", Ref(x.name), Ref(y.name))
    if y.bytes == 1:
        if table.size != 256:
            raise unsupported(node, f"a table of {table.size} entries for int8", "quantize the model again")
        state.add(node, "lookup8", (data, *ends), (x.name,), y.name, in_place=(x.name,))
        return
    steps = table.size if table.size == 65536 else table.size - 1
    if steps < 1 or steps > 65536 or steps & (steps - 1):
        raise unsupported(node, f"a table of {table.size} entries for int16", "use a power-of-two step")
    shift = (65536 // steps).bit_length() - 1
    state.add(node, f"lookup16<{state.tag}>", (data, f"{shift}", *ends), (x.name,), y.name, in_place=(x.name,))


def _max_pool(state: Lowering, node: Node) -> None:
    x = state.value(node)
    aligned(state, node, node.inputs[0], node.outputs[0])
    # a window that lies wholly in the padding gives the lowest value there is
    bare = shapes.window(node).misses(x.shape[1], x.shape[2])
    y = state.make(node, limits(x)[0] if bare else x.low, x.high)
    window = window_fields(node, x.shape, y.shape)
    state.add(
        node, f"max_pool<{x.ctype}>", (DescriptorRef(), Ref(x.name), Ref(y.name), Scratch(x.ctype)), (x.name,), y.name,
        struct="Window", fields=window, scratch_bytes=x.shape[1] * y.shape[2] * x.bytes, in_place=(x.name,),
    )  # fmt: skip


def _mean(state: Lowering, node: Node) -> None:
    """Mean over height and width."""
    x = state.value(node)
    axes = shapes.reduced_axes(node, state.model.tensors, len(x.shape)) if node.op == "ReduceMean" else (1, 2)
    if len(x.shape) != 4 or axes != (1, 2):
        raise unsupported(
            node, f"a mean over axes {list(axes)} of {list(x.shape)}", "take the mean over height and width"
        )
    shift = state.exponent(node.outputs[0]) - state.exponent(x.name)
    if abs(shift) > _MEAN_SHIFT:
        raise unsupported(node, f"exponents that differ by {shift}", _AGAIN)
    low, high = limits(state.model.tensors[node.outputs[0]])
    y = state.make(node, *state.finished_range((x.low, x.high), shift, low, high))
    if x.bytes != y.bytes:
        raise unsupported(node, f"a mean from {x.ctype} to {y.ctype}")
    fields = {
        "pixels": x.shape[1] * x.shape[2],
        "channels": x.shape[3],
        "numerator": 1 << max(-shift, 0),
        "denominator": 1 << max(shift, 0),
    }
    state.add(node, f"spatial_mean<{x.ctype}, {state.tag}>", (DescriptorRef(), Ref(x.name), Ref(y.name)), (x.name,),
              y.name, struct="Mean", fields=fields)  # fmt: skip


def _resize(state: Lowering, node: Node) -> None:
    """Nearest neighbour, then a requantization in place if the exponents differ."""
    defaults = {"mode": "nearest", "coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_floor"}
    mode = [str(node.attributes.get(key, default)) for key, default in defaults.items()]
    x, output = state.value(node), state.model.tensors[node.outputs[0]]
    if mode != ["nearest", "asymmetric", "floor"]:
        raise unsupported(node, f"mode {'/'.join(mode)}", "export it as nearest/asymmetric/floor")
    if len(x.shape) != 4 or len(output.shape) != 4 or x.shape[3] != output.shape[3] or output.dtype != x.ctype[:-2]:
        raise unsupported(node, f"{list(x.shape)} {x.ctype} to {list(output.shape)} {output.dtype}")
    shift = output.exponent - state.exponent(x.name)
    y = state.make(node, *state.finished_range((x.low, x.high), shift, *limits(output)))
    names = ("in_h", "in_w", "out_h", "out_w", "pixel_bytes")
    fields = dict(zip(names, (*x.shape[1:3], *y.shape[1:3], x.shape[3] * x.bytes), strict=True))
    state.add(node, "resize_nearest", (DescriptorRef(), Ref(x.name), Ref(y.name)), (x.name,), y.name,
              struct="Resize", fields=fields)  # fmt: skip
    if shift:
        requantize(state, node, replace(x, name=y.name), y, *limits(output))


SIMPLE: dict[str, Callable[[Lowering, Node], None]] = {
    **dict.fromkeys(("Add", "Sub", "Mul"), _binary),
    **dict.fromkeys(("RequantizeLinear", "Relu", "Clip"), _clamped),
    **dict.fromkeys((*_CURVES, "HardSwish", "HardSigmoid", "LeakyRelu", "PRelu", "Elu", "Gelu", "Softplus"), _curve),
    "LUT": _table,
    "MaxPool": _max_pool,
    **dict.fromkeys(("ReduceMean", "GlobalAveragePool"), _mean),
    "Resize": _resize,
}
