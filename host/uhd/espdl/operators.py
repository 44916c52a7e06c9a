"""Operators of the oracle that compute. Where ESP-DL and esp-ppq disagree, the function says so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from uhd.errors import ModelError
from uhd.espdl import kernels, movement, shapes
from uhd.espdl.arith import round_real, saturate
from uhd.espdl.model import Node
from uhd.espdl.state import Array, Run


def _conv(state: Run, node: Node) -> Array:
    """Convolution with bias at e_in + e_w and the fused activation, which clamps after rounding.

    esp-ppq's int8 simulation sums in float32, exact while |sum| < 2**24; its int16 one only in the float64 mode. Even
    there it rounds biases in float32: where ties go up (c, esp32s3) an odd integer bias between 2**23 and 2**24 is
    simulated one higher than the file says, so that about one int16 output in 2**shift of such a channel is one lower
    here, and on the chip, than in the embedded vectors.
    ESP32-S3 sums int8 products in 20-bit lanes: see the accumulator lint of ``uhd.espdl.inspect``.
    """
    x, weight = node.inputs[0], state.tensor(node.inputs[1])
    sums = kernels.conv_sums(
        state.values[x], state.values[weight.name], shapes.window(node), shapes.integer(node, "group", 1)
    )
    exponents = state.exponent(x) + np.array(weight.exponents)
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = state.tensor(node.inputs[2])
        if np.any(np.array(bias.exponents) != exponents):
            raise ModelError(
                f"node {node.name!r}: the bias has exponent {bias.exponents[0]}, its products {exponents[0]}",
                hint="quantize again with other calibration data",
            )
        sums = sums + state.values[bias.name].reshape(-1).astype(np.int64)
    y = state.finish(node, sums, exponents)
    return np.maximum(y, 0) if node.attributes.get("activation") == "Relu" else y


def _add(state: Run, node: Node) -> Array:
    """a + b or a - b; ESP-DL adds the integers as they are, so all three exponents must agree."""
    a, b = node.inputs
    state.aligned(node, a, b, node.outputs[0])
    left, right = (state.values[name].astype(np.int64) for name in (a, b))
    return state.finish(node, left - right if node.op == "Sub" else left + right, state.exponent(a))


def _mul(state: Run, node: Node) -> Array:
    """a * b with broadcasting, shifted by e_out - e_a - e_b.

    ESP-DL's C kernel multiplies the integer product by a float32 scale, which for int16 may lose the lowest bits of
    a 30-bit product before rounding; its SIMD kernels and esp-ppq's float64 mode do not.
    """
    a, b = node.inputs
    product = state.values[a].astype(np.int64) * state.values[b].astype(np.int64)
    return state.finish(node, product, state.exponent(a) + state.exponent(b))


def _max_pool(state: Run, node: Node) -> Array:
    state.aligned(node, node.inputs[0], node.outputs[0])
    return kernels.max_pool(state.values[node.inputs[0]], shapes.window(node))


def _mean(state: Run, node: Node) -> Array:
    """ReduceMean over constant axes, GlobalAveragePool over height and width: see ``kernels.mean``."""
    x = state.tensor(node.inputs[0])
    axes = (1, 2) if node.op == "GlobalAveragePool" else shapes.reduced_axes(node, state.model.tensors, len(x.shape))
    y = state.tensor(node.outputs[0])
    means = kernels.mean(state.values[x.name], axes, y.exponent - x.exponent, state.rounding)
    return saturate(means, y.dtype).reshape(y.shape)


def _resize(state: Run, node: Node) -> Array:
    """Nearest neighbour, index floor, then scaled by shift.

    ESP-DL 3.3.9 does this for int8; its int16 kernel is empty and leaves the output unwritten. Here int16 follows
    the definition, as esp-ppq does, and ``uhd.espdl.inspect`` warns.
    """
    mode = [str(node.attributes.get(key, default)) for key, default in (
        ("mode", "nearest"), ("coordinate_transformation_mode", "half_pixel"), ("nearest_mode", "round_prefer_floor"),
    )]  # fmt: skip
    if mode != ["nearest", "asymmetric", "floor"]:
        raise ModelError(f"node {node.name!r}: Resize {'/'.join(mode)}", hint="use nearest/asymmetric/floor")
    x, y = state.tensor(node.inputs[0]), state.tensor(node.outputs[0])
    if len(x.shape) != 4 or len(y.shape) != 4 or x.shape[3] != y.shape[3]:
        raise ModelError(f"node {node.name!r} resizes {x.shape} to {y.shape}")
    resized = kernels.resize_nearest(state.values[x.name], y.shape[1], y.shape[2])
    return state.finish(node, resized.astype(np.int64), x.exponent)


def _requantize(state: Run, node: Node) -> Array:
    x = node.inputs[0]
    return state.finish(node, state.values[x].astype(np.int64), state.exponent(x))


def _relu(state: Run, node: Node) -> Array:
    return _unary(state, node, lambda: np.maximum(_requantize(state, node), 0))


def _clip(state: Run, node: Node) -> Array:
    """int8 by table. int16: clamp the real value to [min, max], then requantize."""

    def compute() -> Array:
        x = state.tensor(node.inputs[0])
        real = state.values[x.name].astype(np.float64) * 2.0**x.exponent
        for name, bound in zip(node.inputs[1:], (np.maximum, np.minimum), strict=False):
            if name:
                limit = state.tensor(name)
                real = bound(real, float(state.values[name].reshape(-1)[0]) * 2.0 ** limit.exponents[0])
        y = state.tensor(node.outputs[0])
        return saturate(round_real(real * 2.0**-y.exponent, state.rounding), y.dtype)

    return _unary(state, node, compute)


def _curve(state: Run, node: Node) -> Array:
    """Sigmoid and its like. int8: esp-ppq's table. int16 in a mixed model: the real function, rounded.

    There ESP-DL evaluates its own float32 approximation at run time, so an int16 curve may differ by 1 on a board
    (a model that is int16 throughout gets operator LUT instead, which is exact).
    """

    def compute() -> Array:
        x, y = state.tensor(node.inputs[0]), state.tensor(node.outputs[0])
        real = _CURVES[node.op](state.values[x.name].astype(np.float64) * 2.0**x.exponent)
        return saturate(round_real(real * 2.0**-y.exponent, state.rounding), y.dtype)

    return _unary(state, node, compute)


def _lut(state: Run, node: Node) -> Array:
    """Look the value up in the node's table."""
    name = str(node.attributes.get("lut", ""))
    table = state.tensor(name) if name in state.model.tensors else None
    y = state.tensor(node.outputs[0])
    if table is None or table.data is None or table.dtype != y.dtype or table.exponent != y.exponent:
        raise ModelError(f"node {node.name!r}: no table {name!r} that fits {y.dtype}", hint="quantize the model again")
    return kernels.lut(state.values[node.inputs[0]], table.data, state.rounding)


