"""Operators of the oracle that move integers and compute nothing: their input and output share one exponent."""

from __future__ import annotations

import numpy as np

from uhd.errors import ModelError
from uhd.espdl import shapes
from uhd.espdl.model import Node
from uhd.espdl.state import Array, Run


def concat(state: Run, node: Node) -> Array:
    """Copies; the exporter aligns the exponents."""
    state.aligned(node, *node.inputs, node.outputs[0])
    rank = len(state.tensor(node.inputs[0]).shape)
    axis = shapes.integer(node, "axis", 0)
    parts = [state.values[name] for name in node.inputs]
    if not -rank <= axis < rank or any(p.ndim != rank for p in parts):
        raise ModelError(f"node {node.name!r}: axis {axis} of {rank} dimensions")
    sizes = {tuple(n for i, n in enumerate(p.shape) if i != axis % rank) for p in parts}
    if len(sizes) != 1:
        raise ModelError(f"node {node.name!r} joins {[p.shape for p in parts][:4]}")
    return np.concatenate(parts, axis=axis)


def move(state: Run, node: Node) -> Array:
    """Reshape and its like: same integers in the output's shape."""
    state.aligned(node, node.inputs[0], node.outputs[0])
    x, shape = state.values[node.inputs[0]], state.tensor(node.outputs[0]).shape
    if x.size != int(np.prod(shape, dtype=np.int64)):
        raise ModelError(f"node {node.name!r} ({node.op}) makes {shape} of {x.shape}")
    return x.reshape(shape)


def transpose(state: Run, node: Node) -> Array:
    state.aligned(node, node.inputs[0], node.outputs[0])
    x = state.values[node.inputs[0]]
    order = node.attributes.get("perm", list(range(x.ndim))[::-1])
    if sorted(order) != list(range(x.ndim)):
        raise ModelError(f"node {node.name!r}: perm {str(order)[:40]} of {x.ndim} dimensions")
    return x.transpose(order)


def slice_(state: Run, node: Node) -> Array:
    """starts, ends, axes, steps are constant inputs 1 to 4."""
    state.aligned(node, node.inputs[0], node.outputs[0])
    x = state.values[node.inputs[0]]
    lists = [[int(v) for v in state.values[n].reshape(-1)] if n else None for n in node.inputs[1:5]]
    starts, ends, axes, steps = (*lists, None, None, None, None)[:4]
    if starts is None or ends is None:
        raise ModelError(f"node {node.name!r} has no starts or ends")
    axes = axes if axes is not None else list(range(len(starts)))
    steps = steps if steps is not None else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or any(not -x.ndim <= a < x.ndim for a in axes):
        raise ModelError(f"node {node.name!r} slices axes {axes[:8]} of {x.ndim} dimensions")
    selection = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step <= 0:
            raise ModelError(f"node {node.name!r} slices with step {step}", hint="use positive steps")
        selection[axis] = slice(start, end, step)
    return x[tuple(selection)]


def split(state: Run, node: Node) -> tuple[Array, ...]:
    """Along ``axis`` into the sizes that the outputs have."""
    state.aligned(node, node.inputs[0], *node.outputs)
    x, axis = state.values[node.inputs[0]], shapes.integer(node, "axis", 0)
    if not -x.ndim <= axis < x.ndim:
        raise ModelError(f"node {node.name!r}: axis {axis} of {x.ndim} dimensions")
    ends = np.cumsum([(*state.tensor(name).shape, *(0,) * x.ndim)[axis % x.ndim] for name in node.outputs])
    return tuple(np.split(x, ends[:-1], axis=axis))
