"""What is in a .espdl file, in numbers: layers, memory, totals."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from uhd.espdl import shapes
from uhd.espdl.lint import lint
from uhd.espdl.model import EspdlModel, Node, Tensor


@dataclass(frozen=True)
class Layer:
    """One node. ``exponents``: of input, weights (lowest and highest), output; None where there is none."""

    name: str
    op: str
    bits: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    input_exponent: int | None
    weight_exponents: tuple[int, int] | None
    output_exponent: int
    parameter_bytes: int
    macs: int
    note: str


@dataclass(frozen=True)
class Report:
    """The whole file. Bytes are of the integers themselves; ``peak_activation_bytes`` is the most that is live at
    once with nothing computed in place, ``largest_filter_bytes`` what one layer streams through the cache."""

    name: str
    target: str
    sha256: str
    file_bytes: int
    layers: tuple[Layer, ...]
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    operators: dict[str, int]
    int16_layers: int
    macs: int
    weight_bytes: int
    peak_activation_bytes: int
    largest_filter_bytes: int
    largest_filter: str
    test_vectors: int
    metadata: dict[str, str]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of the tensor's integers."""
    return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize


def parameters(node: Node, model: EspdlModel) -> list[Tensor]:
    """The constants that a node computes with: filter, bias, operand, table; not shapes, axes, or scales."""
    names = [node.attributes["lut"]] if isinstance(node.attributes.get("lut"), str) else []
    names += node.inputs if node.op in ("Add", "Sub", "Mul") else node.inputs[1:3] if shapes.has_filter(node) else []
    found = [model.tensors[name] for name in names if name in model.tensors]
    return [tensor for tensor in found if tensor.data is not None]


def weight_bytes(model: EspdlModel) -> int:
    """Bytes of all filters, biases, constant operands and tables, each counted once."""
    used = {tensor.name: tensor for node in model.nodes for tensor in parameters(node, model)}
    return sum(tensor_bytes(tensor) for tensor in used.values())


def peak_activation_bytes(model: EspdlModel) -> int:
    """The most bytes of activations that live at once: a tensor lives from the node that makes it to the last that
    reads it, graph outputs to the end, and inputs and outputs of a node at the same time."""
    last = {name: index for index, node in enumerate(model.nodes) for name in node.inputs}
    last |= dict.fromkeys(model.outputs, len(model.nodes))
    live = sum(tensor_bytes(model.tensors[name]) for name in model.inputs)
    alive = set(model.inputs)
    peak = live
    for index, node in enumerate(model.nodes):
        alive |= set(node.outputs)
        live += sum(tensor_bytes(model.tensors[name]) for name in node.outputs)
        peak = max(peak, live)
        dead = {name for name in alive if last.get(name, index) <= index}
        live -= sum(tensor_bytes(model.tensors[name]) for name in dead)
        alive -= dead
    return peak


def _note(node: Node, model: EspdlModel) -> str:
    """What tells this node from others of its kind: kernel, stride, groups, activation."""
    if node.op not in ("Conv", "MaxPool", "AveragePool"):
        return "table" if "lut" in node.attributes else ""
    geometry = shapes.window(node)
    parts = [f"{geometry.kernel[0]}x{geometry.kernel[1]}"]
    if geometry.strides != (1, 1):
        parts.append(f"/{geometry.strides[0]}")
    if geometry.dilations != (1, 1):
        parts.append(f"dil {geometry.dilations[0]}")
    if node.op == "Conv":
        if shapes.is_depthwise(node, model.tensors[node.inputs[1]]):
            parts.append("depthwise")
        elif shapes.integer(node, "group", 1) > 1:
            parts.append(f"{node.attributes['group']} groups")
        if node.attributes.get("activation") == "Relu":
            parts.append("relu")
    return " ".join(parts)


def _layer(node: Node, model: EspdlModel) -> Layer:
    x, y = model.tensors.get(node.inputs[0]), model.tensors[node.outputs[0]]
    weights = model.tensors[node.inputs[1]].exponents if shapes.has_filter(node) else None
    return Layer(
        name=node.name,
        op=node.op,
        bits=node.bits,
        input_shape=x.shape if x else (),
        output_shape=y.shape,
        input_exponent=x.exponents[0] if x else None,
        weight_exponents=(min(weights), max(weights)) if weights else None,
        output_exponent=y.exponents[0],
        parameter_bytes=sum(map(tensor_bytes, parameters(node, model))),
        macs=shapes.macs(node, model.tensors),
        note=_note(node, model),
    )


def _interface(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "shape": tensor.shape, "dtype": tensor.dtype, "exponent": tensor.exponents[0]}


def inspect_model(model: EspdlModel) -> Report:
    """All figures of a parsed file."""
    layers = tuple(_layer(node, model) for node in model.nodes)
    filters = [(tensor_bytes(model.tensors[n.inputs[1]]), n.name) for n in model.nodes if shapes.has_filter(n)]
    largest = max(filters, default=(0, ""))
    operators = [layer.op for layer in layers]
    return Report(
        name=model.name,
        target=model.target,
        sha256=model.sha256,
        file_bytes=model.size_bytes,
        layers=layers,
        inputs=tuple(_interface(model.tensors[name]) for name in model.inputs),
        outputs=tuple(_interface(model.tensors[name]) for name in model.outputs),
        operators={op: operators.count(op) for op in sorted(set(operators))},
        int16_layers=sum(layer.bits == 16 for layer in layers),
        macs=sum(layer.macs for layer in layers),
        weight_bytes=weight_bytes(model),
        peak_activation_bytes=peak_activation_bytes(model),
        largest_filter_bytes=largest[0],
        largest_filter=largest[1],
        test_vectors=len(model.test_inputs) + len(model.test_outputs),
        metadata=dict(model.metadata),
        warnings=tuple(lint(model)),
    )
