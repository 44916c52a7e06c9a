"""The integer oracle: runs a parsed .espdl exactly as its integers say.

It is the reference that the C++ runtime is compared with, and itself equals, with no tolerance, the test vectors that
esp-ppq embeds. Everywhere y = saturate(round(x * 2**(e_in - e_out))), rounding by target; ``uhd.espdl.operators`` has
one readable function an operator and says where ESP-DL and esp-ppq disagree. A node whose exponents are not aligned
as ESP-DL needs them is refused: the device would compute something else than was quantized.
"""

from __future__ import annotations

from collections.abc import Mapping

from uhd.errors import ModelError
from uhd.espdl.inputs import coerce_inputs
from uhd.espdl.model import EspdlModel
from uhd.espdl.operators import OPERATORS
from uhd.espdl.state import Array, Run
from uhd.targets import TARGETS


def run(model: EspdlModel, inputs: Mapping[str, Array], keep_all: bool = False) -> dict[str, Array]:
    """Run one inference.

    Args:
        model: a parsed .espdl.
        inputs: integers by graph input name, [1, H, W, C] or [H, W, C], any integer type if the values fit.
        keep_all: return every activation, not only the graph outputs.

    Returns:
        int8 or int16 arrays by tensor name, [1, H, W, C]; real value = integer * 2**exponent.

    Raises:
        DataError: names, shapes or values of ``inputs`` do not fit.
        ModelError: an operator, mode or data type that ESP-DL's integer kernels do not have.
    """
    state = Run(model, TARGETS[model.target].rounding, dict(coerce_inputs(model, inputs)))
    for name, tensor in model.tensors.items():
        if tensor.data is not None:
            state.values[name] = tensor.data
    for node in model.nodes:
        operator = OPERATORS.get(node.op)
        if operator is None or node.bits == 32 or node.attributes.get("quant_type") == "W8A16":
            raise ModelError(
                f"node {node.name!r}: operator {node.op} ({node.attributes.get('quant_type', 'F32')}) is not supported",
                hint="supported in S8 and S16: " + ", ".join(sorted(OPERATORS)),
            )
        made = operator(state, node)
        results = made if isinstance(made, tuple) else (made,)
        for name, value in zip(node.outputs, results, strict=True):
            if value.shape != state.tensor(name).shape:
                raise ModelError(f"node {node.name!r} made {value.shape}, the file says {state.tensor(name).shape}")
            state.values[name] = value
    if keep_all:
        return {name: v for name, v in state.values.items() if model.tensors[name].data is None}
    return {name: state.values[name] for name in model.outputs}
