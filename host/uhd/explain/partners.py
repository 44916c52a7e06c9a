"""Which tensor of the float graph is the one that a layer of a .espdl computes in integers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx

from uhd.espdl.model import EspdlModel, Node

#: Operators of the quantizer that change the grid and not the value: they stand for what they read.
_SAME_VALUE = ("RequantizeLinear", "Identity")


@dataclass(frozen=True)
class Partner:
    """The float tensor of a layer. ``node``: the float operator of its name; None for a requantization, which is
    compared with what it reads, and for what a rewrite made, such as the Concat of a split filter, which is compared
    with the tensor of the same name. ``reason``: why there is no tensor, empty if there is one."""

    tensor: str = ""
    node: str | None = None
    reason: str = ""


def find_partners(model: EspdlModel, graph: onnx.GraphProto) -> dict[str, Partner]:
    """Partner of every layer, by its output's name: the float operator of the layer's name, its fused Relu included."""
    nodes = {node.name: node for node in graph.node if node.name}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    made = {name for node in graph.node for name in node.output}
    shapes = _shapes(graph)
    by_tensor = {name: Partner(name) for name in model.inputs if name in shapes}
    if len(model.inputs) == 1 and model.inputs[0] not in by_tensor:
        inputs = [value.name for value in graph.input if value.name not in {t.name for t in graph.initializer}]
        if inputs:
            by_tensor[model.inputs[0]] = Partner(inputs[0])
    found: dict[str, Partner] = {}
    for layer in model.nodes:
        partner = _partner(layer, nodes, readers, by_tensor, made)
        if not partner.reason:
            partner = _checked(partner, model.tensors[layer.outputs[0]].shape, shapes)
        found[layer.outputs[0]] = by_tensor[layer.outputs[0]] = partner
    return found


def _partner(
    layer: Node,
    nodes: Mapping[str, onnx.NodeProto],
    readers: Mapping[str, list[onnx.NodeProto]],
    known: Mapping[str, Partner],
    tensors: Collection[str],
) -> Partner:
    node = nodes.get(layer.name)
    if node is None:
        if layer.op in _SAME_VALUE:
            source = known.get(layer.inputs[0], Partner(reason="its input has no partner"))
            return Partner(source.tensor, None, source.reason and "its input has no partner")
        if layer.outputs[0] in tensors:
            return Partner(layer.outputs[0])
        return Partner(reason="no float operator or tensor of this name")
    tensor: str = node.output[0]
    if layer.attributes.get("activation") == "Relu":
        behind = [reader for reader in readers.get(tensor, []) if reader.op_type == "Relu"]
        if not behind:
            return Partner(reason="its fused Relu is not in the float graph")
        tensor = behind[0].output[0]
    elif layer.outputs[0] != tensor and layer.outputs[0] in _made_behind(tensor, readers):
        tensor = layer.outputs[0]  # the quantizer joined the operator with the one behind it (scale and shift)
    return Partner(tensor, layer.name)


def _made_behind(tensor: str, readers: Mapping[str, list[onnx.NodeProto]]) -> set[str]:
    return {name for reader in readers.get(tensor, []) for name in reader.output}


def _checked(partner: Partner, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> Partner:
    """``partner``, unless its shape is known and another one. [1, H, W, C] there is [1, C, H, W] here."""
    there = shapes.get(partner.tensor)
    if there is None or there == planes_shape(shape):
        return partner
    return Partner(reason=f"the float tensor is {list(there)}, not {list(planes_shape(shape))}")


def planes_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape in the float graph of a tensor that a .espdl holds as ``shape``."""
    return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Known shapes of inputs, tensors between, and outputs."""
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and all(dim.dim_value for dim in dims):
            found[value.name] = tuple(dim.dim_value for dim in dims)
    return found
