"""EspdlModel values made by hand, for graphs that no quantizer would write."""

from __future__ import annotations

import dataclasses

import numpy as np

from uhd.espdl.model import EspdlModel, Node, Tensor


def activation(name: str, shape: tuple[int, ...], exponent: int, bits: int = 8) -> Tensor:
    """A tensor without data."""
    return Tensor(name, shape, f"int{bits}", (exponent,))


def constant(name: str, data: np.ndarray, *exponents: int) -> Tensor:
    """A tensor with data."""
    return Tensor(name, data.shape, str(data.dtype), exponents or (0,), data)


def model(
    nodes: list[Node], tensors: list[Tensor], inputs: tuple[str, ...], outputs: tuple[str, ...], target: str = "c"
) -> EspdlModel:
    """A model from its parts."""
    named = {tensor.name: tensor for tensor in tensors}
    return EspdlModel("hand", target, tuple(nodes), named, inputs, outputs, "0" * 64, 0)


def conv_model(
    weight: np.ndarray, bias: np.ndarray | None = None, *, size: tuple[int, int] = (4, 4), group: int = 1,
    exponents: tuple[int, int, int] = (-7, -7, -7), target: str = "c", bits: int = 8, activation_name: str = "Linear",
) -> EspdlModel:  # fmt: skip
    """One stride-1 convolution without padding: input "x", output "y"; ``exponents`` of x, weight, y."""
    depthwise = group > 1 and weight.shape[0] == 1
    channels = group if depthwise else weight.shape[3] * group
    outputs = weight.shape[3] if depthwise else weight.shape[0]
    kernel = list(weight.shape[1:3])
    names = ("x", "w") if bias is None else ("x", "w", "b")
    node = Node("/conv/Conv", "Conv", names, ("y",), {
        "activation": activation_name, "group": group, "kernel_shape": kernel, "strides": [1, 1], "dilations": [1, 1],
        "pads": [0] * 4, "quant_type": f"S{bits}",
    }, bits)  # fmt: skip
    rows, columns = size[0] - kernel[0] + 1, size[1] - kernel[1] + 1
    tensors = [
        activation("x", (1, *size, channels), exponents[0], bits), constant("w", weight, exponents[1]),
        activation("y", (1, rows, columns, outputs), exponents[2], bits),
    ]  # fmt: skip
    if bias is not None:
        tensors.append(constant("b", bias, exponents[0] + exponents[1]))
    return model([node], tensors, ("x",), ("y",), target)


def with_tensor(original: EspdlModel, name: str, **changes: object) -> EspdlModel:
    """``original`` with fields of one tensor changed."""
    changed = dataclasses.replace(original.tensors[name], **changes)  # type: ignore[arg-type]
    return dataclasses.replace(original, tensors={**original.tensors, name: changed})


def with_node(original: EspdlModel, index: int, **changes: object) -> EspdlModel:
    """``original`` with fields of one node changed; ``attributes`` are merged."""
    node = original.nodes[index]
    if "attributes" in changes:
        changes["attributes"] = {**node.attributes, **changes["attributes"]}  # type: ignore[dict-item]
    nodes = list(original.nodes)
    nodes[index] = dataclasses.replace(node, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(original, nodes=tuple(nodes))
