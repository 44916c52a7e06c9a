"""What a .espdl file holds, as plain data. No torch, no flatbuffers: every room may import this."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Tensor:
    """A constant or an activation.

    ``shape`` is logical: activations NHWC, dense filters [N, H, W, C] and depthwise filters [1, H, W, N]
    (N output channels), other grouped filters [N, H, W, C / groups], biases and tables [N]. ``exponents`` has
    one entry, or one per output channel; real value = integer * 2**exponent. ``data`` is None for activations,
    otherwise the unpacked integers in that logical shape, whatever layout the file stores.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    exponents: tuple[int, ...]
    data: NDArray[Any] | None = None

    @property
    def exponent(self) -> int:
        """The single exponent of a per-tensor quantized tensor."""
        if len(set(self.exponents)) != 1:
            raise ValueError(f"{self.name} has {len(self.exponents)} exponents")
        return self.exponents[0]


@dataclass(frozen=True)
class Node:
    """One operator, in execution order. ``attributes`` holds ints, floats, strings, or lists of ints.

    ``bits`` is 8 or 16 (the node's quant_type), or 32 for a node left in floating point. Conv: ``group``,
    ``strides``, ``pads`` [t, l, b, r], ``dilations``, ``kernel_shape``, ``activation`` ("Linear" or "Relu").
    An optional input that is not given is "".
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    bits: int = 8


@dataclass(frozen=True)
class EspdlModel:
    """A parsed .espdl: nodes in order, all tensors by name, graph inputs and outputs by name.

    ``target`` is c, esp32s3 or esp32p4, deduced from the file's layout and bias widths unless told.
    ``test_inputs``/``test_outputs`` are the vectors esp-ppq embedded, by tensor name (may be empty).
    """

    name: str
    target: str
    nodes: tuple[Node, ...]
    tensors: dict[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sha256: str
    size_bytes: int
    metadata: dict[str, str] = field(default_factory=dict)
    test_inputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    test_outputs: dict[str, NDArray[Any]] = field(default_factory=dict)
