"""Splitting convolutions along their output channels, so that no filter outgrows the data cache.

ESP-DL walks the whole filter for every output pixel. A filter beyond the cache is fetched again each time; of several
smaller ones each is fetched once. An output channel depends on its own part of the filter alone, so that the pieces
compute the very integers of the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from uhd.errors import ConfigError, ModelError
from uhd.export.graph import drop_unused, initializers

#: Bytes of a filter that stay in 64 KB of cache beside the activations that go through it.
DEFAULT_LIMIT = 48 * 1024

#: Output channels of one block of ESP-DL's filters: a piece of whole blocks loses no vector lane. By bits.
BLOCK = {8: 16, 16: 8}


@dataclass(frozen=True)
class Split:
    """One convolution that became several.

    ``parts``: names of the new convolutions. ``channels``: output channels of each. ``part_outputs``: the tensors that
    they make, behind the Relu if there is one. ``concat`` joins them to ``output``, a tensor of the original; where
    that was read by another Concat alone, that one takes the pieces instead, in place of its input ``replaced`` (else
    None), and ``output`` is no more. ``first_input`` is where the pieces begin among the Concat's inputs.
    ``filter_bytes``: of the original. ``largest_bytes``: of the largest piece; beyond the limit only where one block
    of output channels is.
    """

    operator: str
    parts: tuple[str, ...]
    channels: tuple[int, ...]
    part_outputs: tuple[str, ...]
    concat: str
    output: str
    filter_bytes: int
    largest_bytes: int
    replaced: int | None = None
    first_input: int = 0


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


def split_filters(model: onnx.ModelProto, bits: Mapping[str, int], limit: int = DEFAULT_LIMIT) -> tuple[Split, ...]:
    """Split, in place, every dense convolution of ``model`` whose filter has more than ``limit`` bytes.

    ``bits`` gives the precision (8 or 16) of each convolution by name; those that it does not name stay. A Relu that
    alone reads a convolution goes to each piece, so that it can be fused there. Pieces are named ``<name>_part0`` ...,
    their Concat ``<name>_concat``; tensors keep their names. Raises ``ConfigError`` for a limit below 1 byte,
    ``ModelError`` where a new name is taken.
    """
    if limit < 1:
        raise ConfigError(f"a filter limit of {limit} bytes", hint="give a size such as 48k")
    graph = model.graph
    weights = initializers(graph)
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    splits: list[Split] = []
    nodes: list[onnx.NodeProto] = []
    moved: set[str] = set()  # outputs of Relus that went to the pieces
    for node in graph.node:
        if node.op_type == "Relu" and node.output[0] in moved:
            continue
        channels = _channels(node, weights, bits, limit)
        if len(channels) < 2:
            nodes.append(node)
            continue
        relu = None
        if readers[node.output[0]] == 1:
            relu = next((n for n in graph.node if n.op_type == "Relu" and node.output[0] in n.input), None)
        if relu is not None:
            moved.add(relu.output[0])
        made, split = _pieces(graph, node, relu, channels, bits[node.name])
        nodes.extend(made)
        splits.append(split)
    if splits:
        del graph.node[:]
        graph.node.extend(nodes)
        splits = _merge_concats(graph, splits)
        del graph.value_info[:]  # of tensors that are gone, too; shapes are inferred anew
        drop_unused(graph)
        _require_unique(graph)
    return tuple(splits)


def _channels(
    node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto], bits: Mapping[str, int], limit: int
) -> tuple[int, ...]:
    """Output channels of the pieces; fewer than two entries: the node stays."""
    if node.op_type != "Conv" or node.name not in bits or node.input[1] not in weights:
        return ()
    group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    dims = weights[node.input[1]].dims
    channel_bytes = int(np.prod(dims[1:])) * bits[node.name] // 8
    if group != 1 or dims[0] * channel_bytes <= limit:
        return ()
    return piece_channels(dims[0], channel_bytes, bits[node.name], limit)


def _pieces(
    graph: onnx.GraphProto, node: onnx.NodeProto, relu: onnx.NodeProto | None, channels: tuple[int, ...], bits: int
) -> tuple[list[onnx.NodeProto], Split]:
    """The nodes that replace a convolution (and its Relu); their constants are added to the graph."""
    constants = {
        index: numpy_helper.to_array(tensor)
        for index, name in enumerate(node.input)
        if index and name
        for tensor in graph.initializer
        if tensor.name == name
    }
    output = (relu or node).output[0]
    made: list[onnx.NodeProto] = []
    ends: list[str] = []
    first = 0
    for number, count in enumerate(channels):
        part = onnx.NodeProto()
        part.CopyFrom(node)
        part.name = f"{node.name}_part{number}"
        part.output[0] = f"{node.output[0]}_part{number}"
        for index, values in constants.items():
            piece = numpy_helper.from_array(values[first : first + count].copy(), f"{node.input[index]}_part{number}")
            graph.initializer.append(piece)
            part.input[index] = piece.name
        made.append(part)
        ends.append(part.output[0])
        if relu is not None:
            ends[-1] = f"{output}_part{number}"
            made.append(helper.make_node("Relu", [part.output[0]], [ends[-1]], name=f"{relu.name}_part{number}"))
        first += count
    concat = helper.make_node("Concat", ends, [output], name=f"{node.name}_concat", axis=1)
    made.append(concat)
    channel_bytes = constants[1][0].size * bits // 8
    parts = tuple(part.name for part in made if part.op_type == "Conv")
    return made, Split(
        node.name, parts, channels, tuple(ends), concat.name, output, first * channel_bytes,
        max(channels) * channel_bytes,
    )  # fmt: skip


def _merge_concats(graph: onnx.GraphProto, splits: Sequence[Split]) -> list[Split]:
    """Let a Concat that alone reads joined pieces take them itself: one copy less, and esp-ppq's simplifier would."""
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    by_output = {split.output: split for split in splits}
    made = {split.operator: split for split in splits}
    for node in graph.node:
        if node.op_type != "Concat" or next(a.i for a in node.attribute if a.name == "axis") != 1:
            continue
        inputs: list[str] = []
        for index, name in enumerate(node.input):
            split = by_output.get(name)
            if split is None or readers[name] != 1:
                inputs.append(name)
                continue
            made[split.operator] = replace(split, concat=node.name, replaced=index, first_input=len(inputs))
            inputs.extend(split.part_outputs)
        node.input[:] = inputs
    gone = {split.concat for split in splits} - {split.concat for split in made.values()}
    kept = [node for node in graph.node if node.op_type != "Concat" or node.name not in gone]
    del graph.node[:]
    graph.node.extend(kept)
    return list(made.values())


def _require_unique(graph: onnx.GraphProto) -> None:
    names = Counter(node.name for node in graph.node if node.name)
    names.update(f"tensor {name}" for node in graph.node for name in node.output)
    names.update(f"tensor {tensor.name}" for tensor in graph.initializer)
    taken = [name for name, count in names.items() if count > 1]
    if taken:
        raise ModelError(f"{taken[0]}: a piece of a filter would take this name, but it is taken")
