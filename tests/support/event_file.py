"""A reader of TensorBoard event files, written from the formats: TFRecord frames, CRC-32C, protocol buffer fields."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

_TABLE = []
for _byte in range(256):
    _value = _byte
    for _ in range(8):
        _value = _value >> 1 ^ (0x82F63B78 if _value & 1 else 0)
    _TABLE.append(_value)


def crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 255] ^ value >> 8
    return value ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    value = crc32c(data)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[place] & 127) << shift
        shift, place = shift + 7, place + 1
        if not data[place - 1] & 128:
            return value, place


def fields(data: bytes) -> list[tuple[int, Any]]:
    """(number, value) of a message's fields: int, float (32 and 64 bits) or bytes."""
    found: list[tuple[int, Any]] = []
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, kind = key >> 3, key & 7
        value: Any
        if kind == 0:
            value, place = _varint(data, place)
        elif kind == 1:
            value, place = struct.unpack("<d", data[place : place + 8])[0], place + 8
        elif kind == 2:
            length, place = _varint(data, place)
            value, place = data[place : place + length], place + length
        else:
            assert kind == 5
            value, place = struct.unpack("<f", data[place : place + 4])[0], place + 4
        found.append((number, value))
    return found


def read_events(path: Path) -> tuple[str, list[tuple[int, str, float]]]:
    """File version, and (step, tag, value) of every scalar. Checks both checksums of every record."""
    data, place, version = path.read_bytes(), 0, ""
    scalars: list[tuple[int, str, float]] = []
    while place < len(data):
        head = data[place : place + 8]
        (length,) = struct.unpack("<Q", head)
        body = data[place + 12 : place + 12 + length]
        assert struct.unpack("<I", data[place + 8 : place + 12])[0] == masked(head)
        assert struct.unpack("<I", data[place + 12 + length : place + 16 + length])[0] == masked(body)
        place += 16 + length
        event = dict(fields(body))
        version = event.get(3, b"").decode() or version
        for number, value in fields(event.get(5, b"")):
            assert number == 1
            parts = dict(fields(value))
            scalars.append((event.get(2, 0), parts[1].decode(), parts.get(2, 0.0)))
    return version, scalars
