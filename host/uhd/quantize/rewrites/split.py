"""Splitting convolutions along their output channels, so that no filter outgrows the data cache.

ESP-DL walks the whole filter for every output pixel. A filter beyond the cache is fetched again each time; of several
smaller ones each is fetched once. An output channel depends on its own part of the filter alone, so that the pieces
compute the very integers of the whole.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from uhd.errors import ConfigError, ModelError
from uhd.espdl.document import Record
from uhd.espdl.layout import LANES, filter_dims, pack_filter, unpack_filter

#: Bytes of a filter that stay in 64 KB of cache beside the activations that go through it.
DEFAULT_LIMIT = 48 * 1024

#: Output channels of one block of ESP-DL's filters: a piece of whole blocks loses no vector lane. By bits.
BLOCK = {8: 16, 16: 8}

#: The schema's data types of the integers that a convolution has as constants.
INTEGERS: dict[int, np.dtype[Any]] = {3: np.dtype("<i1"), 5: np.dtype("<i2"), 6: np.dtype("<i4"), 7: np.dtype("<i8")}
LAYOUT_NOTE = "layout ==> "
UNALIGNED = "_UNALIGNED"


@dataclass(frozen=True)
class Split:
    """One convolution that became several.

    ``parts``: names of the new convolutions. ``channels``: output channels of each. ``part_outputs``: the tensors that
    they make. ``concat`` joins them to ``output``, a tensor of the original; where that was read by another Concat
    alone, that one takes the pieces instead (``merged``), and ``output`` is no more. ``filter_bytes``: of the original.
    ``largest_bytes``: of the largest piece; beyond the limit only where one block of output channels is.
    """

    operator: str
    parts: tuple[str, ...]
    channels: tuple[int, ...]
    part_outputs: tuple[str, ...]
    concat: str
    output: str
    filter_bytes: int
    largest_bytes: int
    merged: bool = False


def piece_channels(channels: int, channel_bytes: int, bits: int, limit: int) -> tuple[int, ...]:
    """Output channels of each piece: as few pieces as the limit allows, about equal, of whole blocks.

    ``channel_bytes`` is the filter's size for one output channel. Channels that fill no block come last.
    """
    block = BLOCK[bits]
    blocks = -(-channels // block)
    each = max(1, limit // (block * channel_bytes))
    count = -(-blocks // each)
    sizes = [block * (blocks // count + (index < blocks % count)) for index in range(count)]
    sizes[-1] -= blocks * block - channels
    return tuple(sizes)


def split_filters(model: Record, limit: int = DEFAULT_LIMIT) -> tuple[Split, ...]:
    """Split, in place, every convolution without groups of a .espdl ``model`` whose filter has more than ``limit``
    bytes.

    Pieces are named ``<name>_part0`` ..., their Concat ``<name>_concat``; tensors keep their names. Raises
    ``ConfigError`` for a limit below 1 byte, ``ModelError`` where a new name is taken.
    """
    if limit < 1:
        raise ConfigError(f"a filter limit of {limit} bytes", hint="give a size such as 48k")
    graph = model["graph"]
    constants = {tensor["name"]: tensor for tensor in graph["constants"]}
    splits: list[Split] = []
    nodes: list[Record] = []
    cut: dict[str, list[Record]] = {}  # constants of pieces, by that of the whole
    for node in graph["nodes"]:
        channels = _channels(node, constants, limit)
        if len(channels) < 2:
            nodes.append(node)
            continue
        pieces = {
            name: _cut(constants[name], channels, is_filter=index == 0)
            for index, name in enumerate(node["inputs"][1:])
            if name
        }
        made, split = _pieces(graph, node, constants, pieces, channels)
        cut |= pieces
        nodes.extend(made)
        splits.append(split)
    if not splits:
        return ()
    graph["nodes"] = nodes
    graph["constants"] = [piece for tensor in graph["constants"] for piece in cut.get(tensor["name"], [tensor])]
    splits = _merge_concats(graph, splits)
    _require_unique(graph)
    return tuple(splits)


def attribute(node: Record, name: str, key: str, default: Any = None) -> Any:
    """The attribute ``name`` of a node, from the field ``key`` that its kind of value has."""
    return next((a[key] for a in node.get("attributes", []) if a["name"] == name), default)


def _channels(node: Record, constants: Mapping[str, Record], limit: int) -> tuple[int, ...]:
    """Output channels of the pieces; fewer than two entries: the node stays."""
    weight = constants.get(node["inputs"][1]) if node["op"] == "Conv" and len(node["inputs"]) > 1 else None
    if weight is None or attribute(node, "group", "i", 1) != 1 or weight["dtype"] not in (3, 5):
        return ()
    channels, channel_bytes = weight["dims"][3], _channel_bytes(weight)
    if channels * channel_bytes <= limit:
        return ()
    return piece_channels(channels, channel_bytes, 8 * INTEGERS[weight["dtype"]].itemsize, limit)


def _cut(tensor: Record, channels: Sequence[int], *, is_filter: bool) -> list[Record]:
    """A filter [H, W, C, N in the file's terms] or bias [N] cut along N; each piece in the file's own order."""
    kind = INTEGERS[tensor["dtype"]]
    values = np.frombuffer(tensor["raw"], kind)[: math.prod(tensor["dims"])]
    layout = tensor.get("doc", "").removeprefix(LAYOUT_NOTE)
    if is_filter:
        values = unpack_filter(values, filter_dims(tuple(tensor["dims"]), False), layout, False)
    made = []
    for number, (first, last) in enumerate(pairwise((0, *accumulate(channels)))):
        piece = {**tensor, "name": f"{tensor['name']}_part{number}", "dims": [*tensor["dims"][:-1], last - first]}
        part = values[first:last]
        if is_filter:
            order = layout.removesuffix(UNALIGNED)
            if LANES[order] > 1:
                order += UNALIGNED if (last - first) % LANES[order] else ""
                piece["doc"] = LAYOUT_NOTE + order
            part = pack_filter(part, order, False)
        piece["raw"] = np.ascontiguousarray(part).tobytes()
        if len(tensor["exponents"]) > 1:
            piece["exponents"] = tensor["exponents"][first:last]
        made.append(piece)
    return made


def _pieces(
    graph: Record,
    node: Record,
    constants: Mapping[str, Record],
    pieces: Mapping[str, Sequence[Record]],
    channels: tuple[int, ...],
) -> tuple[list[Record], Split]:
    """The nodes that replace a convolution; descriptions of what they make are added to the graph."""
    (output,) = node["outputs"]
    whole = next(v for v in (*graph["outputs"], *graph.get("values", [])) if v["name"] == output)
    made: list[Record] = []
    for number, count in enumerate(channels):
        inputs = [pieces[name][number]["name"] if name in pieces else name for name in node["inputs"]]
        part = {**node, "name": f"{node['name']}_part{number}", "inputs": inputs, "outputs": [f"{output}_part{number}"]}
        made.append(part)
        graph.setdefault("values", []).append(_narrower(whole, part["outputs"][0], count))
    ends = tuple(part["outputs"][0] for part in made)
    concat: Record = {
        "inputs": list(ends), "outputs": [output], "name": f"{node['name']}_concat", "op": "Concat",
        "attributes": [
            {"name": "axis", "kind": 2, "i": 3},
            *(a for a in node["attributes"] if a["name"] == "quant_type"),
        ],
    }  # fmt: skip
    parts = tuple(part["name"] for part in made)
    channel_bytes = _channel_bytes(constants[node["inputs"][1]])
    return [*made, concat], Split(
        node["name"], parts, channels, ends, concat["name"], output, sum(channels) * channel_bytes,
        max(channels) * channel_bytes,
    )  # fmt: skip


def _channel_bytes(weight: Record) -> int:
    """Bytes of a filter for one output channel."""
    return math.prod(weight["dims"][:3]) * INTEGERS[weight["dtype"]].itemsize


def _narrower(value: Record, name: str, channels: int) -> Record:
    """The description of an activation that has fewer channels and is otherwise the same."""
    made = copy.deepcopy(value) | {"name": name}
    made["type"]["tensor"]["shape"]["dims"][-1]["value"]["value"] = channels
    return made


def _merge_concats(graph: Record, splits: Sequence[Split]) -> list[Split]:
    """Let a Concat that alone reads joined pieces take them itself: one copy less."""
    readers = Counter(name for node in graph["nodes"] for name in node["inputs"])
    readers.update(value["name"] for part in ("outputs", "test_outputs") for value in graph.get(part, []))
    by_output = {split.output: split for split in splits}
    merged: dict[str, Split] = {}
    for node in graph["nodes"]:
        if node["op"] != "Concat" or attribute(node, "axis", "i") != 3:
            continue
        inputs: list[str] = []
        for name in node["inputs"]:
            split = by_output.get(name)
            if split is None or readers[name] != 1:
                inputs.append(name)
                continue
            merged[split.operator] = replace(split, concat=node["name"], merged=True)
            inputs.extend(split.part_outputs)
        node["inputs"] = inputs
    gone = {split.output for split in merged.values()}
    graph["nodes"] = [n for n in graph["nodes"] if n["op"] != "Concat" or not gone.intersection(n["outputs"])]
    graph["values"] = [value for value in graph["values"] if value["name"] not in gone]
    return [merged.get(split.operator, split) for split in splits]


def _require_unique(graph: Record) -> None:
    names = Counter(node["name"] for node in graph["nodes"])
    names.update(f"tensor {name}" for node in graph["nodes"] for name in node["outputs"])
    names.update(f"tensor {tensor['name']}" for tensor in graph["constants"])
    taken = [name for name, count in names.items() if count > 1]
    if taken:
        raise ModelError(f"{taken[0]}: a piece of a filter would take this name, but it is taken")
