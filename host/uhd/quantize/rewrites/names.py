"""Short names: operators and tensors by number. The graph's inputs and outputs keep theirs."""

from __future__ import annotations

from dataclasses import dataclass

from uhd.espdl.document import Record


@dataclass(frozen=True)
class Names:
    """Old name -> new one, of operators and of tensors."""

    operators: dict[str, str]
    tensors: dict[str, str]


def shorten_names(model: Record) -> Names:
    """Give every operator and tensor of a .espdl ``model``, in place, a number in order of execution for a name.

    Nothing is computed by name, but whoever reads a table of the operators afterwards reads numbers.
    """
    graph = model["graph"]
    kept = {value["name"] for part in ("inputs", "outputs") for value in graph[part]}
    operators: dict[str, str] = {}
    tensors: dict[str, str] = {name: name for name in kept} | {"": ""}
    free = (f"t{number}" for number in range(1 << 30))
    fresh = (name for name in free if name not in kept)
    for number, node in enumerate(graph["nodes"]):
        tables = [a for a in node.get("attributes", []) if a["name"] == "lut"]
        for name in (*node["inputs"], *(table["s"].decode() for table in tables), *node["outputs"]):
            if name not in tensors:
                tensors[name] = next(fresh)
        for table in tables:
            table["s"] = tensors[table["s"].decode()].encode()
        operators[node["name"]] = node["name"] = f"n{number}"
        for end in ("inputs", "outputs"):
            node[end] = [tensors[name] for name in node[end]]
    for part in ("constants", "values", "inputs", "outputs", "test_inputs", "test_outputs"):
        if part in graph:  # what nothing reads or makes goes: its name could be another's now
            graph[part] = [
                tensor | {"name": tensors[tensor["name"]]} for tensor in graph[part] if tensor["name"] in tensors
            ]
    del tensors[""]
    return Names(operators, tensors)
