"""Writing a model package (``.uhdm``): model, tables and .espdl in one file that a device opens where it lies.

The format is described in ``docs/model-package.md``; this module is where its layout is decided, ``package_reader``
and the C++ ``uhd/package.hpp`` read it. What goes in is the same ``Description`` that ``info.cpp`` is printed from.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from uhd.codegen.describe import Description, TensorRow
from uhd.codegen.tables import SCORES, Decode, Table
from uhd.errors import ModelError
from uhd.files import sha256_bytes
from uhd.manifest import ModelManifest

MAGIC = b"UHDM"
#: Changes when a reader of the old version would misread the new one.
VERSION = 1
#: Of the file in memory, of every section, and of the file's size.
ALIGNMENT = 16
#: What a device's workspace has room for.
MAX_OUTPUTS = 16
MAX_ANCHORS = 64
MAX_ARENA = 1 << 26
MAX_SECTIONS = 32
#: Offset of a table that is not there.
NONE = 0xFFFFFFFF

#: magic, version, total size, zero, SHA-256 of everything after it, number of sections, zeros.
HEADER = struct.Struct("<4sIII32sI12x")
HASHED_FROM = 48
#: Kind, offset from the start of the file, size in bytes, zero.
SECTION = struct.Struct("<4sIII")
#: Names (name, variant, target), arena, SHA-256 of the .espdl, input table, number of outputs, zeros.
INFO = struct.Struct("<IIII32sIH10x")
#: Name, height, width, channels, bytes of an element, exponent, place in the arena.
TENSOR = struct.Struct("<IHHHBbI")
#: anchor_count, class_count, grid_h, grid_w, top_k, score_threshold_q16, nms_iou_q16, zero, the four *_output, zero.
DECODE = struct.Struct("<8H4b4x")
#: Offset in the tables, shift.
TABLE = struct.Struct("<II")

#: Kinds of sections, in the file's order. All but DECO and JSON must be there.
KINDS = (b"INFO", b"DECO", b"TEXT", b"TABL", b"JSON", b"ESPD")


def package_bytes(about: Description, espdl_bytes: bytes, manifest: ModelManifest) -> bytes:
    """The package of a model. The same model and manifest give the same bytes.

    Raises:
        ModelError: the description is not of these bytes, or the model is larger than a device makes room for.
    """
    if sha256_bytes(espdl_bytes) != about.espdl_sha256:
        raise ModelError(f"the description of {about.name} is not of the given .espdl", hint="generate it again")
    _check_room(about)
    text, tables = _Text(), _Tables()
    names = [text.add(t) for t in (about.name, about.variant, about.target)]
    info = INFO.pack(
        *names, about.arena_size, bytes.fromhex(about.espdl_sha256), tables.add("h", about.input_table),
        len(about.outputs),
    )  # fmt: skip
    rows = b"".join(_tensor(row, text) for row in (about.input, *about.outputs))
    sections = {
        b"INFO": info + rows,
        b"DECO": _decode(about.decode, tables) if about.decode else b"",
        b"TEXT": bytes(text.content),
        b"TABL": bytes(tables.content),
        b"JSON": manifest.dumps().encode(),
        b"ESPD": espdl_bytes,
    }
    return assemble([(kind, sections[kind]) for kind in KINDS if sections[kind]])


def assemble(sections: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Header, list of sections and their contents, each at a multiple of ``ALIGNMENT``, with the hash in place."""
    listed, content = b"", b""
    start = HEADER.size + len(sections) * SECTION.size
    for kind, data in sections:
        listed += SECTION.pack(kind, start + len(content), len(data), 0)
        content += data + bytes(-len(data) % ALIGNMENT)
    total = start + len(content)
    head = HEADER.pack(MAGIC, VERSION, total, 0, bytes(32), len(sections))
    hashed = head[HASHED_FROM:] + listed + content
    return head[: HASHED_FROM - 32] + hashlib.sha256(hashed).digest() + hashed


def _check_room(about: Description) -> None:
    room = [("outputs", len(about.outputs), MAX_OUTPUTS), ("bytes of activations", about.arena_size, MAX_ARENA)]
    if about.decode:
        room.append(("anchors", about.decode.anchor_count, MAX_ANCHORS))
    for what, count, most in room:
        if count > most:
            raise ModelError(
                f"{about.name} has {count} {what}, a model package has room for {most}",
                hint="build it into the firmware instead",
            )


class _Text:
    """Zero-terminated UTF-8 strings, each kept once."""

    def __init__(self) -> None:
        self.content = bytearray()
        self._known: dict[bytes, int] = {}

    def add(self, text: str) -> int:
        """The offset of ``text``; a zero inside, which C cannot have, ends it."""
        data = text.encode().partition(b"\0")[0] + b"\0"
        if data not in self._known:
            self._known[data] = len(self.content)
            self.content += data
        return self._known[data]


class _Tables:
    """Arrays of integers, each at a multiple of four bytes."""

    def __init__(self) -> None:
        self.content = bytearray()

    def add(self, code: str, values: Sequence[int]) -> int:
        """The offset of an array of ``struct`` code h, H or I."""
        offset = len(self.content)
        self.content += struct.pack(f"<{len(values)}{code}", *values)
        self.content += bytes(-len(self.content) % 4)
        return offset

    def reference(self, code: str, table: Table | None) -> bytes:
        """Where a table is, or that it is not there."""
        return TABLE.pack(self.add(code, table.values), table.shift) if table else TABLE.pack(NONE, 0)


def _tensor(row: TensorRow, text: _Text) -> bytes:
    return TENSOR.pack(
        text.add(row.name), row.height, row.width, row.channels, row.bytes, row.exponent, row.arena_offset
    )


def _decode(decode: Decode, tables: _Tables) -> bytes:
    head = DECODE.pack(
        decode.anchor_count, decode.class_count, *decode.grid, decode.top_k, decode.score_threshold_q16,
        decode.nms_iou_q16, 0, *(decode.outputs.get(name, -1) for name in ("box", *SCORES)),
    )  # fmt: skip
    factors = (tables.reference("H", table) for table in (decode.box_xy, *map(decode.scores.get, SCORES)))
    return head + b"".join([*factors, *(tables.reference("I", table) for table in decode.box_wh)])
