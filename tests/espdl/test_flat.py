"""The FlatBuffer walker on sound and on hostile buffers."""

from __future__ import annotations

import struct
import time

import flatbuffers
import numpy as np
import pytest

from uhd.espdl.flat import Buffer, FlatError


def sample() -> bytes:
    """A table with every kind of field, written by the usual runtime."""
    builder = flatbuffers.Builder()
    text = builder.CreateString("häuser")
    numbers = builder.CreateNumpyVector(np.array([1, -2, 3], np.int64))
    names = [builder.CreateString(n) for n in ("a", "bc")]
    builder.StartVector(4, 2, 4)
    for offset in reversed(names):
        builder.PrependUOffsetTRelative(offset)
    strings = builder.EndVector()
    builder.StartObject(1)
    builder.PrependInt32Slot(0, 77, 0)
    child = builder.EndObject()
    builder.StartObject(8)
    builder.PrependInt8Slot(0, -3, 0)
    builder.PrependInt32Slot(1, -70000, 0)
    builder.PrependInt64Slot(2, 1 << 40, 0)
    builder.PrependFloat32Slot(3, 0.5, 0.0)
    builder.PrependUOffsetTRelativeSlot(4, text, 0)
    builder.PrependUOffsetTRelativeSlot(5, numbers, 0)
    builder.PrependUOffsetTRelativeSlot(6, strings, 0)
    builder.PrependUOffsetTRelativeSlot(7, child, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def test_reads_what_the_usual_runtime_wrote() -> None:
    table = Buffer(sample()).root()
    assert (table.int8(0), table.int32(1), table.int64(2), table.float32(3)) == (-3, -70000, 1 << 40, 0.5)
    assert table.text(4) == "häuser"
    assert table.array(5, "i8").tolist() == [1, -2, 3]
    assert table.texts(6) == ["a", "bc"]
    child = table.table(7)
    assert child is not None
    assert child.int32(0) == 77


def test_absent_fields_have_defaults() -> None:
    table = Buffer(sample()).root()
    assert (table.int8(20, 5), table.int64(21, -1), table.float32(22, 2.0)) == (5, -1, 2.0)
    assert table.text(23) == ""
    assert table.table(24) is None
    assert table.tables(25) == table.texts(26) == []
    assert table.array(27, "f4").size == 0


def walk(data: bytes) -> None:
    """Read every field that ``sample`` has."""
    table = Buffer(data).root()
    table.int8(0), table.int32(1), table.int64(2), table.float32(3), table.text(4), table.array(5, "i8"), table.texts(6)
    child = table.table(7)
    if child is not None:
        child.int32(0)


def test_every_truncation_and_every_bit_flip_reads_or_is_refused() -> None:
    data = sample()
    outcomes = {"read": 0, "refused": 0}
    variants = [data[:n] for n in range(len(data))]
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        variants.append(bytes(flipped))
    for variant in variants:
        try:
            walk(variant)
            outcomes["read"] += 1
        except FlatError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    assert outcomes["refused"] > len(data)
    assert outcomes["read"] > 0


def test_control_characters_and_broken_utf8_are_refused() -> None:
    data = sample()
    for old, new, what in ((b"bc", b"b\x07", "control"), (b"\xc3\xa4", b"\xc3\xc3", "UTF-8")):
        with pytest.raises(FlatError, match=what):
            walk(data.replace(old, new))


def bomb(count: int) -> bytes:
    """``count`` offsets that all lead to one and the same table, behind them."""
    head = struct.pack("<I", 12) + struct.pack("<HHH", 6, 8, 4) + b"\0\0"  # root at 12; its vtable at 4: one field
    table = struct.pack("<iI", 8, 4)  # vtable 8 bytes back; its vector 4 bytes after the field
    vector = struct.pack("<I", count) + b"".join(struct.pack("<I", 4 * (count - i)) for i in range(count))
    shared_at = len(head) + len(table) + len(vector)
    return head + table + vector + struct.pack("<iI", shared_at - 4, 0)


def test_shared_tables_are_followed_a_bounded_number_of_times() -> None:
    assert len(Buffer(bomb(20)).root().tables(0)) == 20
    root = Buffer(bomb(250_000)).root()
    started = time.perf_counter()
    with pytest.raises(FlatError, match="refer to each other"):
        root.tables(0)
    assert time.perf_counter() - started < 2


def test_a_vector_longer_than_the_buffer_is_refused() -> None:
    data = bytearray(bomb(3))
    data[20:24] = struct.pack("<I", 0xFFFFFFFF)
    with pytest.raises(FlatError, match="4294967295 elements at byte 20 runs past the end"):
        Buffer(bytes(data)).root().tables(0)
