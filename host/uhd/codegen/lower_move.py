"""Operators that move integers: views where nothing has to move, otherwise copies; Concat in place if possible."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from uhd.codegen.lower import Lowering, unsupported
from uhd.codegen.lower_simple import aligned
from uhd.codegen.steps import DescriptorRef, Ref, Step, Value
from uhd.espdl import shapes
from uhd.espdl.model import Node

_RANK = 6


def dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Elements from one index to the next along each axis."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def collapse(extent: tuple[int, ...], source: tuple[int, ...], target: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(extent, source stride, target stride) an axis, outermost first, with axes merged where both sides allow."""
    axes: list[tuple[int, int, int]] = []
    for size, a, b in zip(extent, source, target, strict=True):
        if size == 1:
            continue
        if axes and axes[-1][1] == a * size and axes[-1][2] == b * size:
            axes[-1] = (axes[-1][0] * size, a, b)
        else:
            axes.append((size, a, b))
    return axes or [(1, 1, 1)]


def _move(
    state: Lowering, node: Node, x: Value, y: Value, extent: tuple[int, ...], source: tuple[int, ...],
    target: tuple[int, ...], source_offset: int = 0, target_offset: int = 0,
) -> None:  # fmt: skip
    """Append ``move`` of a box of ``extent`` elements."""
    if x.bytes != y.bytes:
        raise unsupported(node, f"a move from {x.ctype} to {y.ctype}")
    if math.prod(extent) == 0:
        return
    axes = collapse(extent, source, target)
    if len(axes) > _RANK:
        raise unsupported(node, f"{len(axes)} axes that do not merge")
    axes = [(1, 0, 0)] * (_RANK - len(axes)) + axes
    fields = {name: tuple(axis[i] for axis in axes) for i, name in enumerate(("extent", "from", "to"))}
    state.add(node, f"move<{x.ctype}>", (DescriptorRef(), Ref(x.name, source_offset), Ref(y.name, target_offset)),
              (x.name,), y.name, struct="Move", fields=fields)  # fmt: skip


def _view(state: Lowering, node: Node) -> None:
    """Reshape and its like: the same memory under another name, unless the result is a graph output."""
    x = state.value(node)
    aligned(state, node, node.inputs[0], node.outputs[0])
    if node.outputs[0] not in state.model.outputs:
        state.make(node, x.low, x.high, source=(x.name, 0))
        return
    y = state.make(node, x.low, x.high)
    _move(state, node, x, y, (x.elements,), (1,), (1,))


def _transpose(state: Lowering, node: Node) -> None:
    x = state.value(node)
    aligned(state, node, node.inputs[0], node.outputs[0])
    order = node.attributes.get("perm", list(range(len(x.shape)))[::-1])
    if sorted(order) != list(range(len(x.shape))):
        raise unsupported(node, f"perm {str(order)[:40]} of {len(x.shape)} dimensions")
    y = state.make(node, x.low, x.high)
    strides = dense_strides(x.shape)
    _move(state, node, x, y, y.shape, tuple(strides[axis] for axis in order), dense_strides(y.shape))


def _slice(state: Lowering, node: Node) -> None:
    x = state.value(node)
    aligned(state, node, node.inputs[0], node.outputs[0])
    rank = len(x.shape)
    lists = [_integers(state, node, index) for index in range(1, 5)]
    starts, ends = lists[0], lists[1]
    if starts is None or ends is None or len(starts) != len(ends):
        raise unsupported(node, "no constant starts and ends")
    axes = lists[2] if lists[2] is not None else list(range(len(starts)))
    steps = lists[3] if lists[3] is not None else [1] * len(starts)
    ranges = [range(size) for size in x.shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if not -rank <= axis < rank or step <= 0:
            raise unsupported(node, f"axis {axis} with step {step}", "use positive steps")
        ranges[axis] = range(x.shape[axis])[slice(start, end, step)]
    y = state.make(node, x.low, x.high)
    strides = dense_strides(x.shape)
    offset = sum(r.start * stride for r, stride in zip(ranges, strides, strict=True) if len(r))
    source = tuple(r.step * stride for r, stride in zip(ranges, strides, strict=True))
    _move(state, node, x, y, tuple(map(len, ranges)), source, dense_strides(y.shape), offset)


def _integers(state: Lowering, node: Node, index: int) -> list[int] | None:
    """A constant integer operand; None if it is not given."""
    if index >= len(node.inputs) or not node.inputs[index]:
        return None
    tensor = state.constant(node.inputs[index])
    if tensor is None or tensor.data is None:
        raise unsupported(node, f"operand {index} is not constant")
    return [int(v) for v in tensor.data.reshape(-1)]


def _split(state: Lowering, node: Node) -> None:
    x = state.value(node)
    aligned(state, node, node.inputs[0], *node.outputs)
    axis = _axis(node, len(x.shape))
    strides = dense_strides(x.shape)
    start = 0
    for index in range(len(node.outputs)):
        y = state.make(node, x.low, x.high, output=index)
        _move(state, node, x, y, y.shape, strides, dense_strides(y.shape), start * strides[axis])
        start += y.shape[axis]


def _axis(node: Node, rank: int) -> int:
    axis = shapes.integer(node, "axis", 0)
    if not -rank <= axis < rank:
        raise unsupported(node, f"axis {axis} of {rank} dimensions")
    return axis % rank


def _concat(state: Lowering, node: Node) -> None:
    """Parts made by a matrix kernel for this node alone are made in place; the others are copied."""
    if any(state.constant(name) is not None for name in node.inputs):
        raise unsupported(node, "a constant part")
    parts = [state.value(node, index) for index in range(len(node.inputs))]
    aligned(state, node, *node.inputs, node.outputs[0])
    y = state.make(node, min(p.low for p in parts), max(p.high for p in parts))
    axis = _axis(node, len(y.shape))
    strides = dense_strides(y.shape)
    offset = 0
    for part in parts:
        if axis != len(y.shape) - 1 or not _produce_into(state, part, y, offset):
            _move(state, node, part, y, part.shape, dense_strides(part.shape), strides, 0, offset * strides[axis])
        offset += part.shape[axis]


def _produce_into(state: Lowering, part: Value, whole: Value, offset: int) -> bool:
    """Let the step that makes ``part`` write it into ``whole`` at that channel, if it can and nobody else reads it."""
    makers = [index for index, step in enumerate(state.steps) if step.writes == part.name]
    if len(makers) != 1 or state.uses[part.name] != 1 or part.bytes != whole.bytes:
        return False
    step = state.steps[makers[0]]
    if step.struct != "GemmConv" or len(part.shape) != 4:
        return False
    state.steps[makers[0]] = _redirected(step, part, whole, offset)
    state.values[part.name] = replace(part, source=(whole.name, offset))
    return True


def _redirected(step: Step, part: Value, whole: Value, offset: int) -> Step:
    arguments = tuple(
        Ref(whole.name, offset) if isinstance(a, Ref) and a.tensor == part.name else a for a in step.arguments
    )
    fields = {**step.fields, "out_pitch": whole.shape[3]}
    return replace(step, arguments=arguments, fields=fields, writes=whole.name, in_place=())


MOVES: dict[str, Callable[[Lowering, Node], None]] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"), _view),
    "Transpose": _transpose,
    "Slice": _slice,
    "Split": _split,
    "Concat": _concat,
}
