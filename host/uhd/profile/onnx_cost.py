"""Costs of an ONNX file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from uhd.errors import ConfigError, ModelError
from uhd.profile.cost import ELEMENTWISE, LayerCost, ModelCost, peak_live_bytes

Shape = tuple[int, ...]
_POOLS = ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")


def onnx_cost(path: Path, size: tuple[int, int] | None = None) -> ModelCost:
    """Costs of an ONNX file for one image. ``size``: height and width of inputs that leave them open.

    Raises ``ModelError`` for a file that is not ONNX or whose shapes cannot be told, ``ConfigError`` if it needs
    ``size``.
    """
    try:
        model = onnx.load(path)
    except (DecodeError, OSError, ValueError) as error:
        raise ModelError(f"{path}: not a readable ONNX file ({str(error).splitlines()[0]})") from None
    if not model.graph.node:
        raise ModelError(f"{path}: not an ONNX file, or one without operators")
    return graph_cost(model, str(path), size)


def graph_cost(model: onnx.ModelProto, source: str, size: tuple[int, int] | None = None) -> ModelCost:
    """As ``onnx_cost``; ``model`` gets fixed input sizes."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    for value in inputs:
        _fix_size(value, source, size)
    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"{source}: shapes contradict each other ({str(error).splitlines()[0]})") from None
    known = {v.name: v.type.tensor_type for v in (*graph.input, *graph.value_info, *graph.output)}
    shapes: dict[str, Shape] = {name: tuple(d.dim_value for d in t.shape.dim) for name, t in known.items()}
    shapes |= {name: tuple(tensor.dims) for name, tensor in constants.items()}
    sizes = {name: math.prod(shapes[name]) * _item_bytes(t.elem_type) for name, t in known.items()}
    floating = {name for name, t in known.items() if t.elem_type in (TensorProto.FLOAT, TensorProto.FLOAT16)}
    layers, read = [], set[str]()
    for node in graph.node:
        if node.op_type == "Constant":
            continue
        own = [constants[name] for name in node.input if name in constants and name not in read]
        read |= {tensor.name for tensor in own}
        layers.append(_layer(node, own, shapes, sizes, floating, source))
    rest = [tensor for name, tensor in constants.items() if name not in read]
    if rest:  # graph outputs that are constants, as anchors are
        layers.append(LayerCost("(constants)", "", (), *_weight(rest), 0, 0, 0))
    steps = [(node.input, node.output) for node in graph.node]
    activations = {name: count for name, count in sizes.items() if name not in constants}
    peak = peak_live_bytes(steps, activations, [v.name for v in inputs], [v.name for v in graph.output])
    return ModelCost(source, "onnx", tuple(layers), peak)


def _fix_size(value: onnx.ValueInfoProto, source: str, size: tuple[int, int] | None) -> None:
    dims = value.type.tensor_type.shape.dim
    for axis, dim in enumerate(dims):
        if dim.dim_value > 0:
            continue
        if axis == 0:
            dim.dim_value = 1
        elif size and len(dims) == 4 and axis >= 2:
            dim.dim_value = size[axis - 2]
        else:
            raise ConfigError(f"{source}: input {value.name!r} has an open size", hint="give --size, such as 64x64")


def _item_bytes(kind: int) -> int:
    return helper.tensor_dtype_to_np_dtype(kind).itemsize if kind else 0


def _weight(tensors: list[onnx.TensorProto]) -> tuple[int, int]:
    """Elements, and bytes."""
    counts = [math.prod(tensor.dims) for tensor in tensors]
    return sum(counts), sum(n * _item_bytes(t.data_type) for n, t in zip(counts, tensors, strict=True))


def _layer(
    node: onnx.NodeProto,
    own: list[onnx.TensorProto],
    shapes: Mapping[str, Shape],
    sizes: Mapping[str, int],
    floating: set[str],
    source: str,
) -> LayerCost:
    output = shapes.get(node.output[0], ())
    macs = flops = 0
    if node.output[0] in floating:
        macs, flops = _operations(node, shapes, output)
        if (macs or flops) and 0 in output:
            raise ModelError(
                f"{source}: no shape is known behind {node.name or node.op_type}", hint="simplify the file"
            )
    elif node.output[0] not in sizes and node.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
        raise ModelError(f"{source}: no shape is known behind {node.name or node.op_type}", hint="simplify the file")
    written = sum(sizes.get(name, 0) for name in node.output)
    return LayerCost(node.name or node.output[0], node.op_type, output, *_weight(own), macs, flops, written)


def _operations(node: onnx.NodeProto, shapes: Mapping[str, Shape], output: Shape) -> tuple[int, int]:
    """Multiply-accumulates and FLOPs of a node, by the published convention."""
    count = math.prod(output)
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Conv":
        macs = count * math.prod(shapes[node.input[1]][1:])
        return macs, 2 * macs + (count if len(node.input) > 2 and node.input[2] else 0)
    if node.op_type == "ConvTranspose":  # each input value meets the filters of its group
        macs = math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
        return macs, 2 * macs
    if node.op_type == "MatMul":
        macs = count * shapes[node.input[0]][-1]
        return macs, 2 * macs
    if node.op_type == "Gemm":
        macs = count * shapes[node.input[0]][0 if attributes.get("transA") else 1]
        return macs, 2 * macs
    if node.op_type in _POOLS:
        return 0, count * math.prod(attributes.get("kernel_shape", ()))
    return 0, count if node.op_type in ELEMENTWISE else 0
