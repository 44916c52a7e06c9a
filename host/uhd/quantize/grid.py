"""The grid of a quantized model - every exponent that a quantization can be given - and its file."""

from __future__ import annotations

import json
from pathlib import Path

from uhd.errors import ModelError
from uhd.espdl.model import EspdlModel
from uhd.files import write_text
from uhd.quantize.trained import Exponents, activation_keys, dump_exponents, own_key, parse_exponents


def exponents_of(model: EspdlModel) -> dict[str, tuple[int, ...]]:
    """All of them, by the keys of ``uhd.quantize.trained``."""
    nodes = {node.name: node for node in model.nodes}
    found = {
        key: model.tensors[nodes[name].inputs[index]].exponents for (name, index), key in activation_keys(model).items()
    }
    for node in model.nodes:
        if node.op == "Conv":
            found[own_key(node.name, 1)] = model.tensors[node.inputs[1]].exponents
        if node.op != "RequantizeLinear":
            found.update((name, model.tensors[name].exponents) for name in node.outputs)
    return found


def write_grid(path: Path, exponents: Exponents) -> None:
    """Write a grid as JSON, one key a line."""
    write_text(path, json.dumps(dump_exponents(exponents), indent=1, sort_keys=True) + "\n")


def read_grid(path: Path) -> Exponents:
    """Raises ``ModelError`` if there is no such file, or something else in it."""
    try:
        return parse_exponents(json.loads(path.read_text("utf-8")))
    except OSError as error:
        raise ModelError(f"{path}: cannot read the grid ({error.strerror or error})", hint="check the path") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path}: not a grid ({error})", hint="it is a JSON object of exponents by tensor, as `search` writes it"
        ) from None
