"""A .espdl file as plain records that can be changed, and back to bytes.

``uhd.espdl.reader`` tells what a file means; here is all that it says, field by field of ESP-DL's schema
(``espdl.fbs``). A record is a dict of the fields that are present; a field that is absent stays absent.
"""

from __future__ import annotations

import struct
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import number_types

from uhd.errors import ModelError
from uhd.espdl.flat import Buffer, FlatError, Table
from uhd.espdl.reader import payload

#: Fields of a table by name: plain values, texts, lists, or records of another table.
Record = dict[str, Any]

#: Table -> field -> (number, kind). Kinds: a number's type (``i8`` ... ``f4``, also the only member of a struct);
#: ``text``, ``bytes``; ``blocks``: bytes in units of 16, aligned to 16; ``[...]``: a list; a table's name: a record.
SCHEMA: dict[str, dict[str, tuple[int, str]]] = {
    "Model": {
        "ir_version": (0, "i4"), "opset": (1, "[Opset]"), "producer": (2, "text"), "producer_version": (3, "text"),
        "domain": (4, "text"), "version": (5, "i8"), "doc": (6, "text"), "graph": (7, "Graph"),
        "metadata": (8, "[Entry]"),
    },
    "Opset": {"domain": (0, "text"), "version": (1, "i8")},
    "Entry": {"key": (0, "text"), "value": (1, "text")},
    "Graph": {
        "nodes": (0, "[Node]"), "name": (1, "text"), "constants": (2, "[Tensor]"), "doc": (3, "text"),
        "inputs": (4, "[Value]"), "outputs": (5, "[Value]"), "values": (6, "[Value]"),
        "test_inputs": (8, "[Tensor]"), "test_outputs": (9, "[Tensor]"),
    },
    "Node": {
        "inputs": (0, "[text]"), "outputs": (1, "[text]"), "name": (2, "text"), "op": (3, "text"),
        "domain": (4, "text"), "attributes": (5, "[Attribute]"), "doc": (6, "text"),
    },
    "Attribute": {
        "name": (0, "text"), "reference": (1, "text"), "doc": (2, "text"), "kind": (3, "i4"), "f": (4, "f4"),
        "i": (5, "i8"), "s": (6, "bytes"), "t": (7, "Tensor"), "floats": (10, "[f4]"), "ints": (11, "[i8]"),
        "strings": (12, "[text]"),
    },
    "Tensor": {
        "dims": (0, "[i8]"), "dtype": (1, "i4"), "floats": (2, "[f4]"), "int32s": (3, "[i4]"), "int64s": (5, "[i8]"),
        "name": (6, "text"), "doc": (7, "text"), "raw": (8, "blocks"), "location": (10, "i4"),
        "exponents": (13, "[i8]"),
    },
    "Value": {"name": (0, "text"), "type": (1, "Type"), "doc": (2, "text"), "exponents": (3, "[i8]")},
    "Type": {"kind": (0, "u1"), "tensor": (1, "TensorType"), "denotation": (2, "text")},
    "TensorType": {"dtype": (0, "i4"), "shape": (1, "Shape")},
    "Shape": {"dims": (0, "[Dimension]")},
    "Dimension": {"value": (0, "Size"), "denotation": (1, "text")},
    "Size": {"kind": (0, "i1"), "value": (1, "i8"), "name": (2, "text")},
}  # fmt: skip

_BLOCK = 16
_NUMBERS = {
    "i1": number_types.Int8Flags, "u1": number_types.Uint8Flags, "i4": number_types.Int32Flags,
    "i8": number_types.Int64Flags, "f4": number_types.Float32Flags,
}  # fmt: skip


def read_document(data: bytes) -> Record:
    """The ``Model`` record of a .espdl file. Raises ``ModelError`` for a file that is damaged, encrypted, a pack, or
    has parts that this package cannot write back."""
    try:
        return _decode(Buffer(payload(data)).root(), "Model")
    except FlatError as error:
        raise ModelError(f"not a sound .espdl: {error}", hint="copy it again, or quantize the model again") from None


