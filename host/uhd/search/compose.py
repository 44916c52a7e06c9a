"""The grid of a model that is part int8, part int16, from the grids of the int8 and of the int16 model.

Calibration finds each tensor's exponent by itself, so what it found once need not be found again for every choice of
int16 operators.
"""

from __future__ import annotations

from collections.abc import Collection

from uhd.espdl.model import EspdlModel
from uhd.quantize.grid import exponents_of
from uhd.quantize.trained import INPUT, Exponents, own_key


def int16_groups(model: EspdlModel) -> tuple[str, ...]:
    """Names of the convolutions of an int8 model, in graph order: the groups that choose their precision together.

    A convolution and the activation fused into it are one operator of the file. What only moves or aligns integers
    (Add, Concat, pooling) follows in int8, and Resize has to: ESP-DL's int16 one is an empty function.
    """
    return tuple(node.name for node in model.nodes if node.op == "Conv")


def compose(
    int8: EspdlModel, grid8: Exponents, int16: EspdlModel, chosen: Collection[str]
) -> dict[str, tuple[int, ...]]:
    """Exponents of the model in which the operators ``chosen`` compute in int16, by the keys of a quantization.

    ``int8``, ``int16``: the model with all operators in int8, and with all that can be in int16. ``grid8``: of int8.
    More keys than any file shows are harmless: only those that the quantizer asks for count.
    """
    grids = {8: grid8, 16: exponents_of(int16)}
    sources = {node.outputs[0]: node.inputs[0] for node in int8.nodes if node.op == "RequantizeLinear"}
    made: dict[str, tuple[int, ...]] = {}
    for node in int8.nodes:
        if node.op == "RequantizeLinear":
            continue
        bits = 16 if node.name in chosen else 8
        grid = grids[bits]
        for index, name in enumerate(node.inputs):
            if not name or int8.tensors[name].data is not None:
                continue
            origin = sources.get(name, name)
            key = INPUT if origin in int8.inputs else origin
            own = own_key(node.name, index)
            exponent = grid.get(own) or grid.get(key)
            if exponent:
                made[key if key == INPUT else own] = exponent
        if own_key(node.name, 1) in grid:
            made[own_key(node.name, 1)] = grid[own_key(node.name, 1)]
        made.update((name, grid[name]) for name in node.outputs if name in grid)
    return made
