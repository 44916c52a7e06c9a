"""From a parsed model to kernel calls: which kernel serves a node, with which descriptor, constants and scratch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from uhd.codegen.steps import Argument, ConstantData, Program, Step, Value
from uhd.errors import ModelError
from uhd.espdl.arith import round_shift
from uhd.espdl.model import EspdlModel, Node, Tensor
from uhd.targets import TARGETS, Rounding

_BYTES = {"int8": 1, "int16": 2}
_ORACLE = "run it with the oracle, or leave the operator out of the exported graph"


class Lowering:
    """The state of lowering one model; the functions in ``lower_*`` append steps to it."""

    def __init__(self, model: EspdlModel) -> None:
        self.model = model
        self.rounding: Rounding = TARGETS[model.target].rounding
        self.tag = "HalfUp" if self.rounding == "half_up" else "HalfEven"
        self.data = ConstantData()
        self.values: dict[str, Value] = {}
        self.steps: list[Step] = []
        self.uses = Counter(name for node in model.nodes for name in node.inputs)
        self.uses.update(model.outputs)

    def constant(self, name: str) -> Tensor | None:
        """The tensor ``name`` if it is a constant."""
        tensor = self.model.tensors.get(name)
        return tensor if tensor is not None and tensor.data is not None else None

    def value(self, node: Node, index: int = 0) -> Value:
        """Activation operand ``index`` of ``node``. Raises ``ModelError`` if it is a constant or not there."""
        name = node.inputs[index] if index < len(node.inputs) else ""
        if name not in self.values:
            raise unsupported(node, f"operand {index} is not an activation")
        return self.values[name]

    def exponent(self, name: str) -> int:
        """The exponent of an activation."""
        return self.model.tensors[name].exponent

    def make(self, node: Node, low: int, high: int, output: int = 0, source: tuple[str, int] | None = None) -> Value:
        """Declare output number ``output`` of ``node`` with the range of its integers."""
        tensor = self.model.tensors[node.outputs[output]]
        value = declare(tensor, low, high, source)
        self.values[value.name] = value
        return value

    def add(
        self, node: Node, kernel: str, arguments: Iterable[Argument], reads: Iterable[str], writes: str, **more: Any
    ) -> None:
        """Append a kernel call."""
        self.steps.append(Step(node.name, node.op, kernel, tuple(arguments), tuple(reads), writes, **more))

    def finished_range(self, values: Iterable[int], shift: int, low: int, high: int) -> tuple[int, int]:
        """Range of ``clamp(round(v >> shift))`` when v lies between the smallest and largest of ``values``."""
        ends = np.clip(round_shift(np.array(list(values), np.int64), shift, self.rounding), low, high)
        return int(ends.min()), int(ends.max())


def unsupported(node: Node, why: str, hint: str = _ORACLE) -> ModelError:
    """The error for a node that the runtime has no kernel for."""
    return ModelError(f"node {node.name!r} ({node.op}): {why}", hint=hint)


def limits(value: Value | Tensor) -> tuple[int, int]:
    """Smallest and largest integer of the data type."""
    size = value.bytes if isinstance(value, Value) else _BYTES[value.dtype]
    return (-128, 127) if size == 1 else (-32768, 32767)


def declare(tensor: Tensor, low: int, high: int, source: tuple[str, int] | None = None) -> Value:
    """A ``Value`` for an activation. Raises ``ModelError`` for shapes and types that the runtime does not have."""
    if tensor.dtype not in _BYTES:
        raise ModelError(f"tensor {tensor.name!r} is {tensor.dtype}, not int8 or int16", hint=_ORACLE)
    if tensor.shape and tensor.shape[0] != 1:
        raise ModelError(f"tensor {tensor.name!r} has shape {list(tensor.shape)}", hint="export the model with batch 1")
    return Value(tensor.name, tensor.shape, _BYTES[tensor.dtype], low, high, source)


def lower(model: EspdlModel) -> Program:
    """Lower a model for the reference backend.

    Raises:
        ModelError: an operator or a mode that the runtime has no kernel for, naming the node and a way out.
    """
    from uhd.codegen.lower_conv import lower_conv
    from uhd.codegen.lower_move import MOVES
    from uhd.codegen.lower_simple import SIMPLE

    rules: dict[str, Callable[[Lowering, Node], None]] = {"Conv": lower_conv, **MOVES, **SIMPLE}
    state = Lowering(model)
    for name in model.inputs:
        tensor = model.tensors[name]
        if tensor.dtype not in _BYTES:
            raise ModelError(f"graph input {name!r} is {tensor.dtype}, not int8 or int16", hint=_ORACLE)
        state.values[name] = declare(tensor, *limits(tensor))
    for node in model.nodes:
        rule = rules.get(node.op)
        if rule is None:
            raise unsupported(node, "the runtime has no such operator", f"supported: {', '.join(sorted(rules))}")
        if node.bits not in (8, 16) or node.attributes.get("quant_type") == "W8A16":
            raise unsupported(node, f"quantized as {node.attributes.get('quant_type', 'F32')}, not S8 or S16")
        rule(state, node)
    for name in model.outputs:
        if name not in state.values:
            raise ModelError(f"graph output {name!r} is a constant", hint="export a graph that computes its outputs")
    return Program(tuple(state.steps), state.values, bytes(state.data.content), model.inputs, model.outputs)
