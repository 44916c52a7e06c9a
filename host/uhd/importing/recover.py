"""The weights and options of an UltraTinyOD, read off the structure of its graph.

Node and tensor names play no part, so files that other tools have rewritten are read too. Reading is lenient: whether
the recovered model computes what the file computes is decided by running both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from uhd.importing.net import Conv, FloatArray, Net, StrangerError
from uhd.models.blocks import BN_EPS


@dataclass
class Recovered:
    """What a graph tells: ``weights`` by the keys of a state dict; ``clipped``, whether the box features are."""

    weights: dict[str, NDArray[Any]] = field(default_factory=dict)
    activations: set[str] = field(default_factory=set)
    stride: int = 1
    dilation: int | None = None
    clipped: bool = False
    folded: dict[str, tuple[int, FloatArray | None]] = field(default_factory=dict)

    def block(self, conv: Conv, key: str, norm: str = "") -> str:
        """Note a convolution and the bias left of its normalisation (by default ``key.conv`` and ``key.bn``)."""
        self.weights[f"{key}.weight" if norm else f"{key}.conv.weight"] = conv.weight
        self.folded[norm or f"{key}.bn"] = (len(conv.weight), conv.bias)
        return conv.output

    def plain(self, conv: Conv, key: str) -> str:
        """Note a convolution with a bias of its own."""
        self.weights[f"{key}.weight"] = conv.weight
        self.weights[f"{key}.bias"] = np.zeros(len(conv.weight), np.float32) if conv.bias is None else conv.bias
        return conv.output

    def norm(self, key: str, scale: FloatArray, shift: FloatArray) -> None:
        """Note a normalisation that multiplies and adds: its variance and epsilon make 1 in float32, to the bit."""
        zeros = np.zeros(scale.size, np.float32)
        self.weights |= {
            f"{key}.weight": scale.reshape(-1),
            f"{key}.bias": shift.reshape(-1),
            f"{key}.running_mean": zeros,
            f"{key}.running_var": zeros + np.float32(1 - BN_EPS),
            f"{key}.num_batches_tracked": np.zeros((), np.int64),
        }

    def unfold(self) -> None:
        """Make normalisations of the folded biases; where no convolution has a bias, there were none."""
        if all(bias is None for _, bias in self.folded.values()):
            return
        for key, (count, bias) in self.folded.items():
            zeros = np.zeros(count, np.float32)
            self.norm(key, zeros + 1, zeros if bias is None else bias)


def recover(graph: onnx.GraphProto) -> Recovered:
    """Read a graph from one picture to maps named box, obj, quality, cls, attr.

    Raises ``StrangerError`` where it is not an UltraTinyOD's.
    """
    reader = _Reader(Net(graph))
    trunk = reader.trunk(reader.backbone(graph.input[0].name))
    for output in graph.output:
        reader.branch(output.name, trunk)
    reader.found.unfold()
    return reader.found


class _Reader:
    def __init__(self, net: Net) -> None:
        self.net = net
        self.found = Recovered()
        self.dense = False

    def one(self, tensor: str, kernel: int) -> Conv:
        """The one convolution of that size that reads ``tensor``."""
        found = [conv for conv in self.net.convs(tensor) if conv.kernel == kernel]
        if len(found) != 1:
            raise StrangerError(f"{len(found)} {kernel}x{kernel} convolutions read {tensor} where one is expected")
        return found[0]

    def act(self, tensor: str) -> str:
        tensor, kind = self.net.activated(tensor)
        self.found.activations.add(kind)
        return tensor

    def double(self, tensor: str, key: str) -> str:
        """A depthwise convolution and a 1x1 one, or in the dense style a single one."""
        first = self.one(tensor, 3)
        if self.dense:
            return self.act(self.found.block(first, f"{key}.conv"))
        middle = self.act(self.found.block(first, f"{key}.dw"))
        return self.act(self.found.block(self.one(middle, 1), f"{key}.pw"))

    def backbone(self, tensor: str) -> str:
        first = self.one(tensor, 3)
        self.found.stride = first.stride
        tensor = self.act(self.found.block(first, "backbone.stem"))
        # A depthwise convolution keeps the channels, a dense one doubles them here.
        self.dense = len(self.one(tensor, 3).weight) != len(first.weight)
        for stage in range(1, 5):
            tensor = self.stage(tensor, f"backbone.block{stage}")
        return self.pooling(tensor, "backbone.sppf")

    def stage(self, tensor: str, key: str) -> str:
        self.found.stride *= self.one(tensor, 3).stride
        result = self.double(tensor, key)
        adds = self.net.readers(result, "Add")
        if not adds:
            return result
        skip = self.net.other(adds[0], result)
        if skip != tensor:
            self.found.block(self.net.conv(self.net.maker(skip)), f"{key}_skip")
        return adds[0].output[0]

    def pooling(self, tensor: str, key: str) -> str:
        tensor = self.act(self.found.block(self.one(tensor, 1), f"{key}.cv1"))
        pooled = self.net.reader(tensor, "MaxPool").output[0]
        self.scaled(tensor, f"{key}.scale_x")
        joined = self.scaled(pooled, f"{key}.scale_y")
        return self.act(self.found.block(self.one(joined, 1), f"{key}.cv2"))

    def scaled(self, tensor: str, key: str) -> str:
        """A half of the pooling, rescaled or not, up to where the halves are joined."""
        node = self.net.reader(tensor, "Concat", "Conv", "Mul", "BatchNormalization")
        if node.op_type == "Conv":
            tensor = self.found.block(self.net.conv(node), key)
        elif node.op_type == "Mul":
            scale = self.net.constant(self.net.other(node, tensor))
            add = self.net.reader(node.output[0], "Add")
            shift = self.net.constant(self.net.other(add, node.output[0]))
            if scale is None or shift is None:
                raise StrangerError(f"{tensor} is not scaled by constants")
            self.found.norm(key, scale, shift)
            tensor = add.output[0]
        elif node.op_type == "BatchNormalization":
            values = [self.net.constant(name) for name in node.input[1:5]]
            gamma, beta, mean, variance = (np.zeros(1) if v is None else v.astype(np.float64) for v in values)
            epsilon = next((entry.f for entry in node.attribute if entry.name == "epsilon"), 1e-5)
            factor = gamma / np.sqrt(variance + epsilon)
            self.found.norm(key, factor.astype(np.float32), (beta - mean * factor).astype(np.float32))
            tensor = node.output[0]
        return str(self.net.reader(tensor, "Concat").output[0])

    def trunk(self, tensor: str) -> str:
        tensor = self.double(tensor, "head.context")
        if self.kinds(tensor) == [(3, 1)] and self.net.readers(tensor, "Add"):
            inner = self.double(tensor, "head.context_res.0")
            inner = self.act(self.found.block(self.one(inner, 1), "head.context_res.1"))
            tensor = self.added(self.double(inner, "head.context_res.2"))
        if (5, 1) in self.kinds(tensor):
            tensor = self.field(tensor, "head.head_rfb")
        if (3, 2) in self.kinds(tensor):
            tensor = self.large(tensor)
        means = self.net.readers(tensor, "ReduceMean", "GlobalAveragePool")
        if means:
            gate = self.found.plain(self.one(means[0].output[0], 1), "head.head_se.fc")
            gate = self.net.reader(gate, "Sigmoid").output[0]
            tensor = self.net.reader(gate, "Mul").output[0]
        return tensor

    def kinds(self, tensor: str) -> list[tuple[int, int]]:
        """Size and stride of the convolutions that read ``tensor``."""
        return [(conv.kernel, conv.stride) for conv in self.net.convs(tensor)]

    def added(self, tensor: str) -> str:
        return str(self.net.reader(tensor, "Add").output[0])

    def field(self, tensor: str, key: str) -> str:
        """The receptive-field block."""
        dilated = self.one(tensor, 3)
        self.found.dilation = dilated.dilation
        branch = f"{key}.branch_dilated"
        joined = self.act(self.found.block(dilated, f"{branch}.0", f"{branch}.1"))
        self.found.block(self.one(tensor, 5), f"{key}.branch_wide.0", f"{key}.branch_wide.1")
        joined = self.net.reader(joined, "Concat").output[0]
        return self.added(self.act(self.found.block(self.one(joined, 1), f"{key}.fuse")))

    def large(self, tensor: str) -> str:
        """The branch for large objects, at half the resolution."""
        key = "head.large_obj_down"
        inner = self.act(self.found.block(self.one(tensor, 3), f"{key}.0", f"{key}.1"))
        inner = self.act(self.found.block(self.one(inner, 1), f"{key}.3"))
        depth = 0
        while not (resized := self.net.readers(inner, "Resize", "Upsample")):
            inner = self.double(inner, f"head.large_obj_blocks.{depth}")
            depth += 1
        fused = self.act(self.found.block(self.one(resized[0].output[0], 1), "head.large_obj_fuse"))
        gate = self.net.readers(fused, "Mul")
        if gate:
            self.gain(self.net.other(gate[0], fused), "head.large_obj_gate_raw")
            fused = gate[0].output[0]
        return self.added(fused)

    def gain(self, tensor: str, key: str) -> None:
        """A factor between 0 and 1 that is the sigmoid of one number, folded or not; noted as that number."""
        value = self.net.constant(tensor)
        logit = self.net.constant(self.net.maker(tensor).input[0]) if value is None else _logit(value)
        if logit is None or logit.size != 1 or not np.isfinite(logit).all():
            raise StrangerError(f"{tensor} is no gain between 0 and 1")
        self.found.weights[key] = logit.reshape(1)

    def branch(self, name: str, trunk: str) -> None:
        """The convolutions between the trunk and one map, found backwards from the map."""
        convs, gains = self.chain(name, trunk)
        if not convs or convs[-1].output != name:
            raise StrangerError(f"the map {name} is not what a convolution gives")
        self.found.plain(convs[-1], f"head.{name}_out")
        self.tower("cls" if name == "attr" else name, convs[:-1])
        for index, gain in enumerate(gains, 1):
            self.gain(gain, f"head.box_tower_res{index if len(gains) > 1 else ''}_alpha_raw")

    def chain(self, tensor: str, trunk: str) -> tuple[list[Conv], list[str]]:
        """Convolutions, and constant factors of inner skips, on the way from ``trunk`` to ``tensor``."""
        convs: list[Conv] = []
        gains: list[str] = []
        while tensor != trunk:
            node = self.net.maker(tensor)
            if node.op_type == "Conv":
                convs.append(self.net.conv(node))
                tensor = node.input[0]
            elif node.op_type in ("Relu", "Clip"):
                self.found.clipped |= node.op_type == "Clip"
                tensor = node.input[0]
            elif node.op_type == "Mul":
                gate, other = self.gate(node)
                if gate:
                    gains.append(gate)
                tensor = other
            elif node.op_type == "Add":
                products = [name for name in node.input if self.scaled_by_constant(name)]
                if len(products) != 1:
                    raise StrangerError(f"Add {node.name} joins no branch that has a gain")
                tensor = products[0]
            else:
                raise StrangerError(f"{node.op_type} {node.name} is between the trunk and a map")
        return convs[::-1], gains[::-1]

    def gate(self, node: onnx.NodeProto) -> tuple[str, str]:
        """Of a product: the constant factor ("" for a SiLU) and what it multiplies."""
        for factor, other in (node.input, reversed(node.input)):
            if self.net.constant(factor) is not None:
                return factor, other
            maker = self.net.maker(factor)
            if maker.op_type == "Sigmoid" and maker.input[0] == other:
                return "", other
            if maker.op_type == "Sigmoid" and self.net.constant(maker.input[0]) is not None:
                return factor, other
        raise StrangerError(f"Mul {node.name} is neither an activation nor a gain")

    def scaled_by_constant(self, tensor: str) -> bool:
        try:
            node = self.net.maker(tensor)
            return node.op_type == "Mul" and self.gate(node)[0] != ""
        except StrangerError:
            return False

    def tower(self, name: str, convs: list[Conv]) -> None:
        """Name the convolutions of a branch: blocks that begin at each 3x3, behind a 1x1 in the class branch."""
        starts = [index for index, conv in enumerate(convs) if conv.kernel == 3]
        blocks = [convs[start:stop] for start, stop in zip(starts, [*starts[1:], len(convs)], strict=True)]
        several = len(blocks) > 1
        first = 0
        if name == "cls":
            if not starts or starts[0] != 1:
                raise StrangerError("the class branch does not begin with one 1x1 convolution")
            self.found.block(convs[0], "head.cls_tower.0" if several else "head.cls_reduce")
            first = 1
        for index, block in enumerate(blocks):
            key = f"head.{name}_tower.{index + first}" if several else f"head.{name}_conv"
            low_rank = ["dw", "pw_reduce", "pw_expand"]
            parts = low_rank if len(block) == 3 else ["conv"] if self.dense else ["dw", "pw"]
            if len(block) != len(parts):
                raise StrangerError(f"the {name} branch has a block of {len(block)} convolutions")
            for conv, part in zip(block, parts, strict=True):
                self.found.block(conv, f"{key}.{part}")


def _logit(value: FloatArray) -> FloatArray:
    wide = value.astype(np.float64)
    with np.errstate(all="ignore"):
        return np.log(wide / (1 - wide)).astype(np.float32)
