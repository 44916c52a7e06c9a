"""What a chip has to do for a model, operator by operator."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np

from uhd.espdl import shapes
from uhd.espdl.inspect import tensor_bytes
from uhd.espdl.model import EspdlModel

#: Integers that one vector instruction computes, by their bits.
LANES = {8: 16, 16: 8}


@dataclass(frozen=True)
class Op:
    """One operator. ``bits`` are those of its sums' factors (of a requantization: of its result).

    ``pixels``: output positions, each of which walks the whole filter of ``filter_bytes`` (a convolution without groups
    or a depthwise one; 0 elsewhere). Bytes of constants beside the filter are left out: they are read once.
    """

    name: str
    kind: str
    bits: int
    macs: int
    pixels: int
    in_channels: int
    out_channels: int
    filter_bytes: int
    depthwise: bool
    input_bytes: int
    output_bytes: int
    outputs: int

    @property
    def aligned(self) -> bool:
        """Whether both channel counts fill the vector registers."""
        lanes = LANES[self.bits]
        return self.in_channels % lanes == 0 and self.out_channels % lanes == 0


def workload(model: EspdlModel) -> tuple[Op, ...]:
    """The operators of a model, in the order in which they run."""
    ops = []
    for node in model.nodes:
        known = [model.tensors[name] for name in node.inputs if name in model.tensors]
        inputs = [tensor for tensor in known if tensor.data is None]
        out = model.tensors[node.outputs[0]]
        filter_ = model.tensors[node.inputs[1]] if shapes.has_filter(node) else None
        source = inputs[0] if filter_ is not None and inputs else out
        ops.append(
            Op(
                name=node.name,
                kind=node.op,
                bits=8 * np.dtype(source.dtype).itemsize,
                macs=shapes.macs(node, model.tensors),
                pixels=math.prod(out.shape[:-1]) if filter_ is not None else 0,
                in_channels=inputs[0].shape[-1] if inputs and inputs[0].shape else 0,
                out_channels=out.shape[-1] if out.shape else 0,
                filter_bytes=0 if filter_ is None else tensor_bytes(filter_),
                depthwise=filter_ is not None and shapes.is_depthwise(node, filter_),
                input_bytes=sum(tensor_bytes(tensor) for tensor in inputs),
                output_bytes=sum(tensor_bytes(model.tensors[name]) for name in node.outputs),
                outputs=math.prod(out.shape),
            )
        )
    return tuple(ops)


def to_rows(ops: Iterable[Op]) -> list[list[Any]]:
    """Plain rows for a JSON file."""
    return [list(astuple(op)) for op in ops]


def from_rows(rows: Sequence[Sequence[Any]]) -> tuple[Op, ...]:
    """The inverse. Raises ``ValueError`` for rows of another length."""
    names = [field.name for field in fields(Op)]
    return tuple(Op(**dict(zip(names, row, strict=True))) for row in rows)
