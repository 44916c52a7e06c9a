"""Depthwise convolutions of an ONNX file: choosing them for int16, and writing them out as dense ones."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from uhd.errors import ModelError
from uhd.export.graph import DEPTHWISE_PREFIX
from uhd.quantize.source import read_source

#: Activations that belong to the convolution (or normalisation) before them.
_ACTIVATIONS = frozenset({"Relu", "Clip", "Sigmoid", "HardSigmoid", "LeakyRelu", "PRelu", "Elu"})
#: What the blocks of this architecture call the parts of a depthwise half.
_PARTS = (f"^{DEPTHWISE_PREFIX}", "/dw/bn/", "/dw/act/")


def int16_patterns(path: Path) -> tuple[str, ...]:
    """Patterns that make every depthwise convolution of an ONNX file int16, with the normalisation and activation
    behind it. Only those that match something. Raises ``ModelError`` where there are no depthwise convolutions."""
    nodes = list(onnx.load_from_string(read_source(path).onnx).graph.node)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = [p for p in _PARTS if any(re.search(p, node.name) for node in nodes)]
    behind: set[str] = set()
    for node in nodes:
        if not node.name.startswith(DEPTHWISE_PREFIX):
            continue
        for reader in readers.get(node.output[0], []):
            steps = [reader]
            if reader.op_type == "BatchNormalization":
                behind.add(reader.name)
                steps = readers.get(reader.output[0], [])
            behind |= {step.name for step in steps if step.op_type in _ACTIVATIONS}
    exact = [f"^{re.escape(name)}$" for name in sorted(behind) if not any(re.search(p, name) for p in found)]
    if not found and not exact:
        raise ModelError(f"{path}: no depthwise convolution by name", hint=f"their names begin with {DEPTHWISE_PREFIX}")
    return (*found, *exact)


def expand_groups(path: Path, output: Path) -> int:
    """Write the file with every grouped convolution as a dense one whose other weights are zero; returns how many.

    Names stay. The result computes the same with more work: for runtimes without grouped convolutions. Raises
    ``ModelError`` for a filter that is no constant.
    """
    model = onnx.load(path)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    count = 0
    for node in model.graph.node:
        group = next((a for a in node.attribute if a.name == "group"), None)
        if node.op_type != "Conv" or group is None or group.i <= 1:
            continue
        if node.input[1] not in constants:
            raise ModelError(f"{path}: the filter of {node.name} is no constant", hint="export it again")
        narrow = numpy_helper.to_array(constants[node.input[1]])
        out_each, in_each = narrow.shape[0] // group.i, narrow.shape[1]
        dense = np.zeros((narrow.shape[0], in_each * group.i, *narrow.shape[2:]), narrow.dtype)
        for number in range(group.i):
            rows = slice(number * out_each, (number + 1) * out_each)
            dense[rows, number * in_each : (number + 1) * in_each] = narrow[rows]
        name = f"{node.input[1]}_dense"
        model.graph.initializer.append(numpy_helper.from_array(dense, name))
        node.input[1] = name
        group.i = 1
        count += 1
    used = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)
    onnx.save(model, output)
    return count
