"""The float model that a made .espdl could have been quantized from: its operators on its real values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from uhd.espdl import shapes
from uhd.espdl.model import EspdlModel, Node


def _filter(model: EspdlModel, node: Node) -> NDArray[np.float64]:
    """[N, C / group, H, W], written out by loops over channels."""
    weight = model.tensors[node.inputs[1]]
    assert weight.data is not None
    depthwise = shapes.is_depthwise(node, weight)
    count = weight.shape[3] if depthwise else weight.shape[0]
    exponents = weight.exponents * (count if len(weight.exponents) == 1 else 1)
    planes = []
    for n in range(count):
        one = weight.data[0, :, :, n][None] if depthwise else np.moveaxis(weight.data[n], 2, 0)
        planes.append(one.astype(np.float64) * 2.0 ** exponents[n])
    return np.stack(planes)


def float_twin(model: EspdlModel, changed: Mapping[str, NDArray[Any]] | None = None) -> onnx.ModelProto:
    """``model`` as an ONNX graph with nodes of the same names. Conv, Add, MaxPool; requantizations are left out.

    ``changed``: other filters [N, C / group, H, W], by the name of the node.
    """
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    stands_for: dict[str, str] = {}

    def constant(name: str, value: NDArray[Any]) -> str:
        constants.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    for node in model.nodes:
        inputs = [stands_for.get(name, name) for name in node.inputs]
        output = node.outputs[0]
        if node.op == "RequantizeLinear":
            stands_for[output] = inputs[0]
        elif node.op == "Conv":
            bias = model.tensors[node.inputs[2]]
            assert bias.data is not None
            real = bias.data.reshape(-1).astype(np.float64) * 2.0 ** np.array(bias.exponents, np.float64)
            names = [
                constant(f"{node.name}.w", (changed or {}).get(node.name, _filter(model, node))),
                constant(f"{node.name}.b", real),
            ]
            relu = node.attributes["activation"] == "Relu"
            linear = f"{output}/linear" if relu else output
            keys = ("kernel_shape", "strides", "pads", "dilations", "group")
            kept = {key: node.attributes[key] for key in keys}
            nodes.append(helper.make_node("Conv", [inputs[0], *names], [linear], name=node.name, **kept))
            if relu:
                nodes.append(helper.make_node("Relu", [linear], [output], name=f"{node.name}/relu"))
        else:
            kept = {key: value for key, value in node.attributes.items() if key != "quant_type"}
            nodes.append(helper.make_node(node.op, inputs, [output], name=node.name, **kept))

    def info(name: str) -> onnx.ValueInfoProto:
        n, h, w, c = model.tensors[name].shape
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [n, c, h, w])

    graph = helper.make_graph(
        nodes, "twin", [info(name) for name in model.inputs], [info(name) for name in model.outputs], constants
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
