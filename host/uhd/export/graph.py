"""Passes over an exported ONNX graph: simplify, name, take apart; all deterministic."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
import onnxsim
from onnx import helper, numpy_helper

from uhd.errors import ModelError

#: Prefix of the names of depthwise convolutions, so that patterns can address them as a group.
DEPTHWISE_PREFIX = "/depthwiseconv/"


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants and shapes; input sizes must be static. Raises ``ModelError`` if the result is not valid."""
    simplified, valid = onnxsim.simplify(model)
    if not valid:
        raise ModelError("onnxsim changed what the exported graph computes", hint="report the model's options")
    return simplified


def initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Constant tensors of the graph by name."""
    return {tensor.name: tensor for tensor in graph.initializer}


def rename_depthwise(graph: onnx.GraphProto) -> None:
    """Put ``DEPTHWISE_PREFIX`` before the name of every depthwise convolution; names stay unique."""
    weights = initializers(graph)
    taken = {node.name for node in graph.node}
    for node in graph.node:
        if not is_depthwise(node, weights) or node.name.startswith(DEPTHWISE_PREFIX):
            continue
        taken.discard(node.name)
        base = name = DEPTHWISE_PREFIX + node.name.lstrip("/")
        count = 0
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        node.name = name


def is_depthwise(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    """Whether a node is a convolution with several groups and one input channel in each."""
    if node.op_type != "Conv" or node.input[1] not in weights:
        return False
    group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return group > 1 and weights[node.input[1]].dims[1] == 1


def decompose_batchnorm(graph: onnx.GraphProto) -> int:
    """Replace normalisations that no convolution absorbed by ``<name>_mul`` and ``<name>_add``; returns how many.

    Their constants have shape [1,C,1,1]: quantizers have no BatchNormalization of their own.
    """
    tensors = initializers(graph)
    nodes: list[onnx.NodeProto] = []
    count = 0
    for node in graph.node:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        gamma, beta, mean, var = (numpy_helper.to_array(tensors[name]).astype(np.float64) for name in node.input[1:5])
        epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
        scale = gamma / np.sqrt(var + epsilon)
        for suffix, value in (("mul", scale), ("add", beta - mean * scale)):
            array = value.astype(np.float32).reshape(1, -1, 1, 1)
            graph.initializer.append(numpy_helper.from_array(array, f"{node.name}_{suffix}_const"))
        between = f"{node.output[0]}_mul"
        for op, source, target in (("Mul", node.input[0], between), ("Add", between, node.output[0])):
            name = f"{node.name}_{op.lower()}"
            nodes.append(helper.make_node(op, [source, f"{name}_const"], [target], name))
        count += 1
    if count:
        _replace_nodes(graph, nodes)
        drop_unused(graph)
    return count


def unshare_weights(graph: onnx.GraphProto) -> None:
    """Give every convolution weights and a bias of its own, where equal ones were merged into one constant.

    A quantizer scales each convolution's parameters by themselves.
    """
    tensors = initializers(graph)
    used: set[str] = set()
    for node in graph.node:
        for index, name in enumerate(node.input) if node.op_type == "Conv" else ():
            if name not in tensors:
                continue
            if name in used:
                copy = onnx.TensorProto()
                copy.CopyFrom(tensors[name])
                copy.name = f"{node.name}_{'weight' if index == 1 else 'bias'}"
                graph.initializer.append(copy)
                node.input[index] = copy.name
            used.add(node.input[index])


def name_class_scores(graph: onnx.GraphProto) -> None:
    """With one class the scores reach TopK through one Reshape, which published files call ``Reshape_2``."""
    producers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        source = producers.get(node.input[0]) if node.op_type == "TopK" else None
        if source is not None and source.op_type == "Reshape":
            source.name = "Reshape_2"


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove constants that no node reads and no output names."""
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operator set that the file asks for."""
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
