"""Quantized models made by hand: ``EspdlModel`` objects without a file, any shapes, exponents and weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.espdl.model import EspdlModel, Node, Tensor
from uhd.espdl.shapes import Window
from uhd.targets import TARGETS


class Maker:
    """Builds a model node by node; each method returns the name of the tensor it makes."""

    def __init__(self, seed: int, target: str = "c", bits: int = 8) -> None:
        self.rng = np.random.default_rng(seed)
        self.target, self.bits = target, bits
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self.inputs: list[str] = []
        self._count = 0

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"/{kind}_{self._count}"

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def input(self, height: int, width: int, channels: int, exponent: int = -7) -> str:
        name = f"input{len(self.inputs) or ''}"
        self.tensors[name] = Tensor(name, (1, height, width, channels), f"int{self.bits}", (exponent,))
        self.inputs.append(name)
        return name

    def constant(self, data: NDArray[Any], exponents: Sequence[int] = (0,)) -> str:
        name = self._name("constant")
        self.tensors[name] = Tensor(name, data.shape, str(data.dtype), tuple(exponents), data)
        return name

    def node(
        self, op: str, inputs: Sequence[str], shape: tuple[int, ...], exponent: int,
        attributes: dict[str, Any] | None = None, *, bits: int | None = None, name: str | None = None,
    ) -> str:  # fmt: skip
        """Any operator with one output."""
        bits = bits or self.bits
        name = name or self._name(op)
        output = f"{name}_output_0"
        self.tensors[output] = Tensor(output, shape, f"int{bits}", (exponent,))
        attributes = {"quant_type": f"S{bits}", **(attributes or {})}
        self.nodes.append(Node(name, op, tuple(inputs), (output,), attributes, bits))
        return output

    def weights(self, shape: tuple[int, ...], spread: float) -> NDArray[Any]:
        """Random filter: a bell of that spread (of full scale), or only the two ends for a spread of 9 and more."""
        top = np.iinfo(f"int{self.bits}").max
        if spread >= 9:
            data = self.rng.choice([-top - 1, top], shape)
        else:
            data = np.clip(np.rint(self.rng.normal(0, spread * top, shape)), -top - 1, top)
        return data.astype(f"int{self.bits}")

    def conv(
        self, x: str, channels: int, kernel: tuple[int, int] = (1, 1), *, strides: tuple[int, int] = (1, 1),
        pads: tuple[int, int, int, int] = (0, 0, 0, 0), dilations: tuple[int, int] = (1, 1), group: int = 1,
        relu: bool = True, spread: float = 0.2, shift: int | None = None, bias: bool = True,
    ) -> str:  # fmt: skip
        """A convolution; ``shift`` (default: about what keeps the result in range) is that of channel 0."""
        source = self.tensors[x]
        height, width = Window(kernel, strides, pads, dilations, False).output(*source.shape[1:3])
        depthwise = group > 1 and group == source.shape[3] == channels
        shape = (1, *kernel, channels) if depthwise else (channels, *kernel, source.shape[3] // group)
        weight = self.weights(shape, spread)
        terms = weight.size // channels
        per_channel = TARGETS[self.target].per_channel_weights
        if shift is None:  # no channel's may be negative: that is for the slow kernel
            shift = max(2 * per_channel, int(np.log2(max(1.0, np.sqrt(terms) * spread * np.iinfo(weight.dtype).max))))
        offsets = self.rng.integers(0, 3, channels) if per_channel else np.zeros(1, np.int64)
        exponents = [-7 - int(v) for v in offsets]
        inputs = [x, self.constant(weight, exponents)]
        if bias:
            size = 1 << min(max(shift, 0) + 6, 30)
            data = self.rng.integers(-size, size, channels).astype("int32" if self.bits == 8 else "int64")
            inputs.append(self.constant(data, [source.exponent + e for e in exponents]))
        attributes = {
            "kernel_shape": list(kernel), "strides": list(strides), "pads": list(pads), "dilations": list(dilations),
            "group": group, "activation": "Relu" if relu else "Linear",
        }  # fmt: skip
        exponent = source.exponent + exponents[0] + shift
        return self.node("Conv", inputs, (1, height, width, channels), exponent, attributes)

    def same(self, op: str, inputs: Sequence[str], attributes: dict[str, Any] | None = None) -> str:
        """An operator whose output looks like its first operand."""
        first = self.tensors[inputs[0]]
        return self.node(op, inputs, first.shape, first.exponent, attributes)

    def pool(self, x: str, kernel: int, stride: int = 1, pad: int = 0) -> str:
        source = self.tensors[x]
        size = Window((kernel, kernel), (stride, stride), (pad,) * 4, (1, 1), False).output(*source.shape[1:3])
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        return self.node("MaxPool", [x], (1, *size, source.shape[3]), source.exponent, attributes)

    def concat(self, parts: Sequence[str], axis: int = 3) -> str:
        first = self.tensors[parts[0]]
        shape = list(first.shape)
        shape[axis] = sum(self.shape(p)[axis] for p in parts)
        return self.node("Concat", parts, tuple(shape), first.exponent, {"axis": axis})

    def resize(self, x: str, height: int, width: int, shift: int = 0) -> str:
        source = self.tensors[x]
        attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node("Resize", [x], (1, height, width, source.shape[3]), source.exponent + shift, attributes)

    def requantize(self, x: str, shift: int, bits: int | None = None) -> str:
        source = self.tensors[x]
        return self.node("RequantizeLinear", [x], source.shape, source.exponent + shift, bits=bits)

    def gate(self, x: str) -> str:
        """Squeeze and excitation: mean, 1x1 convolution, a table, product."""
        source = self.tensors[x]
        mean = self.node("GlobalAveragePool", [x], (1, 1, 1, source.shape[3]), source.exponent)
        squeezed = self.conv(mean, source.shape[3], relu=False)
        if self.bits == 8:
            table = self.constant(self.rng.integers(-128, 128, 256).astype("int8"), (-7,))
            gate = self.node("Sigmoid", [squeezed], self.shape(squeezed), -7, {"lut": table})
        else:
            table = self.constant(self.rng.integers(-32768, 32768, 2049).astype("int16"), (-15,))
            gate = self.node("LUT", [squeezed], self.shape(squeezed), -15, {"lut": table})
        exponent = source.exponent + self.tensors[gate].exponent + (7 if self.bits == 8 else 15)
        return self.node("Mul", [x, gate], source.shape, exponent)

    def rename(self, tensor: str, name: str) -> str:
        """Give an activation another name."""
        old = self.tensors.pop(tensor)
        self.tensors[name] = Tensor(name, old.shape, old.dtype, old.exponents)
        swap = {tensor: name}
        self.nodes = [
            Node(n.name, n.op, tuple(swap.get(i, i) for i in n.inputs), tuple(swap.get(o, o) for o in n.outputs),
                 n.attributes, n.bits)
            for n in self.nodes
        ]  # fmt: skip
        return name

    def model(self, *outputs: str) -> EspdlModel:
        """The finished model; ``made_bytes`` stands for its file."""
        content = self.file()
        return EspdlModel(
            name="made", target=self.target, nodes=tuple(self.nodes), tensors=self.tensors, inputs=tuple(self.inputs),
            outputs=outputs, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content),
        )  # fmt: skip

    def file(self) -> bytes:
        """Bytes that stand for the .espdl file; only their hash matters."""
        return b"EDL2" + b"".join(t.data.tobytes() for t in self.tensors.values() if t.data is not None)


def random_inputs(model: EspdlModel, rng: np.random.Generator, kind: str = "random") -> dict[str, NDArray[Any]]:
    """Inputs over the full range: random, only the two ends, or all of one end."""
    arrays = {}
    for name in model.inputs:
        tensor = model.tensors[name]
        limits = np.iinfo(tensor.dtype)
        if kind == "random":
            data = rng.integers(limits.min, limits.max + 1, tensor.shape)
        elif kind == "ends":
            data = rng.choice([limits.min, limits.max], tensor.shape)
        else:
            data = np.full(tensor.shape, {"low": limits.min, "high": limits.max, "zero": 0}[kind])
        arrays[name] = data.astype(tensor.dtype)
    return arrays
