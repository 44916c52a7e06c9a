"""Padding channels to whole vector registers, so that no convolution falls back to a slower kernel.

Zeros are added at the end: filters and biases of the operators that make the channels, filters of those that read them.
The added channels hold what they may, nobody weighs it; all others keep their integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from uhd.espdl.document import Record
from uhd.espdl.layout import filter_dims, pack_filter, unpack_filter
from uhd.quantize.rewrites.split import INTEGERS, LAYOUT_NOTE, UNALIGNED, attribute
from uhd.targets import TARGETS

#: Operators that keep channels apart, constants of theirs left out.
_CHANNELWISE = ("Add", "Sub", "Mul", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "Resize",
                "RequantizeLinear", "Relu", "Sigmoid", "Swish", "HardSwish", "HardSigmoid", "Tanh")  # fmt: skip


def pad_channels(model: Record, target: str) -> dict[str, int]:
    """Pad, in place, activations of a .espdl ``model`` whose channels fill no whole block of ``target``'s lanes.

    Inputs and outputs of the graph keep their channels, and so does what an operator joins with other channels, or
    moves. Returns the channels that each padded tensor had, by its name; filters and biases included.
    """
    graph = model["graph"]
    constants = {tensor["name"]: tensor for tensor in graph["constants"]}
    values = {value["name"]: value for value in graph["values"] if value["name"] not in {"", *constants}}
    sizes = _padded_sizes(graph, values, constants, target)
    if not sizes:
        return {}
    before: dict[str, int] = {}
    for node in graph["nodes"]:
        source, output = node["inputs"][0], node["outputs"][0]
        if node["op"] == "Conv" and (source in sizes or output in sizes):
            grouped = attribute(node, "group", "i", 1) > 1
            weight = constants[node["inputs"][1]]
            before[weight["name"]] = weight["dims"][2 if grouped else 3]
            _pad_filter(weight, grouped, 0 if grouped else sizes.get(source, 0), sizes.get(output, 0))
            if output in sizes and len(node["inputs"]) > 2 and node["inputs"][2]:
                bias = constants[node["inputs"][2]]
                before[bias["name"]] = bias["dims"][0]
                _pad_bias(bias, sizes[output])
            for entry in node["attributes"] if grouped else ():
                if entry["name"] == "group":
                    entry["i"] = sizes[output]
        elif node["op"] == "Resize" and output in sizes:
            for name in filter(None, node["inputs"][1:]):
                _resize(constants[name], _dims(values[output])[-1], sizes[output])
    for name, channels in sizes.items():
        dims = values[name]["type"]["tensor"]["shape"]["dims"]
        before[name] = dims[-1]["value"]["value"]
        dims[-1]["value"]["value"] = channels
    for part in ("test_inputs", "test_outputs"):  # their shapes are of before
        if part in graph:
            graph[part] = [vector for vector in graph[part] if vector["name"] not in sizes]
    return before


def _padded_sizes(
    graph: Record, values: Mapping[str, Record], constants: Mapping[str, Record], target: str
) -> dict[str, int]:
    """New channel counts of the activations to pad: those that share channels are padded alike, or none is."""
    parent = {name: name for name in values}
    fixed = {value["name"] for part in ("inputs", "outputs") for value in graph[part]} & values.keys()

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph["nodes"]:
        names = [name for name in (*node["inputs"], *node["outputs"]) if name in values]
        if node["op"] == "Conv" and attribute(node, "group", "i", 1) == 1:
            continue
        if not _keeps_channels_apart(node, names, values, constants):
            fixed.update(names)
        for name in names[1:]:
            parent[root(name)] = root(names[0])
    members: dict[str, list[str]] = {}
    for name in parent:
        members.setdefault(root(name), []).append(name)
    sizes = {}
    for group in members.values():
        if fixed.isdisjoint(group) and all(len(_dims(values[name])) == 4 for name in group):
            lanes = max(_lanes(values[name], target) for name in group)
            channels = _dims(values[group[0]])[-1]
            if channels % lanes:
                sizes.update(dict.fromkeys(group, -(-channels // lanes) * lanes))
    return sizes


def _keeps_channels_apart(
    node: Record, names: Iterable[str], values: Mapping[str, Record], constants: Mapping[str, Record]
) -> bool:
    """Whether an output channel depends on the same channel of the inputs alone, and no constant goes by channels."""
    if len({tuple(_dims(values[name])[-1:]) for name in names}) != 1:
        return False
    if node["op"] == "Conv":
        return bool(attribute(node, "group", "i", 1) == constants[node["inputs"][1]]["dims"][2])  # depthwise
    fixed = [constants[name] for name in node["inputs"] if name in constants]
    if node["op"] == "RequantizeLinear":
        return True
    if node["op"] == "ReduceMean":
        return len(fixed) == 1 and set(_integers(fixed[0]).tolist()) <= {1, 2}
    if node["op"] == "Resize":
        return all(_is_of(tensor, _dims(values[node["outputs"][0]])) for tensor in fixed)
    return node["op"] in _CHANNELWISE and not fixed


def _dims(value: Record) -> list[int]:
    return [dim["value"]["value"] for dim in value["type"]["tensor"].get("shape", {}).get("dims", [])]


def _lanes(value: Record, target: str) -> int:
    chip = TARGETS[target]
    return chip.lanes_int16 if value["type"]["tensor"]["dtype"] == 5 else chip.lanes_int8


def _integers(tensor: Record) -> Any:
    return np.frombuffer(tensor["raw"], INTEGERS[tensor["dtype"]])[: math.prod(tensor["dims"])]


def _is_of(tensor: Record, output: list[int]) -> bool:
    """Whether a constant of a Resize is its scales (float32), or its sizes in an order that is known: esp-ppq leaves
    them as N, C, H, W."""
    count, *size, channels = output
    return tensor["dtype"] == 1 or (
        tensor["dtype"] == 7 and _integers(tensor).tolist() in ([count, channels, *size], output)
    )


def _resize(tensor: Record, channels: int, wanted: int) -> None:
    """Sizes of the padded result; scales stay."""
    if tensor["dtype"] == 7:
        found = _integers(tensor).copy()
        found[1 if found[1] == channels else 3] = wanted
        tensor["raw"] = found.tobytes()


def _pad_filter(weight: Record, grouped: bool, inputs: int, outputs: int) -> None:
    """Zeros up to ``inputs`` and ``outputs`` channels (0: as they are)."""
    layout = weight["doc"].removeprefix(LAYOUT_NOTE)
    old = filter_dims(tuple(weight["dims"]), grouped)
    n, h, w, c = max(old[0], outputs), old[1], old[2], max(old[3], inputs)
    values = unpack_filter(_integers(weight), old, layout, grouped)
    padded = np.pad(values, ((0, n - old[0]), (0, 0), (0, 0), (0, c - old[3])))
    layout = layout.removesuffix(UNALIGNED) if outputs else layout
    weight["doc"] = LAYOUT_NOTE + layout
    weight["dims"] = [h, w, n, c] if grouped else [h, w, c, n]
    weight["raw"] = np.ascontiguousarray(pack_filter(padded, layout, grouped)).tobytes()
    _pad_exponents(weight, outputs)


def _pad_bias(bias: Record, channels: int) -> None:
    values = _integers(bias)
    bias["raw"] = np.pad(values, (0, channels - values.size)).tobytes()
    bias["dims"] = [channels]
    _pad_exponents(bias, channels)


def _pad_exponents(tensor: Record, channels: int) -> None:
    """One exponent a channel stays one a channel; of zeros, any is right."""
    found = tensor["exponents"]
    if len(found) > 1:
        tensor["exponents"] = found + found[-1:] * (channels - len(found))
