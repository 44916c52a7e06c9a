"""Consistency of a parsed graph, so that whoever runs or compiles it need not ask again."""

from __future__ import annotations

from uhd.errors import ModelError
from uhd.espdl import shapes
from uhd.espdl.model import EspdlModel, Node, Tensor

#: Operators whose output has the shape of their first input.
_SAME_SHAPE = ("Relu", "Clip", "Sigmoid", "Swish", "HardSwish", "HardSigmoid", "Tanh", "LUT", "RequantizeLinear",
               "Identity", "LeakyRelu", "PRelu")  # fmt: skip
_BINARY = ("Add", "Sub", "Mul")
#: Inputs that must be there (the first so many); every other operator needs one, Concat all that it lists.
_REQUIRED = {"Conv": 2, "Gemm": 2, **dict.fromkeys(_BINARY, 2)}
_HINT = "the file is damaged: copy it again, or quantize the model again"


def check_nodes(model: EspdlModel) -> None:
    """Every tensor that a node reads is a constant, a graph input, or made by an earlier node, exactly once; shapes
    and data types follow from the operators (those that this package knows).

    Raises ``ModelError`` naming the node.
    """
    made = {name for name, tensor in model.tensors.items() if tensor.data is not None}
    for name in model.inputs:
        tensor = model.tensors.get(name)
        if tensor is None or len(set(tensor.exponents)) != 1:
            raise ModelError(f"graph input {name!r} has no shape", hint=_HINT)
        made.add(name)
    for node in model.nodes:
        for name in node.inputs:
            if name and name not in made:
                raise ModelError(f"node {node.name!r} reads {name!r} before anything makes it", hint=_HINT)
        for name in node.outputs:
            if name in made or name not in model.tensors:
                raise ModelError(
                    f"node {node.name!r} writes {name!r}, which is made elsewhere or has no shape", hint=_HINT
                )
            made.add(name)
        try:
            _check_node(node, model)
        except ModelError as error:
            raise ModelError(str(error), hint="" if "; " in str(error) else _HINT) from None
    for name in model.outputs:
        if name not in made:
            raise ModelError(f"graph output {name!r} is never made", hint=_HINT)


def _check_node(node: Node, model: EspdlModel) -> None:
    required = len(node.inputs) if node.op == "Concat" else _REQUIRED.get(node.op, 1)
    if not node.outputs or not node.inputs or len(node.inputs) < required or "" in node.inputs[:required]:
        raise ModelError(f"node {node.name!r} ({node.op}) lacks an input or output")
    if node.bits in (8, 16) and model.tensors[node.outputs[0]].dtype != f"int{node.bits}":
        raise ModelError(
            f"node {node.name!r} computes int{node.bits} into {model.tensors[node.outputs[0]].dtype}",
            hint="quantize again, the convolution and its Relu with the same precision",
        )
    if node.bits in (8, 16):
        _check_integers(node, model)
    per_channel = node.inputs[1:3] if shapes.has_filter(node) else ()
    table = node.attributes.get("lut")
    for name in (*node.inputs, *node.outputs, table if isinstance(table, str) else ""):
        tensor = model.tensors.get(name)
        if tensor is not None and name not in per_channel and len(set(tensor.exponents)) != 1:
            raise ModelError(f"tensor {name!r} has {len(tensor.exponents)} exponents")
    x = model.tensors[node.inputs[0]]
    expected = _expected(node, x, model)
    actual = model.tensors[node.outputs[0]].shape
    if expected is not None and expected != actual:
        raise ModelError(f"node {node.name!r} ({node.op}) makes {expected} from {x.shape}, the file says {actual}")


def _check_integers(node: Node, model: EspdlModel) -> None:
    """What a node with an integer kernel reads must be integers; ReduceMean's axes and the like are int64."""
    for name in node.inputs[: _REQUIRED.get(node.op, 1)]:
        if model.tensors[name].dtype not in ("int8", "int16"):
            raise ModelError(f"node {node.name!r} computes int{node.bits} from {model.tensors[name].dtype} {name!r}")


def _expected(node: Node, x: Tensor, model: EspdlModel) -> tuple[int, ...] | None:
    """The output shape that follows from the node; None where its operator does not tell."""
    if node.op == "Conv":
        return _conv(node, x, model)
    if node.op in ("MaxPool", "AveragePool"):
        if len(x.shape) != 4:
            raise ModelError(f"node {node.name!r} pools {x.shape}")
        return (x.shape[0], *shapes.window(node).output(x.shape[1], x.shape[2]), x.shape[3])
    if node.op in _SAME_SHAPE:
        return x.shape
    if node.op in _BINARY:
        other = model.tensors[node.inputs[1]].shape
        found = shapes.broadcast(x.shape, other)
        if found is None:
            raise ModelError(
                f"node {node.name!r}: {x.shape} and {other} do not broadcast",
                hint="fold constants of one value a channel into a convolution (the exporter leaves them NCHW)",
            )
        return found
    if node.op == "GlobalAveragePool" and len(x.shape) == 4:
        return (x.shape[0], 1, 1, x.shape[3])
    if node.op == "ReduceMean":
        axes = shapes.reduced_axes(node, model.tensors, len(x.shape))
        if shapes.integer(node, "keepdims", 1):
            return tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    return None


def _conv(node: Node, x: Tensor, model: EspdlModel) -> tuple[int, ...]:
    if model.tensors[node.inputs[1]].data is None:
        raise ModelError(f"node {node.name!r} has no constant filter")
    if node.attributes.get("activation") not in ("Linear", "Relu"):
        raise ModelError(f"node {node.name!r} has activation {str(node.attributes.get('activation'))[:20]!r}")
    weight = model.tensors[node.inputs[1]]
    shape = shapes.conv_shape(node, x, weight)
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = model.tensors[node.inputs[2]]
        wanted = "int32" if node.bits == 8 else "int64"
        if bias.data is None or bias.data.size != shape[3] or (node.bits != 32 and bias.dtype != wanted):
            raise ModelError(f"node {node.name!r} has a bias {bias.shape} {bias.dtype} for {shape[3]} channels")
        if len(bias.exponents) not in (1, shape[3]):
            raise ModelError(f"node {node.name!r} has a bias with {len(bias.exponents)} exponents")
    return shape
