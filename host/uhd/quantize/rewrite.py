"""Rewrites of a float ONNX graph that change no value but let esp-ppq and ESP-DL represent it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


def state_defaults(model: onnx.ModelProto) -> None:
    """Write down the strides that ONNX takes as 1 where they are absent: esp-ppq takes the pooling window instead."""
    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type in ("MaxPool", "AveragePool") and "strides" not in attributes:
            node.attribute.append(helper.make_attribute("strides", [1] * len(attributes["kernel_shape"].ints)))


def unshare_constants(model: onnx.ModelProto) -> None:
    """Give every operator constants of its own: esp-ppq's exporter lays a constant out for one user only."""
    constants = {constant.name: constant for constant in model.graph.initializer}
    used: set[str] = set()
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name not in constants:
                continue
            if name in used:
                copy = onnx.TensorProto()
                copy.CopyFrom(constants[name])
                copy.name = f"{name}.{node.name or node.output[0]}.{index}"
                model.graph.initializer.append(copy)
                node.input[index] = copy.name
            used.add(name)


def channel_constants_to_depthwise(model: onnx.ModelProto) -> list[str]:
    """Turn a multiplication by, or addition of, one constant a channel into a 1x1 depthwise convolution.

    What is left of a batch norm that no convolution precedes is such a Mul and an Add; the two become one. esp-ppq
    would write their constants in NCHW order beside NHWC maps, which no runtime can broadcast.

    Returns the names of the operators made, which are those of the Mul or Add they replace.
    """
    graph = model.graph
    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    ranks = _channels(model)
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    made: list[str] = []
    nodes = list(graph.node)
    skip: set[int] = set()
    kept: list[onnx.NodeProto] = []
    for index, node in enumerate(nodes):
        if index in skip:
            continue
        found = _channel_constant(node, constants, ranks)
        if found is None:
            kept.append(node)
            continue
        source, values = found
        scale = values if node.op_type == "Mul" else np.ones_like(values)
        shift = values if node.op_type == "Add" else np.zeros_like(values)
        output = node.output[0]
        if node.op_type == "Mul" and readers[output] == 1:
            follower = next((i for i, other in enumerate(nodes) if output in other.input), None)
            added = _channel_constant(nodes[follower], constants, ranks) if follower is not None else None
            if follower is not None and added is not None and nodes[follower].op_type == "Add":
                shift, output = added[1], nodes[follower].output[0]
                skip.add(follower)
        kept.append(_depthwise(graph, node.name or node.output[0], source, output, scale, shift))
        made.append(kept[-1].name)
    if made:
        del graph.node[:]
        graph.node.extend(kept)
    return made


def _channels(model: onnx.ModelProto) -> dict[str, int]:
    """Channel counts of all [N, C, H, W] tensors with a known shape."""
    inferred = onnx.shape_inference.infer_shapes(model)
    known = {}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 4 and dims[1].dim_value:
            known[value.name] = dims[1].dim_value
    return known


def _channel_constant(
    node: onnx.NodeProto, constants: dict[str, NDArray[np.float32]], channels: dict[str, int]
) -> tuple[str, NDArray[np.float32]] | None:
    """(map, values [C]) if the node combines a [N, C, H, W] map with one constant a channel."""
    if node.op_type not in ("Mul", "Add") or len(node.input) != 2:
        return None
    for source, constant in (node.input, reversed(node.input)):
        if constant not in constants or source not in channels:
            continue
        values = constants[constant]
        shape = (1,) * (4 - values.ndim) + values.shape
        if values.size > 1 and shape == (1, channels[source], 1, 1):
            return source, values.reshape(-1).astype(np.float32)
    return None


def _depthwise(
    graph: onnx.GraphProto, name: str, source: str, output: str, scale: NDArray[np.float32], shift: NDArray[np.float32]
) -> onnx.NodeProto:
    weight = numpy_helper.from_array(scale.reshape(-1, 1, 1, 1), f"{name}.weight")
    bias = numpy_helper.from_array(shift, f"{name}.bias")
    graph.initializer.extend([weight, bias])
    return helper.make_node(
        "Conv", [source, weight.name, bias.name], [output], name=name, group=scale.size, kernel_shape=[1, 1],
        strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1],
    )  # fmt: skip
