"""Shapes of a graph: what each operator's attributes make of its inputs, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from uhd.errors import ModelError
from uhd.espdl.model import Node, Tensor

_LIMIT = 1 << 16


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution or pooling: (y, x) pairs, ``pads`` [top, left, bottom, right]."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    ceil: bool

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the output (ONNX's formula; with ``ceil`` no window starts in the end padding)."""
        return self._extent(0, height), self._extent(1, width)

    def misses(self, height: int, width: int) -> bool:
        """Whether some window sees nothing but padding."""
        return any(self._misses(axis, size) for axis, size in enumerate((height, width)))

    def _misses(self, axis: int, size: int) -> bool:
        reach = range(0, self.dilations[axis] * self.kernel[axis], self.dilations[axis])
        starts = (i * self.strides[axis] - self.pads[axis] for i in range(self._extent(axis, size)))
        return any(not any(0 <= start + step < size for step in reach) for start in starts)

    def _extent(self, axis: int, size: int) -> int:
        padded = size + self.pads[axis] + self.pads[axis + 2]
        room = padded - self.dilations[axis] * (self.kernel[axis] - 1) - 1
        stride = self.strides[axis]
        count = (room + (stride - 1 if self.ceil else 0)) // stride + 1
        if self.ceil and (count - 1) * stride >= size + self.pads[axis]:
            count -= 1
        return count


def integers(node: Node, name: str, count: int, default: int, low: int) -> tuple[int, ...]:
    """A list attribute of ``count`` integers from ``low`` up. Raises ``ModelError`` if it is anything else."""
    value = node.attributes.get(name, [default] * count)
    if not isinstance(value, list) or len(value) != count or not all(low <= v <= _LIMIT for v in value):
        raise ModelError(f"node {node.name!r}: attribute {name} is {str(value)[:40]}")
    return tuple(value)


def integer(node: Node, name: str, default: int) -> int:
    """An integer attribute. Raises ``ModelError`` if it is anything else."""
    value = node.attributes.get(name, default)
    if not isinstance(value, int):
        raise ModelError(f"node {node.name!r}: attribute {name} is {str(value)[:40]}")
    return value


def window(node: Node) -> Window:
    """The window of a Conv, MaxPool or AveragePool node. Raises ``ModelError`` for nonsense."""
    kernel = integers(node, "kernel_shape", 2, 0, 1)
    strides = integers(node, "strides", 2, 1, 1)
    dilations = integers(node, "dilations", 2, 1, 1)
    pads = integers(node, "pads", 4, 0, 0)
    return Window(
        (kernel[0], kernel[1]),
        (strides[0], strides[1]),
        (pads[0], pads[1], pads[2], pads[3]),
        (dilations[0], dilations[1]),
        bool(integer(node, "ceil_mode", 0)),
    )


def is_depthwise(node: Node, weight: Tensor) -> bool:
    """Whether a Conv filters every channel by itself (its filter is stored as [1, H, W, N])."""
    group = integer(node, "group", 1)
    return group > 1 and weight.shape[0] == 1 and weight.shape[3] == group


def conv_shape(node: Node, x: Tensor, weight: Tensor) -> tuple[int, ...]:
    """Output shape of a Conv. Raises ``ModelError`` if filter, groups, and input do not fit each other."""
    geometry = window(node)
    group = integer(node, "group", 1)
    if is_depthwise(node, weight):
        outputs, per_group = group, 1
    else:
        outputs, per_group = weight.shape[0], weight.shape[3]
    if len(x.shape) != 4 or group < 1 or x.shape[3] != per_group * group or outputs % group:
        raise ModelError(f"node {node.name!r}: filter {weight.shape} in {group} groups on input {x.shape}")
    if geometry.kernel != weight.shape[1:3]:
        raise ModelError(f"node {node.name!r}: kernel {geometry.kernel} with filter {weight.shape}")
    return (x.shape[0], *geometry.output(x.shape[1], x.shape[2]), outputs)


def broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    """NumPy's broadcast shape, or None."""
    rank = max(len(a), len(b))
    left, right = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    if any(m != n and 1 not in (m, n) for m, n in zip(left, right, strict=True)):
        return None
    return tuple(n if m == 1 else m for m, n in zip(left, right, strict=True))


def reduced_axes(node: Node, tensors: Mapping[str, Tensor], rank: int) -> tuple[int, ...]:
    """The axes (sorted, not negative) that a Reduce node removes; all of them if it names none."""
    axes = tensors.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is None or axes.data is None or axes.data.size == 0:
        return () if integer(node, "noop_with_empty_axes", 0) else tuple(range(rank))
    values = [int(v) for v in axes.data.reshape(-1)]
    if any(not -rank <= v < rank for v in values):
        raise ModelError(f"node {node.name!r}: axes {values[:8]} of {rank} dimensions")
    return tuple(sorted({v % rank for v in values}))


def has_filter(node: Node) -> bool:
    """Whether a node multiplies with a filter, its second input."""
    return node.op in ("Conv", "Gemm") and len(node.inputs) > 1


def macs(node: Node, tensors: Mapping[str, Tensor]) -> int:
    """Multiply-accumulates of a node: those of Conv and Gemm, 0 for anything else."""
    if not has_filter(node):
        return 0
    weight, y = tensors[node.inputs[1]], tensors[node.outputs[0]]
    outputs = weight.shape[3] if is_depthwise(node, weight) else weight.shape[0]
    return math.prod(y.shape) * math.prod(weight.shape) // max(outputs, 1)
