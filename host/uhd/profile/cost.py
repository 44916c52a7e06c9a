"""What a model costs, operator by operator, counted from shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: FLOPs of one output value, by ONNX operator; the convention of the published tables. Anything else that is neither a
#: convolution, a product of matrices nor a pooling counts nothing.
ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Relu", "Sigmoid", "Tanh", "LeakyRelu", "Gelu", "Silu"},
)


@dataclass(frozen=True)
class LayerCost:
    """One operator. ``parameters``: elements of the constants that it is the first to read; ``weight_bytes``: their
    bytes. ``output_bytes``: of what it writes. ``milliseconds``: predicted, only for a .espdl."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    weight_bytes: int
    macs: int
    flops: int
    output_bytes: int
    milliseconds: float | None = None


@dataclass(frozen=True)
class ModelCost:
    """A model. ``peak_activation_bytes``: the most that lives at once, inputs and outputs of an operator at the same
    time, nothing computed in place."""

    source: str
    kind: str
    layers: tuple[LayerCost, ...]
    peak_activation_bytes: int

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def flops(self) -> int:
        return sum(layer.flops for layer in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "source": self.source,
            "kind": self.kind,
            "parameters": self.parameters,
            "weight_bytes": self.weight_bytes,
            "macs": self.macs,
            "flops": self.flops,
            "peak_activation_bytes": self.peak_activation_bytes,
            "layers": [asdict(layer) for layer in self.layers],
        }


def peak_live_bytes(
    steps: Iterable[tuple[Iterable[str], Iterable[str]]],
    sizes: Mapping[str, int],
    inputs: Iterable[str],
    outputs: Iterable[str],
) -> int:
    """The most bytes that live at once. ``steps``: names read and names written, in order. Names without a size are no
    activations. What nobody reads lives until it is written; graph ``outputs`` live to the end."""
    order = [(tuple(reads), tuple(writes)) for reads, writes in steps]
    last = {name: index for index, (reads, _) in enumerate(order) for name in reads}
    last |= dict.fromkeys(outputs, len(order))
    alive = {name for name in inputs if name in sizes}
    peak = sum(sizes[name] for name in alive)
    for index, (_, writes) in enumerate(order):
        alive |= {name for name in writes if name in sizes}
        peak = max(peak, sum(sizes[name] for name in alive))
        alive = {name for name in alive if last.get(name, index) > index}
    return peak