def _unary(state: Run, node: Node, compute: Callable[[], Array]) -> Array:
    """By table where ESP-DL uses one (int8 nodes that have it), otherwise computed."""
    return _lut(state, node) if node.bits == 8 and "lut" in node.attributes else compute()


def _table_only(state: Run, node: Node) -> Array:
    return _lut(state, node)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -700.0, 700.0)))


_CURVES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "Sigmoid": _sigmoid,
    "Swish": lambda x: x * _sigmoid(x),
    "Tanh": np.tanh,
}

OPERATORS: dict[str, Callable[[Run, Node], Array | tuple[Array, ...]]] = {
    "Conv": _conv, "Add": _add, "Sub": _add, "Mul": _mul, "Concat": movement.concat, "MaxPool": _max_pool,
    "ReduceMean": _mean, "GlobalAveragePool": _mean, "Resize": _resize, "RequantizeLinear": _requantize,
    "Relu": _relu, "Clip": _clip, **dict.fromkeys(_CURVES, _curve), "LUT": _lut,
    **dict.fromkeys(("HardSwish", "HardSigmoid", "LeakyRelu", "PRelu", "Elu", "Gelu", "Softplus"), _table_only),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"), movement.move),
    "Transpose": movement.transpose, "Slice": movement.slice_, "Split": movement.split,
}  # fmt: skip
