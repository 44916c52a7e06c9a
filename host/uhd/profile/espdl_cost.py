"""Costs of a .espdl file, with predicted times."""

from __future__ import annotations

import math
from collections.abc import Sequence

from uhd.espdl import shapes
from uhd.espdl.inspect import parameters, peak_activation_bytes, tensor_bytes
from uhd.espdl.model import EspdlModel, Node
from uhd.predict.latency import OpTime
from uhd.profile.cost import ELEMENTWISE, LayerCost, ModelCost


def espdl_cost(model: EspdlModel, source: str, times: Sequence[OpTime] | None = None) -> ModelCost:
    """Costs of a parsed file; ``times``: predicted, one for each operator in order (None: not predicted)."""
    layers, read = [], set[str]()
    for index, node in enumerate(model.nodes):
        out = model.tensors[node.outputs[0]]
        own = [tensor for tensor in parameters(node, model) if tensor.name not in read]
        read |= {tensor.name for tensor in own}
        layers.append(
            LayerCost(
                node.name,
                node.op,
                out.shape,
                sum(math.prod(tensor.shape) for tensor in own),
                sum(map(tensor_bytes, own)),
                shapes.macs(node, model.tensors),
                _flops(node, model),
                sum(tensor_bytes(model.tensors[name]) for name in node.outputs),
                times[index].total_ms if times else None,
            )
        )
    return ModelCost(source, "espdl", tuple(layers), peak_activation_bytes(model))


def _flops(node: Node, model: EspdlModel) -> int:
    """The published convention on integers: as if each were a float. A fused ReLU counts as one by itself would."""
    count = math.prod(model.tensors[node.outputs[0]].shape)
    if shapes.has_filter(node):
        bias = node.op == "Conv" and len(node.inputs) > 2 and node.inputs[2] != ""
        relu = node.attributes.get("activation") == "Relu"
        return 2 * shapes.macs(node, model.tensors) + count * (bias + relu)
    if node.op in ("MaxPool", "AveragePool"):
        return count * math.prod(shapes.window(node).kernel)
    return count if node.op in ELEMENTWISE or node.op.startswith("GlobalAverage") else 0
