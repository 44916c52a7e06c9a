"""Finding the head's maps in an ONNX file of any flavour, and cutting the graph there.

Every published flavour of an UltraTinyOD is the same network with something behind its output convolutions: nothing
(parts), a concatenation (one raw map), the decoding (primitive), or decoding and TopK (with post-process). Walking
back from the outputs, the first convolutions met are those that make the maps. What lies behind them is left out, so
that it does not matter in which order a file concatenates channels (docs/decisions/0002-raw-concat-layout.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from uhd.detect.decode import SCORE_MODES, score_factors
from uhd.errors import ModelError
from uhd.export.graph import drop_unused

#: Names of the maps. ``box`` has 4 channels per anchor, the others one, or one per class or attribute.
MAPS = ("box", "obj", "quality", "cls", "attr")

#: What output convolutions and their weights are called: ``/box_out/Conv``, ``model.head.cls_out.weight``. Some
#: architectures have two for the boxes, each with 2 channels per anchor.
_HEAD = re.compile(rf"(?:^|[/.])({'|'.join(MAPS)})_out(_xy|_wh)?[/.]")
#: Blocks that only heads with a predicted IoU have; their score is ``quality_cls`` unless the file says otherwise.
_IOU_AWARE = re.compile(r"/(box|quality|cls)_tower/")
#: Last index of a box that is a width, or a height.
_SIDES = {2: 0, 3: 1}


@dataclass(frozen=True)
class Cut:
    """What was found besides the maps. ``sizes`` [A, 2] is anchors * wh_scale, if the decoding was in the graph."""

    sizes: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()


def cut_at_maps(model: onnx.ModelProto, score_mode: str | None = None) -> Cut | None:
    """Make the maps the outputs of ``model``, in place; None, and no change, where they are not found.

    ``score_mode`` (None: the file's own) decides which maps are kept; where neither is known, heads that predict the
    IoU leave out ``obj``, as their own exports do. A parts file is left as it is, but for boxes in two halves.
    """
    graph = Graph(model.graph)
    heads = graph.heads()
    if "box" in graph.outputs and "box_xy" not in heads:
        return Cut()
    if not ("box" in heads or {"box_xy", "box_wh"} <= set(heads)) or not set(heads) & {"obj", "quality", "cls"}:
        return None
    sizes = graph.sizes(heads)
    if "box_xy" in heads:
        heads["box"] = _join_halves(graph, heads.pop("box_xy"), heads.pop("box_wh"))
    kept, notes = _kept(heads, _stated_mode(model, heads, score_mode))
    _set_outputs(graph, {name: heads[name] for name in MAPS if name in kept})
    return Cut(sizes, notes)


class Graph:
    """A graph with lookups: who makes a tensor, what constants hold."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.proto = graph
        self.makers = {name: node for node in graph.node for name in node.output}
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = [output.name for output in graph.output if output.name in self.makers]

    def behind(self, names: Iterable[str]) -> Iterator[onnx.NodeProto]:
        """The nodes that ``names`` are computed by, each once, back to the convolutions met first."""
        seen: set[str] = set()
        waiting = list(names)
        while waiting:
            node = self.makers.get(waiting.pop())
            if node is None or node.output[0] in seen:
                continue
            seen.add(node.output[0])
            yield node
            if node.op_type != "Conv":
                waiting.extend(node.input)

    def heads(self) -> dict[str, onnx.NodeProto]:
        """The output convolutions by map name (``box_xy`` and ``box_wh`` for halves of boxes)."""
        found: dict[str, onnx.NodeProto] = {}
        for node in self.behind(self.outputs):
            names = (node.name, *node.input[1:2]) if node.op_type == "Conv" else ()
            match = next((m for m in map(_HEAD.search, names) if m), None)
            if match is not None:
                found[match[1] + (match[2] or "")] = node
        return found

    def value(self, name: str) -> NDArray[np.generic] | None:
        """What a constant holds; None if ``name`` is computed."""
        if name in self.constants:
            return numpy_helper.to_array(self.constants[name])
        maker = self.makers.get(name)
        if maker is not None and maker.op_type == "Constant":
            return next((numpy_helper.to_array(a.t) for a in maker.attribute if a.name == "value"), None)
        return None

    def sizes(self, heads: dict[str, onnx.NodeProto]) -> NDArray[np.float32] | None:
        """anchors * wh_scale [A, 2], from the products of a box's sides with one constant an anchor; None if absent."""
        box = [heads[name].output[0] for name in ("box", "box_wh") if name in heads]
        count = self.channels(heads["box"]) // 4 if "box" in heads else self.channels(heads["box_wh"]) // 2
        found: dict[int, NDArray[np.float32]] = {}
        for node in self.behind(self.outputs):
            values = [self.value(name) for name in node.input] if node.op_type == "Mul" else []
            for index, value in enumerate(values):
                if value is None or value.ndim != 4 or value.shape[1] != count or value.size != count:
                    continue
                behind = list(self.behind([node.input[1 - index]]))
                if any(made.output[0] in box for made in behind):
                    found |= {side: value.reshape(-1).astype(np.float32) for side in self._sides(behind)}
        return np.stack([found[0], found[1]], 1) if len(found) == 2 else None

    def _sides(self, nodes: Iterable[onnx.NodeProto]) -> Iterator[int]:
        """0 where the nodes take the width out of a box, 1 where they take the height."""
        for node in nodes:
            index = self.value(node.input[1]) if node.op_type == "Gather" else None
            if index is not None and index.size == 1 and int(index.reshape(-1)[0]) in _SIDES:
                yield _SIDES[int(index.reshape(-1)[0])]

    def channels(self, conv: onnx.NodeProto) -> int:
        """Output channels of a convolution; 0 if its filter is not constant."""
        weight = self.constants.get(conv.input[1])
        return weight.dims[0] if weight is not None else 0


def _join_halves(graph: Graph, xy: onnx.NodeProto, wh: onnx.NodeProto) -> onnx.NodeProto:
    """One convolution in place of the two that make a box's centre and its size: every sum stays as it is.

    The graph would otherwise interleave their channels in five dimensions, which the chip's runtime cannot.
    """
    halves = []
    for conv in (xy, wh):
        parts = [graph.value(name) for name in conv.input[1:3]]
        if len(parts) != 2 or any(part is None for part in parts) or conv.input[0] != xy.input[0]:
            raise ModelError(
                f"{conv.name}: half of the boxes without a constant filter or bias", hint="export it again"
            )
        halves.append([np.asarray(part) for part in parts])
    joined = []
    for kind, (a, b) in zip(("weight", "bias"), zip(*halves, strict=True), strict=True):
        pairs = [half.reshape(-1, 2, *half.shape[1:]) for half in (a, b)]
        values = np.concatenate(pairs, 1).reshape(-1, *a.shape[1:])
        joined.append(numpy_helper.from_array(values, f"box_out.{kind}"))
    graph.proto.initializer.extend(joined)
    graph.constants |= {tensor.name: tensor for tensor in joined}
    xy.name = xy.name.replace("box_out_xy", "box_out")
    del xy.input[1:]
    xy.input.extend(tensor.name for tensor in joined)
    return xy


def _stated_mode(model: onnx.ModelProto, heads: dict[str, onnx.NodeProto], score_mode: str | None) -> str | None:
    """The score mode that is known: the caller's, the file's, or that of a head that predicts the IoU."""
    stated = next((prop.value for prop in model.metadata_props if prop.key == "score_mode"), "")
    if score_mode or stated in SCORE_MODES:
        return score_mode or stated
    if "quality" in heads and any(_IOU_AWARE.search(node.name) for node in model.graph.node):
        return "quality_cls"
    return None


def _kept(heads: dict[str, onnx.NodeProto], mode: str | None) -> tuple[set[str], tuple[str, ...]]:
    """The maps that the score is made of, with boxes and attributes; and what is left out, in words."""
    scores = set(heads) - {"box", "attr"}
    try:
        needed = set(score_factors(mode, frozenset(scores))) if mode else scores
    except ModelError:  # a mode that this file cannot serve: whoever compares the two says so
        needed = scores
    left_out = sorted(scores - needed)
    notes = tuple(f"{name}: no part of the score ({mode}), so its branch is left out" for name in left_out)
    return set(heads) - set(left_out), notes


def _set_outputs(graph: Graph, maps: dict[str, onnx.NodeProto]) -> None:
    """Make the convolutions' outputs those of the graph, under the maps' names; drop what they do not need."""
    old = {conv.output[0]: name for name, conv in maps.items()}
    needed: set[str] = set()
    waiting = list(old)
    while waiting:
        maker = graph.makers.get(waiting.pop())
        if maker is not None and maker.output[0] not in needed:
            needed.add(maker.output[0])
            waiting.extend(maker.input)
    nodes = [node for node in graph.proto.node if node.output[0] in needed]
    del graph.proto.node[:], graph.proto.value_info[:], graph.proto.output[:]
    graph.proto.node.extend(nodes)
    kind = onnx.TensorProto.FLOAT
    graph.proto.output.extend(onnx.helper.make_tensor_value_info(name, kind, None) for name in maps)
    for node in graph.proto.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = old.get(name, name)
    pairs = [tensor for tensor in graph.proto.initializer if tensor.name in ("anchors", "wh_scale")]
    drop_unused(graph.proto)
    kept = {tensor.name for tensor in graph.proto.initializer}
    graph.proto.initializer.extend(tensor for tensor in pairs if tensor.name not in kept)


def drop_input_resize(model: onnx.ModelProto) -> str:
    """Take out a Resize of the picture at the start of a graph that takes any size; returns a note, or "".

    The picture is resized before it is packed and fed here (``uhd.image``), as in training; in the graph it would be
    resized after packing, which for YUV 4:2:2 mixes up U and V.
    """
    graph = model.graph
    lookup = Graph(graph)
    if len(graph.input) != 1:
        return ""
    picture = graph.input[0]
    dims = picture.type.tensor_type.shape.dim
    readers = [node for node in graph.node if picture.name in node.input]
    if [node.op_type for node in readers] != ["Resize"] or len(dims) != 4 or all(dim.dim_value for dim in dims[2:]):
        return ""
    (resize,) = readers
    sizes = lookup.value(resize.input[3]) if len(resize.input) > 3 else None
    if sizes is None or sizes.size != 4:
        return ""
    for dim, size in zip(dims[2:], sizes.reshape(-1)[2:], strict=True):
        dim.dim_value = int(size)
    made = resize.output[0]
    graph.node.remove(resize)
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = picture.name if name == made else name
    del graph.value_info[:]
    return f"{resize.name}: left out, pictures are resized before they are packed"
