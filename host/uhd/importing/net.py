"""An ONNX graph as something to walk through: what makes a tensor, what reads it, what is constant."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

FloatArray = NDArray[np.float32]


class StrangerError(Exception):
    """The graph is not the one that the reader knows; the text says where they part."""


@dataclass(frozen=True)
class Conv:
    """One convolution: ``weight`` is [O, I/groups, k, k]; ``stride`` and ``dilation`` are those of both axes."""

    source: str
    output: str
    weight: FloatArray
    bias: FloatArray | None
    stride: int
    dilation: int

    @property
    def kernel(self) -> int:
        return self.weight.shape[2]


class Net:
    """A graph with fixed shapes whose constants are folded."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._makers: dict[str, onnx.NodeProto] = {}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].HasField("t"):
                self._constants[node.output[0]] = node.attribute[0].t
                continue
            for name in node.output:
                self._makers[name] = node
            for name in dict.fromkeys(node.input):
                self._readers[name].append(node)

    def constant(self, tensor: str) -> FloatArray | None:
        """The value of a constant tensor; None for one that is computed. Raises ``StrangerError`` for a damaged one."""
        found = self._constants.get(tensor)
        try:
            return None if found is None else np.asarray(numpy_helper.to_array(found), np.float32)
        except (ValueError, TypeError):
            raise StrangerError(f"constant {tensor} holds no numbers of its shape") from None

    def maker(self, tensor: str) -> onnx.NodeProto:
        """The node that computes ``tensor``. Raises ``StrangerError`` for an input or a constant."""
        if tensor not in self._makers:
            raise StrangerError(f"{tensor} is not computed")
        return self._makers[tensor]

    def readers(self, tensor: str, *kinds: str) -> list[onnx.NodeProto]:
        """The nodes that read ``tensor``, in file order; only those of ``kinds`` where some are named."""
        return [node for node in self._readers[tensor] if not kinds or node.op_type in kinds]

    def reader(self, tensor: str, *kinds: str) -> onnx.NodeProto:
        """The one node of ``kinds`` that reads ``tensor``. Raises ``StrangerError`` for none and for several."""
        found = self.readers(tensor, *kinds)
        if len(found) != 1:
            others = ", ".join(node.op_type for node in self.readers(tensor)) or "nothing"
            raise StrangerError(f"{tensor} is read by {others} where one {' or '.join(kinds)} is expected")
        return found[0]

    def other(self, node: onnx.NodeProto, tensor: str) -> str:
        """The second input of a node with two, beside ``tensor``."""
        rest = [name for name in node.input if name != tensor]
        if len(node.input) != 2 or len(rest) != 1:
            raise StrangerError(f"{node.op_type} {node.name} does not join {tensor} with another tensor")
        return rest[0]

    def conv(self, node: onnx.NodeProto) -> Conv:
        """A node as a convolution. Raises ``StrangerError`` if it is none, or one that no block of ours has."""
        if node.op_type != "Conv":
            raise StrangerError(f"{node.op_type} {node.name} stands where a convolution is expected")
        weight = self.constant(node.input[1])
        bias = self.constant(node.input[2]) if len(node.input) > 2 else None
        found = {entry.name: list(entry.ints) or [entry.i] for entry in node.attribute}
        strides, dilations = found.get("strides", [1, 1]), found.get("dilations", [1, 1])
        if weight is None or weight.ndim != 4 or len(set(weight.shape[2:])) > 1:
            raise StrangerError(f"convolution {node.name} has no constant square filter")
        if len(set(strides)) > 1 or len(set(dilations)) > 1:
            raise StrangerError(f"convolution {node.name} has unequal strides or dilations")
        return Conv(node.input[0], node.output[0], weight, bias, strides[0], dilations[0])

    def convs(self, tensor: str) -> list[Conv]:
        """The convolutions that read ``tensor``."""
        return [self.conv(node) for node in self.readers(tensor, "Conv")]

    def activated(self, tensor: str) -> tuple[str, str]:
        """``tensor`` behind the activation that reads it, and which that is: relu or silu."""
        node = self.reader(tensor, "Relu", "Mul")
        if node.op_type == "Relu":
            return node.output[0], "relu"
        gate = self.maker(self.other(node, tensor))
        if gate.op_type != "Sigmoid" or gate.input[0] != tensor:
            raise StrangerError(f"{tensor} is multiplied with something other than its sigmoid")
        return node.output[0], "silu"
