"""The partition table in flash, as ESP-IDF builds it (``partition-table.bin``).

Rows of 32 bytes: magic AA 50, type, subtype, offset, size, name (16 bytes, zero padded), flags; little endian. After
them one row EB EB FF..FF with the MD5 of all rows before it, then rows of FF.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uhd.errors import DataError

_ROW = struct.Struct("<2sBBII16sI")
_MAGIC, _MD5_MAGIC, _END = b"\xaa\x50", b"\xeb\xeb", b"\xff" * _ROW.size
_TYPES = {0: "app", 1: "data", 2: "bootloader", 3: "partition_table"}
#: Smallest piece of flash that can be erased.
SECTOR = 4096


@dataclass(frozen=True)
class Partition:
    """A row of the table. ``kind`` is app, data, ... or the type's number."""

    name: str
    kind: str
    subtype: int
    offset: int
    size: int
    encrypted: bool = False
    readonly: bool = False

    @property
    def end(self) -> int:
        """First byte behind it."""
        return self.offset + self.size


def parse_partition_table(data: bytes, name: str = "partition table") -> tuple[Partition, ...]:
    """The rows of a binary table, in their order. ``name`` is what errors call it.

    Raises ``DataError`` for bytes that are no table, a wrong MD5, a missing end, or two rows of one name.
    """
    rows: list[Partition] = []
    for start in range(0, len(data) - _ROW.size + 1, _ROW.size):
        row = data[start : start + _ROW.size]
        if row == _END:
            break
        if row[:2] == _MD5_MAGIC:
            if row[16:] != hashlib.md5(data[:start], usedforsecurity=False).digest():
                raise DataError(f"{name}: its MD5 does not match its rows", hint="build the firmware again")
        elif row[:2] == _MAGIC:
            rows.append(_partition(row, name))
        else:
            raise DataError(f"{name}: row {start // _ROW.size} is no partition (magic {row[:2].hex()})")
    else:
        raise DataError(f"{name}: not a partition table, or cut off ({len(data)} bytes without an end)")
    names = [row.name for row in rows]
    if doubles := {n for n in names if names.count(n) > 1}:
        raise DataError(f"{name}: two partitions are called {sorted(doubles)[0]}")
    return tuple(rows)


def _partition(row: bytes, table: str) -> Partition:
    _, kind, subtype, offset, size, name, flags = _ROW.unpack(row)
    try:
        text = name.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        raise DataError(f"{table}: a partition's name is no text ({name.hex()})") from None
    return Partition(text, _TYPES.get(kind, str(kind)), subtype, offset, size, bool(flags & 1), bool(flags & 2))


def read_partition_table(path: Path) -> tuple[Partition, ...]:
    """``parse_partition_table`` of a file."""
    try:
        return parse_partition_table(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", hint="build the firmware first") from None


def find_partition(table: Sequence[Partition], name: str) -> Partition:
    """The partition of that name. Raises ``DataError`` naming all there are."""
    for partition in table:
        if partition.name == name:
            return partition
    known = ", ".join(partition.name for partition in table)
    raise DataError(f"the firmware has no partition {name!r}", hint=f"it has {known}")
