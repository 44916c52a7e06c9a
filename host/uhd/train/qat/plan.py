"""What a quantized model computes, read from its .espdl: steps, and which of its tensors share a grid.

esp-ppq decides both when it fuses and aligns; nothing of that is guessed here. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from uhd.errors import ModelError
from uhd.espdl.model import EspdlModel, Node
from uhd.quantize.trained import activation_keys, own_key

#: Operators that copy integers: inputs and output lie on one grid, and nothing is rounded.
COPIES = frozenset({"Concat", "MaxPool", "Resize"})

#: Operators whose inputs and output lie on one grid, but whose result may saturate.
ALIGNED = frozenset({"Add", "Sub", "Relu"})

#: Operators that choose a grid for their output.
FREE = frozenset({"Conv", "Mul", "ReduceMean", "GlobalAveragePool", "RequantizeLinear", "Sigmoid", "Swish", "Tanh"})

_WAY_OUT = "train without --qat, or with other architecture options"


@dataclass(frozen=True)
class Layer:
    """Dotted names of the modules that make up a convolution: itself, and the normalisation folded into it."""

    conv: str
    norm: str | None


@dataclass(frozen=True)
class Step:
    """One operator: ``inputs`` are activations, ``grid`` is the row of its output's exponent, None where it copies.

    ``span`` is where its filter's exponents lie in the table of all, ``shape`` the output's [H, W].
    """

    node: Node
    inputs: tuple[str, ...]
    output: str
    grid: int | None
    layer: Layer | None = None
    span: tuple[int, int] = (0, 0)
    shape: tuple[int, int] = (1, 1)

    @property
    def weight(self) -> slice:
        """``span`` as a slice."""
        return slice(*self.span)


@dataclass(frozen=True)
class Plan:
    """``steps`` in order. ``grid_of`` gives each activation's row in the table of exponents, ``bits`` the width of
    each row, ``keys`` each row's names as ``uhd.quantize.trained`` has them; ``filters`` counts exponents of filters.
    """

    steps: tuple[Step, ...]
    input: str
    size: tuple[int, int]
    outputs: tuple[str, ...]
    grid_of: Mapping[str, int]
    bits: tuple[int, ...]
    keys: Mapping[str, int]
    filters: int

    def needed(self, tensors: Collection[str]) -> tuple[Step, ...]:
        """The steps that ``tensors`` depend on."""
        wanted, chosen = set(tensors), []
        for step in reversed(self.steps):
            if step.output in wanted:
                chosen.append(step)
                wanted.update(step.inputs)
        return tuple(reversed(chosen))

    def reader(self, conv: str) -> str:
        """The activation, before any requantization, that the convolution module ``conv`` reads."""
        makers = {step.output: step for step in self.steps}
        step = next(step for step in self.steps if step.layer is not None and step.layer.conv == conv)
        name = step.inputs[0]
        while name in makers and makers[name].node.op == "RequantizeLinear":
            name = makers[name].inputs[0]
        return name


def make_plan(model: EspdlModel, layers: Mapping[str, Layer]) -> Plan:
    """The plan of a quantized model whose convolutions belong to ``layers``, by operator name.

    Raises ``ModelError``, naming the operator, for anything that cannot be trained.
    """
    activations = [name for name, tensor in model.tensors.items() if tensor.data is None]
    parent = {name: name for name in activations}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    used = set(model.inputs)
    for node in model.nodes:
        inputs = _inputs(model, node)
        _check(model, node, inputs, layers)
        used.update((*inputs, node.outputs[0]))
        if node.op in COPIES | ALIGNED:
            for name in inputs:
                parent[root(name)] = root(node.outputs[0])
    rows = {top: row for row, top in enumerate(dict.fromkeys(root(name) for name in activations if name in used))}
    grid_of = {name: rows[root(name)] for name in activations if name in used}
    steps, filters = _steps(model, layers, grid_of)
    return Plan(
        steps,
        model.inputs[0],
        (model.tensors[model.inputs[0]].shape[1], model.tensors[model.inputs[0]].shape[2]),
        model.outputs,
        grid_of,
        tuple(int(model.tensors[top].dtype.removeprefix("int")) for top in rows),
        _keys(model, grid_of),
        filters,
    )


def _inputs(model: EspdlModel, node: Node) -> tuple[str, ...]:
    return tuple(name for name in node.inputs if name and model.tensors[name].data is None)


def _check(model: EspdlModel, node: Node, inputs: tuple[str, ...], layers: Mapping[str, Layer]) -> None:
    if node.op not in COPIES | ALIGNED | FREE or node.bits not in (8, 16):
        raise ModelError(f"operator {node.name}: {node.op} cannot be trained for the chip", hint=_WAY_OUT)
    if node.op == "Conv" and node.name not in layers:
        raise ModelError(
            f"operator {node.name} is no convolution of the network, but was made of constants for the chip",
            hint=_WAY_OUT,
        )
    expected = 2 if node.op in ("Add", "Sub", "Mul") else len(inputs) if node.op == "Concat" else 1
    if len(inputs) != expected:
        raise ModelError(
            f"operator {node.name}: {node.op} with a constant cannot be trained for the chip",
            hint=_WAY_OUT,
        )
    if node.op in ("ReduceMean", "GlobalAveragePool") and model.tensors[node.outputs[0]].shape[1:3] != (1, 1):
        raise ModelError(f"operator {node.name}: only a mean over height and width can be trained for the chip")


def _steps(model: EspdlModel, layers: Mapping[str, Layer], grid_of: Mapping[str, int]) -> tuple[tuple[Step, ...], int]:
    steps: list[Step] = []
    filters = 0
    for node in model.nodes:
        output = model.tensors[node.outputs[0]]
        span = (0, 0)
        if node.op == "Conv":
            span = (filters, filters + len(model.tensors[node.inputs[1]].exponents))
            filters = span[1]
        steps.append(Step(
            node, _inputs(model, node), output.name, None if node.op in COPIES else grid_of[output.name],
            layers.get(node.name), span, (output.shape[1], output.shape[2]),
        ))  # fmt: skip
    return tuple(steps), filters


def _keys(model: EspdlModel, grid_of: Mapping[str, int]) -> dict[str, int]:
    """Rows by key. Every activation that is read or handed out has one."""
    by_place = activation_keys(model)
    keys = {by_place[node.name, i]: grid_of[node.inputs[i]] for node in model.nodes for i in range(len(node.inputs))
            if (node.name, i) in by_place}  # fmt: skip
    made_apart = {node.outputs[0] for node in model.nodes if node.op == "RequantizeLinear"}
    return keys | {name: grid_of[name] for node in model.nodes for name in node.outputs if name not in made_apart}


def weight_key(step: Step) -> str:
    """The key of a convolution's filter."""
    return own_key(step.node.name, 1)
