"""The grid of a quantized model, and the same grid for its rewritten form."""

from __future__ import annotations

import re
from collections.abc import Sequence

from uhd.espdl.model import EspdlModel
from uhd.quantize.rewrites.split import Split
from uhd.quantize.trained import Exponents, activation_keys, own_key


def exponents_of(model: EspdlModel) -> dict[str, tuple[int, ...]]:
    """Every exponent of a model that a quantization can be given, by the keys of ``uhd.quantize.trained``."""
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


def split_exponents(exponents: Exponents, splits: Sequence[Split]) -> dict[str, tuple[int, ...]]:
    """The exponents of a model for its split form: every piece takes those of the whole."""
    made = _moved_inputs(exponents, splits)
    for split in splits:
        joined = made[split.output]
        if split.replaced is not None:  # the Concat may have had a requantized copy
            joined = exponents.get(own_key(split.concat, split.replaced), joined)
        weight = made.pop(own_key(split.operator, 1))
        source = made.pop(own_key(split.operator, 0), None)
        first = 0
        for index, (part, count, output) in enumerate(
            zip(split.parts, split.channels, split.part_outputs, strict=True)
        ):
            made[own_key(part, 1)] = weight if len(weight) == 1 else weight[first : first + count]
            if source is not None:
                made[own_key(part, 0)] = source
            made[output] = made[split.output]
            made[own_key(split.concat, split.first_input + index)] = joined
            first += count
    return made


def _moved_inputs(exponents: Exponents, splits: Sequence[Split]) -> dict[str, tuple[int, ...]]:
    """``exponents`` with the inputs of a Concat that took pieces where they are now, those replaced left out."""
    taken: dict[str, dict[int, int]] = {}  # how many more inputs stand for an input of the original, by Concat
    for split in splits:
        if split.replaced is not None:
            taken.setdefault(split.concat, {})[split.replaced] = len(split.parts) - 1
    made = {}
    for key, values in exponents.items():
        name, _, index = key.rpartition(":")
        if name in taken and index.isdecimal():
            if int(index) in taken[name]:
                continue
            key = own_key(name, int(index) + sum(more for at, more in taken[name].items() if at < int(index)))
        made[key] = values
    return made


def int16_patterns_of(model: EspdlModel, splits: Sequence[Split]) -> tuple[str, ...]:
    """Patterns that choose the int16 operators of ``model`` in its split form, and nothing else."""
    replaced = {
        split.operator: (*split.parts, split.concat) if split.replaced is None else split.parts for split in splits
    }
    names = [node.name for node in model.nodes if node.bits == 16 and node.op != "RequantizeLinear"]
    return tuple(f"^{re.escape(new)}$" for name in names for new in replaced.get(name, (name,)))