def _decode(table: Table, kind: str) -> Record:
    fields = SCHEMA[kind]
    known = {number: name for name, (number, _) in fields.items()}
    record: Record = {}
    for number in range(table.field_count):
        if not table.has(number):
            continue
        if number not in known:
            raise ModelError(f"it has a {kind} with field {number}, which cannot be rewritten", hint="use it as it is")
        record[known[number]] = _decode_field(table, number, fields[known[number]][1])
    return record


def _decode_field(table: Table, number: int, kind: str) -> Any:
    if kind in _NUMBERS:
        return table.number(number, kind)
    if kind == "text":
        return table.text(number)
    if kind in ("bytes", "blocks"):
        return bytes(table.raw(number, _BLOCK if kind == "blocks" else 1))
    if kind == "[text]":
        return table.texts(number)
    inner = kind.strip("[]")
    if inner in _NUMBERS:
        return table.array(number, inner).tolist()
    if kind.startswith("["):
        return [_decode(element, inner) for element in table.tables(number)]
    element = table.table(number)
    assert element is not None
    return _decode(element, kind)


def write_document(model: Record) -> bytes:
    """The .espdl file of a ``Model`` record, in the container that ``uhd.espdl.reader`` describes.

    Values of tensors begin at multiples of 16 bytes of the file. Equal texts and equal records without such values
    are written once and referred to from everywhere, which FlatBuffers allows and esp-ppq does not do.
    """
    writer = _Writer()
    writer.builder.Finish(writer.table(model, "Model"))
    flat = bytes(writer.builder.Output())
    return b"EDL2" + struct.pack("<III", 0, len(flat), 0) + flat


class _Writer:
    """A builder that writes what is equal once."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1 << 20)
        self._written: dict[tuple[str, str], int] = {}

    def table(self, record: Record, kind: str) -> int:
        """Write a record with all that it refers to; its offset."""
        key = (kind, repr(record)) if kind not in ("Model", "Graph", "Tensor", "Node") else None
        if key is not None and key in self._written:
            return self._written[key]
        fields = SCHEMA[kind]
        ready = {name: self._reference(value, fields[name][1]) for name, value in record.items()}
        self.builder.StartObject(max(number for number, _ in fields.values()) + 1)
        # largest first, as every generator does: then no gaps are needed
        for name in sorted(ready, key=lambda name: (-_width(fields[name][1]), fields[name][0])):
            number, what = fields[name]
            if what in _NUMBERS:
                self.builder.PrependSlot(_NUMBERS[what], number, ready[name], None)
            else:
                self.builder.PrependUOffsetTRelativeSlot(number, ready[name], 0)
        offset: int = self.builder.EndObject()
        if key is not None:
            self._written[key] = offset
        return offset

    def _reference(self, value: Any, kind: str) -> Any:
        """A number as it is; the offset of anything else, written now."""
        if kind in _NUMBERS:
            return value
        if kind == "text":
            return self.builder.CreateSharedString(value)
        if kind == "bytes":
            return self._shared(kind, value, lambda: self.builder.CreateByteVector(value))
        if kind == "blocks":
            return self._blocks(value)
        inner = kind.strip("[]")
        if inner in _NUMBERS:
            numbers = np.array(value, np.dtype(inner).newbyteorder("<"))
            return self._shared(kind, numbers.tobytes(), lambda: self.builder.CreateNumpyVector(numbers))
        if not kind.startswith("["):
            return self.table(value, kind)
        offsets = [self._reference(element, inner) for element in value]
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def _shared(self, kind: str, value: bytes, write: Any) -> int:
        key = (kind, repr(value))
        if key not in self._written:
            self._written[key] = write()
        return self._written[key]

    def _blocks(self, value: bytes) -> int:
        """Bytes, filled up with zeros to whole blocks, aligned to a block."""
        value += b"\0" * (-len(value) % _BLOCK)
        builder = self.builder
        builder.StartVector(_BLOCK, len(value) // _BLOCK, _BLOCK)
        builder.head -= len(value)
        builder.Bytes[builder.head : builder.head + len(value)] = value
        offset: int = builder.EndVector()
        return offset


def _width(kind: str) -> int:
    """Bytes of a field inside its table."""
    return int(kind[1:]) if kind in _NUMBERS else 4
