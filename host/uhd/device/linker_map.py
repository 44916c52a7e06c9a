"""GNU ld's map file: which archive or object put how many bytes into which section and memory region."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from uhd.errors import DataError

_REGION = re.compile(r"^(\S+) +0x([0-9a-f]+) +0x([0-9a-f]+)")
#: A name at the margin, then address and size on this line or, after a long name, the next.
_OUTPUT = re.compile(r"^([.\w][\w.$-]*)(?:\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)(?:\s+load address.*)?)?$")
#: One blank, a name, then address, size and file likewise.
_INPUT = re.compile(r"^ ([.\w][^\s(]*)(?:\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+(\S.*))?$")
_FILL = re.compile(r"^ \*fill\*\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)")
_REST = re.compile(r"^\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)(?:\s+(\S.*))?$")

#: Who the bytes between sections belong to.
PADDING = "(padding)"


@dataclass(frozen=True)
class Region:
    """A line of the linker script's MEMORY."""

    name: str
    origin: int
    length: int

    def holds(self, address: int) -> bool:
        """Whether an address lies in it."""
        return self.origin <= address < self.origin + self.length


@dataclass
class Section:
    """An output section in memory. ``parts``: bytes by file (``lib.a(member.o)`` or an object's path)."""

    name: str
    address: int
    size: int
    parts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LinkerMap:
    """A map file: regions and the sections in them, in order. Debug information is in no region and left out."""

    regions: tuple[Region, ...]
    sections: tuple[Section, ...]

    def region_of(self, section: Section) -> Region | None:
        """The smallest region that holds the section's start."""
        found = [region for region in self.regions if region.holds(section.address)]
        return min(found, key=lambda region: region.length, default=None)

    def used(self, region: Region) -> int:
        """Bytes from the region's start to the end of what lies last in it."""
        ends = [s.address + s.size for s in self.sections if s.size and self.region_of(s) == region]
        return max(ends, default=region.origin) - region.origin


def parse_map(text: str, name: str = "map file") -> LinkerMap:
    """Read a map file. Raises ``DataError`` if it is none."""
    head, found, body = text.partition("\nLinker script and memory map\n")
    if not found:
        raise DataError(f"{name}: not a linker map")
    regions = []
    for line in head.partition("\nMemory Configuration\n")[2].splitlines():
        match = _REGION.match(line)
        if match and match[1] != "*default*":
            regions.append(Region(match[1], int(match[2], 16), int(match[3], 16)))
    sections = _sections(body)
    inside = [s for s in sections if s.size and any(region.holds(s.address) for region in regions)]
    return LinkerMap(tuple(regions), tuple(inside))


def read_map(path: Path) -> LinkerMap:
    """``parse_map`` of a file."""
    try:
        return parse_map(path.read_text(encoding="utf-8", errors="replace"), str(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", hint="build the firmware first") from None


@dataclass(frozen=True)
class _Input:
    address: int
    size: int
    file: str


def _sections(body: str) -> list[Section]:
    sections: list[Section] = []
    inputs: dict[int, list[_Input]] = defaultdict(list)  # by index into sections
    waiting = ""  # for address and size of: an output section, an input section
    for line in body.splitlines():
        if waiting and (rest := _REST.match(line)):
            address, size = int(rest[1], 16), int(rest[2], 16)
            if waiting == "output" and rest[3] is None:
                sections[-1].address, sections[-1].size = address, size
            elif waiting == "input" and rest[3] is not None and sections:
                inputs[len(sections) - 1].append(_Input(address, size, rest[3]))
            waiting = ""
            continue
        waiting = ""
        if match := _OUTPUT.match(line):
            located = match[2] is not None
            sections.append(Section(match[1], int(match[2], 16) if located else 0, int(match[3], 16) if located else 0))
            waiting = "" if located else "output"
        elif (match := _FILL.match(line)) and sections:
            inputs[len(sections) - 1].append(_Input(int(match[1], 16), int(match[2], 16), PADDING))
        elif (match := _INPUT.match(line)) and sections:
            if match[2] is None:
                waiting = "input"
            else:
                inputs[len(sections) - 1].append(_Input(int(match[2], 16), int(match[3], 16), match[4]))
    for index, section in enumerate(sections):
        section.parts = _share(section, inputs[index])
    return sections


def _share(section: Section, inputs: list[_Input]) -> dict[str, int]:
    """Bytes of a section by file; what no file put there is padding."""
    parts: dict[str, int] = defaultdict(int)
    end = section.address + section.size
    inside = [one for one in inputs if one.size and section.address <= one.address < end]
    for one, following in itertools.pairwise([*inside, _Input(end, 0, "")]):
        # Strings merged into an earlier piece are still listed with their old size, at the address of what follows.
        parts[one.file] += max(0, min(one.size, following.address - one.address))
    parts[PADDING] += section.size - sum(parts.values())
    return {file: size for file, size in parts.items() if size}
