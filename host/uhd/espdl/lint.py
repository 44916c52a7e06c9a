"""What a .espdl file says that its chip will not do, or will do slowly.

Facts: ESP-DL 3.3.9's sources (int16 Resize is an empty function; no W8A16 kernel; Add, Concat and MaxPool do not
look at exponents), measured latencies (a filter beyond about 48 KiB falls out of the ESP32-S3's data cache and is
read from PSRAM again for every output pixel).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from uhd.espdl import shapes
from uhd.espdl.model import EspdlModel, Node
from uhd.espdl.operators import OPERATORS
from uhd.targets import TARGETS

#: Filters larger than this are re-read from slow memory (bytes).
CACHE_FRIENDLY_FILTER = 48 * 1024
_ALIGNED = ("Add", "Sub", "Concat", "MaxPool")
_INT16_ACCUMULATOR = {"c": 64, "esp32s3": 40, "esp32p4": 40}


def lint(model: EspdlModel) -> list[str]:
    """Warnings, one line each, in the order of the nodes; general ones last. Empty for a clean file."""
    found = [line for node in model.nodes for line in _node_warnings(node, model)]
    return found + list(_summary_warnings(model))


def _node_warnings(node: Node, model: EspdlModel) -> Iterator[str]:
    quant_type = node.attributes.get("quant_type", "F32")
    if node.op not in OPERATORS or node.bits == 32:
        yield f"{node.name}: {node.op} ({quant_type}) has no integer kernel here"
        return
    if quant_type == "W8A16":
        yield f"{node.name}: quant_type W8A16 has no kernel in ESP-DL 3.3.9"
    if node.op == "Resize" and node.bits == 16:
        yield f"{node.name}: ESP-DL's int16 Resize leaves its output unwritten; keep Resize in int8"
    if node.op in ("Sigmoid", "Swish", "Tanh", "HardSwish", "HardSigmoid") and node.bits == 16:
        yield f"{node.name}: int16 {node.op} is computed in floating point on the chip: slow, and not exact"
    if node.op in _ALIGNED and node.bits != 32:
        names = (*node.inputs, node.outputs[0])
        exponents = [model.tensors[name].exponents[0] for name in names]
        if len(set(exponents)) > 1:
            yield f"{node.name}: {node.op} with unaligned exponents {exponents}; the chip ignores exponents here"
    if node.op == "Conv":
        yield from _conv_warnings(node, model)
    elif node.op == "Mul":
        shift = _exponent(model, node.outputs[0]) - sum(_exponent(model, name) for name in node.inputs[:2])
        if shift < 0:
            yield f"{node.name}: shifts its products left by {-shift}, which ESP-DL cannot"


def _exponent(model: EspdlModel, name: str) -> int:
    return model.tensors[name].exponents[0]


def _conv_warnings(node: Node, model: EspdlModel) -> Iterator[str]:
    weight = model.tensors[node.inputs[1]]
    products = _exponent(model, node.inputs[0]) + np.array(weight.exponents)
    shift = _exponent(model, node.outputs[0]) - int(products.max())
    if shift < 0:
        yield f"{node.name}: shifts its sums left by {-shift}, which ESP-DL cannot"
    bias = model.tensors.get(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None and np.any(np.array(bias.exponents) != products):
        yield f"{node.name}: the bias is not at the exponent of the products; the chip ignores exponents here"
    assert weight.data is not None
    bits = TARGETS[model.target].accumulator_bits_int8 if node.bits == 8 else _INT16_ACCUMULATOR[model.target]
    low, high = accumulator_bounds(node, model)
    if low < -(1 << (bits - 1)) or high >= 1 << (bits - 1):
        yield f"{node.name}: sums may reach {max(high, -low):,}, beyond the {bits}-bit accumulator; check on real data"
    size = weight.data.size * weight.data.itemsize
    if model.target == "esp32s3" and size > CACHE_FRIENDLY_FILTER:
        yield f"{node.name}: a filter of {size:,} B falls out of the data cache; split its output channels"


def accumulator_bounds(node: Node, model: EspdlModel) -> tuple[int, int]:
    """Lowest and highest sum (bias included) that a Conv could meet for any input of its data type.

    An input that comes out of a fused Relu is taken as not negative.
    """
    x, weight = model.tensors[node.inputs[0]], model.tensors[node.inputs[1]]
    limits = np.iinfo(x.dtype)
    relu = any(n.outputs[0] == x.name and n.attributes.get("activation") == "Relu" for n in model.nodes)
    low, high = (0 if relu else int(limits.min)), int(limits.max)
    assert weight.data is not None
    axes = (0, 1, 2) if shapes.is_depthwise(node, weight) else (1, 2, 3)
    positive = np.maximum(weight.data, 0).sum(axis=axes, dtype=np.int64)
    negative = np.minimum(weight.data, 0).sum(axis=axes, dtype=np.int64)
    bias = model.tensors.get(node.inputs[2]) if len(node.inputs) > 2 else None
    offset = bias.data.reshape(-1).astype(np.int64) if bias is not None and bias.data is not None else np.int64(0)
    top, bottom = positive * high + negative * low + offset, positive * low + negative * high + offset
    return min(int(bottom.min()), 0), max(int(top.max()), 0)


def _summary_warnings(model: EspdlModel) -> Iterator[str]:
    target = TARGETS[model.target]
    partial = []
    for node in model.nodes:
        lanes = target.lanes_int8 if node.bits == 8 else target.lanes_int16
        if node.op == "Conv" and model.tensors[node.outputs[0]].shape[3] % lanes:
            partial.append(node.name)
    if partial:
        yield (
            f"{len(partial)} of {sum(n.op == 'Conv' for n in model.nodes)} convolutions have output channels that fill "
            f"no whole {target.lanes_int8}-lane block (first {partial[0]}): slower kernels"
        )
