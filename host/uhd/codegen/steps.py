"""What lowering produces: kernel calls on named tensors, with constants as bytes. No C++ text yet, no addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

#: Alignment of every array in the constant data: that of the widest element.
DATA_ALIGNMENT = 8


@dataclass(frozen=True)
class Ref:
    """An activation as an argument: ``offset`` elements into it."""

    tensor: str
    offset: int = 0


@dataclass(frozen=True)
class ConstantRef:
    """An array of the constant data as an argument of C++ type ``const ctype*``."""

    ctype: str
    offset: int


@dataclass(frozen=True)
class Scratch:
    """The step's scratch memory as an argument of C++ type ``ctype*``."""

    ctype: str


@dataclass(frozen=True)
class DataBase:
    """The constant data itself as an argument."""


@dataclass(frozen=True)
class DescriptorRef:
    """The step's descriptor as an argument."""


Argument = Ref | ConstantRef | Scratch | DataBase | DescriptorRef | str
#: Fields of a C++ descriptor in order; a value is an integer, an array, or a nested descriptor.
Fields = Mapping[str, "int | tuple[int, ...] | Fields"]


@dataclass(frozen=True)
class Step:
    """One kernel call.

    ``kernel`` is the C++ name with template arguments; ``struct`` and ``fields`` its descriptor ("" if it has none).
    ``writes`` is the activation it makes (with others, where a Concat is made in parts); ``in_place`` those operands
    whose memory the result may take over.
    """

    node: str
    op: str
    kernel: str
    arguments: tuple[Argument, ...]
    reads: tuple[str, ...]
    writes: str
    struct: str = ""
    fields: Fields = field(default_factory=dict)
    scratch_bytes: int = 0
    in_place: tuple[str, ...] = ()


@dataclass(frozen=True)
class Value:
    """An activation: NHWC shape as in the file, ``bytes`` of an element, the smallest and largest integer it can hold.

    ``source``: (tensor, offset in elements) that it is a view of, or None if it has memory of its own.
    """

    name: str
    shape: tuple[int, ...]
    bytes: int
    low: int
    high: int
    source: tuple[str, int] | None = None

    @property
    def ctype(self) -> str:
        return "int8_t" if self.bytes == 1 else "int16_t"

    @property
    def elements(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def size(self) -> int:
        """Bytes."""
        return self.elements * self.bytes


@dataclass
class ConstantData:
    """The model's constants as one run of bytes; equal arrays are stored once."""

    content: bytearray = field(default_factory=bytearray)
    _known: dict[bytes, int] = field(default_factory=dict)

    def add(self, array: NDArray[np.generic] | bytes) -> int:
        """Offset of the array's little-endian bytes, appended if they are not there yet."""
        data = array if isinstance(array, bytes) else array.astype(array.dtype.newbyteorder("<")).tobytes()
        if data not in self._known:
            self.content.extend(b"\0" * (-len(self.content) % DATA_ALIGNMENT))
            self._known[data] = len(self.content)
            self.content.extend(data)
        return self._known[data]


@dataclass(frozen=True)
class Program:
    """A lowered model: steps in order, all activations by name, the constants, the graph's ends by name."""

    steps: tuple[Step, ...]
    values: Mapping[str, Value]
    data: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def root(self, name: str) -> tuple[str, int]:
        """The tensor that owns the memory of ``name``, and the offset (elements) of ``name`` in it."""
        offset = 0
        while (source := self.values[name].source) is not None:
            name, offset = source[0], offset + source[1]
        return name, offset
