"""A bounds-checked walker over FlatBuffers tables.

The generated classes of the usual runtime trust every offset in the buffer. Here each one is checked before it
is followed, and a work budget proportional to the buffer's size bounds the time that shared or circular offsets
can cost. Format: the FlatBuffers internals document (little endian; a table starts with a signed offset back to
its vtable; strings and vectors start with a 32-bit count).
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")
_I64 = struct.Struct("<q")
_F32 = struct.Struct("<f")
_I8 = struct.Struct("<b")
_U8 = struct.Struct("<B")
_FORMS = {"i1": _I8, "u1": _U8, "i4": _I32, "i8": _I64, "f4": _F32}

#: What following one table costs of the budget, in the same unit as a byte of a vector: tables are slow to walk.
_TABLE_COST = 64


class FlatError(Exception):
    """The buffer is not a well-formed FlatBuffer; the message says what is wrong."""


class Buffer:
    """The bytes of one FlatBuffer and what is left of its work budget."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = memoryview(data)
        self.size = len(self.data)
        self.budget = 6 * self.size + 4096

    def charge(self, amount: int) -> None:
        """Take ``amount`` from the budget. Raises ``FlatError`` once a buffer refers to itself too often."""
        self.budget -= amount
        if self.budget < 0:
            raise FlatError("its parts refer to each other more often than a sound file's would")

    def unpack(self, form: struct.Struct, position: int) -> int:
        """The scalar at ``position``. Raises ``FlatError`` outside the buffer."""
        if position < 0 or position + form.size > self.size:
            raise FlatError(f"an offset points to byte {position} of {self.size}")
        return form.unpack_from(self.data, position)[0]

    def root(self) -> Table:
        """The root table."""
        return Table(self, self.unpack(_U32, 0))


class Table:
    """One table. Field numbers are the schema's, from 0 (a union takes two: its type, then its value)."""

    __slots__ = ("_buffer", "_fields", "_object_size", "_position", "_vtable")

    def __init__(self, buffer: Buffer, position: int) -> None:
        buffer.charge(_TABLE_COST)
        vtable = position - buffer.unpack(_I32, position)
        size = buffer.unpack(_U16, vtable)
        object_size = buffer.unpack(_U16, vtable + 2)
        if size < 4 or size % 2 or vtable + size > buffer.size:
            raise FlatError(f"a field table at byte {vtable} is broken")
        if object_size < 4 or position + object_size > buffer.size:
            raise FlatError(f"a table at byte {position} runs past the end")
        self._buffer = buffer
        self._position = position
        self._vtable = vtable
        self._fields = (size - 4) // 2
        self._object_size = object_size

    def _field(self, number: int, size: int) -> int:
        """Absolute position of a field of ``size`` bytes, or 0 if absent."""
        if number >= self._fields:
            return 0
        offset = self._buffer.unpack(_U16, self._vtable + 4 + 2 * number)
        if offset == 0:
            return 0
        if offset < 4 or offset + size > self._object_size:
            raise FlatError(f"field {number} of the table at byte {self._position} lies outside it")
        return self._position + offset

    def _scalar(self, number: int, form: struct.Struct, default: int) -> int:
        position = self._field(number, form.size)
        return self._buffer.unpack(form, position) if position else default

    @property
    def field_count(self) -> int:
        """How many fields the table's own description has room for: those from this number on are absent."""
        return self._fields

    def has(self, number: int) -> bool:
        """Whether a field is present."""
        return self._field(number, 1) != 0

    def number(self, number: int, kind: str) -> float:
        """A number of type ``i1``, ``u1``, ``i4``, ``i8`` or ``f4``; 0 if absent."""
        return self._scalar(number, _FORMS[kind], 0)

    def int8(self, number: int, default: int = 0) -> int:
        """A byte-sized integer."""
        return self._scalar(number, _I8, default)

    def int32(self, number: int, default: int = 0) -> int:
        """A 32-bit integer."""
        return self._scalar(number, _I32, default)

    def int64(self, number: int, default: int = 0) -> int:
        """A 64-bit integer (also the only member of a struct stored inline)."""
        return self._scalar(number, _I64, default)

    def float32(self, number: int, default: float = 0.0) -> float:
        """A single-precision number."""
        position = self._field(number, 4)
        return float(self._buffer.unpack(_F32, position)) if position else default

    def _target(self, number: int) -> int:
        position = self._field(number, 4)
        return position + self._buffer.unpack(_U32, position) if position else 0

    def table(self, number: int) -> Table | None:
        """A sub-table, or None."""
        position = self._target(number)
        return Table(self._buffer, position) if position else None

    def _vector(self, number: int, item: int) -> tuple[int, int]:
        """(position of the first element, count) of a vector; an absent one has no elements."""
        position = self._target(number)
        if not position:
            return 0, 0
        count = self._buffer.unpack(_U32, position)
        if position + 4 + count * item > self._buffer.size:
            raise FlatError(f"a list of {count} elements at byte {position} runs past the end")
        self._buffer.charge(count * item)
        return position + 4, count

    def raw(self, number: int, item: int = 1) -> memoryview:
        """The bytes of a vector whose elements are ``item`` bytes long (no copy)."""
        position, count = self._vector(number, item)
        return self._buffer.data[position : position + count * item]

    def array(self, number: int, dtype: str) -> NDArray[np.generic]:
        """A vector of scalars as a read-only array of little-endian ``dtype``."""
        kind = np.dtype(dtype).newbyteorder("<")
        return np.frombuffer(self.raw(number, kind.itemsize), dtype=kind)

    def _elements(self, number: int) -> list[int]:
        position, count = self._vector(number, 4)
        return [p + self._buffer.unpack(_U32, p) for p in range(position, position + 4 * count, 4)]

    def tables(self, number: int) -> list[Table]:
        """A vector of tables."""
        return [Table(self._buffer, position) for position in self._elements(number)]

    def _text(self, position: int) -> str:
        length = self._buffer.unpack(_U32, position)
        start = position + 4
        if start + length > self._buffer.size:
            raise FlatError(f"a string at byte {position} runs past the end")
        self._buffer.charge(length + 4)
        return decode_text(self._buffer.data[start : start + length])

    def text(self, number: int) -> str:
        """A string; empty if absent."""
        position = self._target(number)
        return self._text(position) if position else ""

    def texts(self, number: int) -> list[str]:
        """A vector of strings."""
        return [self._text(position) for position in self._elements(number)]


def decode_text(data: bytes | memoryview) -> str:
    """UTF-8 text without control characters. Raises ``FlatError`` for anything else."""
    try:
        text = bytes(data).decode("utf-8")
    except UnicodeDecodeError:
        raise FlatError("a string is not UTF-8") from None
    if not text.isprintable() and any(ord(c) < 32 and c not in "\n\r\t" for c in text):
        raise FlatError("a string holds control characters")
    return text
