"""Reading a model package (``.uhdm``), with the checks that the device's ``open_package`` makes, and the manifest."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from uhd.codegen import package as layout
from uhd.codegen.describe import Description, TensorRow
from uhd.codegen.tables import MAX_SIZE, ONE, SCORES, Decode, Table
from uhd.errors import ModelError
from uhd.files import sha256_bytes
from uhd.manifest import ModelManifest, parse_manifest

_NEEDED = (b"INFO", b"TEXT", b"TABL", b"ESPD")
_ENTRIES = {0: 256, 6: 1025}
#: Of the C++ decoder.
_MAX_CANDIDATES = 65536
_CODE_BYTES = {"h": 2, "H": 2, "I": 4}


@dataclass(frozen=True)
class Package:
    """What a package holds. ``sections`` are its parts in bytes, by kind, in the file's order."""

    description: Description
    espdl: bytes
    manifest: ModelManifest | None
    size: int
    sha256: str
    sections: dict[str, int]


def is_package(path: Path) -> bool:
    """Whether a file begins like a package; False for one that cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(layout.MAGIC)) == layout.MAGIC
    except OSError:
        return False


def read_package(source: bytes | Path) -> Package:
    """Read a package; bytes behind its end, as in a partition, do not matter.

    Raises:
        ModelError: it is no package, is cut off or damaged, or says what no device would accept.
    """
    name = str(source) if isinstance(source, Path) else "the package"
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise ModelError(f"{name}: cannot read it ({error.strerror})") from None
    try:
        return _Reader(data).read()
    except _Wrong as error:
        raise ModelError(f"{name}: {error}", hint="build-fw writes one as model.uhdm in the build folder") from None


class _Wrong(Exception):
    """What is wrong with a package."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.parts: dict[bytes, bytes] = {}

    def read(self) -> Package:
        total, digest = self._check_whole()
        sections = self._find_sections(total)
        about = self._info()
        if about.arena_size > layout.MAX_ARENA or len(about.outputs) > layout.MAX_OUTPUTS:
            raise _Wrong("more outputs or activations than a device has room for")
        espdl = self.parts[b"ESPD"]
        if sha256_bytes(espdl) != about.espdl_sha256:
            raise _Wrong("the .espdl does not have the SHA-256 that the description names")
        manifest = None
        if b"JSON" in self.parts:
            manifest = parse_manifest(self.parts[b"JSON"], "the package's manifest")
        return Package(about, espdl, manifest, total, digest, sections)

    def _check_whole(self) -> tuple[int, str]:
        if self.data[:4] != layout.MAGIC:
            raise _Wrong("not a model package (.uhdm)")
        if len(self.data) < layout.HEADER.size:
            raise _Wrong("cut off")
        _, version, total, _, digest, _ = layout.HEADER.unpack_from(self.data)
        if version != layout.VERSION:
            raise _Wrong(f"format version {version}, this tool reads {layout.VERSION}")
        if len(self.data) < total:
            raise _Wrong(f"cut off: {len(self.data):,} of {total:,} bytes")
        if total < layout.HEADER.size or total % layout.ALIGNMENT:
            raise _Wrong("its size is impossible")
        if hashlib.sha256(self.data[layout.HASHED_FROM : total]).digest() != digest:
            raise _Wrong("it does not have the SHA-256 it names")
        return total, digest.hex()

    def _find_sections(self, total: int) -> dict[str, int]:
        count = layout.HEADER.unpack_from(self.data)[5]
        end = layout.HEADER.size + count * layout.SECTION.size
        if count > layout.MAX_SECTIONS or end > total:
            raise _Wrong("too many sections")
        sizes = {}
        for kind, offset, size, _ in layout.SECTION.iter_unpack(self.data[layout.HEADER.size : end]):
            if offset % layout.ALIGNMENT or size == 0 or offset + size > total:
                raise _Wrong("a section lies outside the package")
            if kind in layout.KINDS:
                if kind in self.parts:
                    raise _Wrong(f"section {kind.decode()} is there twice")
                self.parts[kind] = self.data[offset : offset + size]
            sizes[kind.decode("ascii", "backslashreplace")] = size
        missing = [kind.decode() for kind in _NEEDED if kind not in self.parts]
        if missing:
            raise _Wrong(f"no section {', '.join(missing)}")
        if self.parts[b"TEXT"][-1] != 0:
            raise _Wrong("its texts have no end")
        return sizes

    def _text(self, offset: int) -> str:
        content = self.parts[b"TEXT"]
        if offset >= len(content):
            raise _Wrong("a text lies outside the package")
        return content[offset : content.index(0, offset)].decode("utf-8", "replace")

    def _array(self, code: str, offset: int, count: int) -> tuple[int, ...]:
        content = self.parts[b"TABL"]
        if offset % 4 or offset + count * _CODE_BYTES[code] > len(content):
            raise _Wrong("a table lies outside the package")
        return struct.unpack_from(f"<{count}{code}", content, offset)

    def _info(self) -> Description:
        data = self.parts[b"INFO"]
        if len(data) < layout.INFO.size:
            raise _Wrong("the description is too short")
        name, variant, target, arena, digest, table, count = layout.INFO.unpack_from(data)
        if count == 0 or len(data) != layout.INFO.size + (1 + count) * layout.TENSOR.size:
            raise _Wrong("the description has another length than its number of outputs")
        rows = [self._row(fields, arena) for fields in layout.TENSOR.iter_unpack(data[layout.INFO.size :])]
        values = self._array("h", table, 256)
        if rows[0].bytes == 1 and not all(-128 <= v <= 127 for v in values):
            raise _Wrong("the input table has values that the input cannot have")
        return Description(
            name=self._text(name),
            variant=self._text(variant),
            target=self._text(target),
            espdl_sha256=digest.hex(),
            espdl_size=len(self.parts[b"ESPD"]),
            arena_size=arena,
            input=rows[0],
            outputs=tuple(rows[1:]),
            input_table=values,
            decode=self._decode(rows[1:]) if b"DECO" in self.parts else None,
        )

    def _row(self, fields: tuple[int, ...], arena: int) -> TensorRow:
        row = TensorRow(self._text(fields[0]), *fields[1:])
        size = row.height * row.width * row.channels * row.bytes
        if row.bytes not in (1, 2) or not size or row.arena_offset % row.bytes or row.arena_offset + size > arena:
            raise _Wrong(f"tensor {row.name!r} does not fit the model's memory")
        return row

    def _decode(self, outputs: list[TensorRow]) -> Decode:
        data = self.parts[b"DECO"]
        if len(data) < layout.DECODE.size:
            raise _Wrong("the decoder's description is too short")
        anchors, classes, height, width, top_k, threshold, iou, _, *maps = layout.DECODE.unpack_from(data)
        if len(data) != layout.DECODE.size + (4 + 2 * anchors) * layout.TABLE.size or anchors > layout.MAX_ANCHORS:
            raise _Wrong(f"the decoder's description does not fit {anchors} anchors")
        if any(not -1 <= index < len(outputs) for index in maps):
            raise _Wrong("the decoder names an output that is not there")
        references = list(layout.TABLE.iter_unpack(data[layout.DECODE.size :]))
        box_xy, *factors = (self._table("H", *reference) for reference in references[:4])
        sizes = tuple(self._table("I", *reference) for reference in references[4:])
        found = {name: index for name, index in zip(("box", *SCORES), maps, strict=True) if index >= 0}
        scores = {name: table for name, table in zip(SCORES, factors, strict=True) if table}
        if box_xy is None or None in sizes or not _fits(found, scores, outputs, (height, width), anchors, classes):
            raise _Wrong("the decoder's tables do not fit the model's outputs")
        whole = tuple(table for table in sizes if table)
        if any(max(table.values) > MAX_SIZE * ONE for table in whole):
            raise _Wrong("a table has boxes that are too wide")
        shifts = {table.shift for table in (box_xy, *whole)}
        if shifts != {0 if outputs[found["box"]].bytes == 1 else 6}:
            raise _Wrong("the decoder's tables do not fit the model's outputs")
        return Decode(anchors, classes, (height, width), top_k, threshold, iou, found, box_xy, whole, scores)

    def _table(self, code: str, offset: int, shift: int) -> Table | None:
        if offset == layout.NONE and shift == 0:
            return None
        if shift not in _ENTRIES:
            raise _Wrong(f"a table of unknown kind {shift}")
        return Table(self._array(code, offset, _ENTRIES[shift]), shift)


def _fits(
    maps: dict[str, int], scores: dict[str, Table], outputs: list[TensorRow], grid: tuple[int, int], anchors: int,
    classes: int,
) -> bool:  # fmt: skip
    """What the C++ ``check_decode`` asks of maps and tables."""
    if not (0 < anchors * grid[0] * grid[1] <= _MAX_CANDIDATES and max(grid) <= 4096 and 0 < classes <= 256):
        return False
    if not scores or ("cls" not in scores and classes != 1) or "box" not in maps or not scores.keys() <= maps.keys():
        return False
    channels = {"box": 4 * anchors, "cls": anchors * classes}
    for name in ("box", *scores):
        row = outputs[maps[name]]
        if (row.height, row.width, row.channels) != (*grid, channels.get(name, anchors)):
            return False
    return all(table.shift == (0 if outputs[maps[name]].bytes == 1 else 6) for name, table in scores.items())
