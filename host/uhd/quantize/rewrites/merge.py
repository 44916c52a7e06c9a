"""Changing the width of a tensor once, where the quantizer does it anew for each reader."""

from __future__ import annotations

from typing import Any

from uhd.espdl.document import Record


def merge_requantizations(model: Record) -> dict[str, str]:
    """Let all readers of equal RequantizeLinear operators of a .espdl ``model`` read the first, in place.

    Equal: the same input, the same grid of the result. Returns the tensors that are gone, each with its equal.
    """
    graph = model["graph"]
    values = {value["name"]: value for value in graph["values"]}
    ends = {value["name"] for value in graph["outputs"]}
    first: dict[Any, str] = {}
    gone: dict[str, str] = {}
    nodes: list[Record] = []
    for node in graph["nodes"]:
        node["inputs"] = [gone.get(name, name) for name in node["inputs"]]
        output = node["outputs"][0]
        if node["op"] == "RequantizeLinear" and output not in ends:
            grid = (node["inputs"][0], values[output]["type"]["tensor"]["dtype"], tuple(values[output]["exponents"]))
            if grid in first:
                gone[output] = first[grid]
                continue
            first[grid] = output
        nodes.append(node)
    if gone:
        read = {name for node in nodes for name in node["inputs"]}
        own = {name for node in graph["nodes"] if node["outputs"][0] in gone for name in node["inputs"]} - read
        graph["nodes"] = nodes
        graph["constants"] = [tensor for tensor in graph["constants"] if tensor["name"] not in own]
        for part in ("values", "test_outputs"):
            graph[part] = [value for value in graph.get(part, []) if value["name"] not in {*own, *gone}]
    return gone
