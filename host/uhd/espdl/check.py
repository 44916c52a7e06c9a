"""Consistency of a parsed graph, so that whoever runs or compiles it need not ask again."""

from __future__ import annotations

from uhd.espdl.flat import FlatError
from uhd.espdl.model import EspdlModel


def check_nodes(model: EspdlModel) -> None:
    """Every tensor that a node reads is a constant, a graph input, or made by an earlier node, exactly once.

    Raises ``FlatError`` naming the node.
    """
    made = {name for name, tensor in model.tensors.items() if tensor.data is not None}
    for name in model.inputs:
        if name not in model.tensors:
            raise FlatError(f"graph input {name!r} has no shape")
        made.add(name)
    for node in model.nodes:
        for name in node.inputs:
            if name and name not in made:
                raise FlatError(f"node {node.name!r} reads {name!r} before anything makes it")
        for name in node.outputs:
            if name in made or name not in model.tensors:
                raise FlatError(f"node {node.name!r} writes {name!r}, which is made elsewhere or has no shape")
            made.add(name)
    for name in model.outputs:
        if name not in made:
            raise FlatError(f"graph output {name!r} is never made")
