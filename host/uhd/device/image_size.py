"""What a built firmware weighs, by component: from the linker's map, so that it needs no ESP-IDF."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uhd.device.flash_plan import NAME, read_plan
from uhd.device.linker_map import PADDING, LinkerMap, Section, read_map
from uhd.errors import DataError

#: Columns. All but ``zeroed`` are in the image; all but ``code`` and ``constants`` are in RAM on a chip.
KINDS = ("code", "constants", "ram_code", "data", "zeroed")


@dataclass
class Row:
    """Bytes of one component."""

    component: str
    sizes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))

    @property
    def image(self) -> int:
        """Bytes it adds to the image."""
        return sum(self.sizes.values()) - self.sizes["zeroed"]

    @property
    def ram(self) -> int:
        """Bytes of RAM taken from the start on, without heap and stacks that are made later."""
        return self.sizes["ram_code"] + self.sizes["data"] + self.sizes["zeroed"]


@dataclass(frozen=True)
class Limit:
    """Something that can be full: ``used`` of ``size`` bytes."""

    name: str
    used: int
    size: int

    @property
    def percent(self) -> float:
        """How full, 0 to 100."""
        return 100 * self.used / self.size


@dataclass(frozen=True)
class SizeReport:
    """Components, the largest first, and what they have to fit into."""

    source: Path
    rows: tuple[Row, ...]
    limits: tuple[Limit, ...]

    def total(self, kind: str) -> int:
        """Bytes of one column."""
        return sum(row.sizes[kind] for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        rows = [{"component": r.component, **r.sizes, "image": r.image, "ram": r.ram} for r in self.rows]
        limits = [{"name": x.name, "used": x.used, "size": x.size, "percent": round(x.percent, 2)} for x in self.limits]
        return {"map": str(self.source), "components": rows, "limits": limits}


def kind_of(name: str, in_ram: bool) -> str:
    """The column of a section: by its name, as the linker scripts of ESP-IDF and the emulator give them."""
    if re.search(r"bss|noinit|COMMON", name):
        return "zeroed"
    if re.search(r"text|vectors|^\.init$|^\.fini$", name):
        return "ram_code" if in_ram else "code"
    if re.search(r"rodata|appdesc|eh_frame|array|tdata|\.flash", name):
        return "data" if in_ram and "rodata" not in name else "constants"
    return "data"


def component_of(file: str, objects: Mapping[str, str]) -> str:
    """Who put it there: ESP-IDF's component of an archive, a toolchain library, or ``objects`` by an object's stem."""
    if file == PADDING:
        return PADDING
    archive = re.sub(r"\([^()]*\)$", "", file)
    if archive != file:
        # build/esp-idf/<component>/lib<component>.a
        parts = archive.split("/")
        return parts[-2] if len(parts) > 2 and "esp-idf" in parts[:-2] else parts[-1]
    stem = re.sub(r"-[0-9a-f]{24}$", "", Path(file).stem)
    return objects.get(stem, Path(file).name)


def summarise(table: LinkerMap, objects: Mapping[str, str], *, chip: bool) -> tuple[Row, ...]:
    """Rows of a map, the largest image first. ``chip``: code and constants stay in flash; else all is in RAM."""
    rows: dict[str, Row] = defaultdict(lambda: Row(""))
    for section in table.sections:
        if "dummy" in section.name:
            continue  # room kept free where the same memory is seen at a second address
        kind = kind_of(section.name, chip and _in_ram(section))
        for file, size in section.parts.items():
            name = component_of(file, objects)
            rows[name].component = name
            rows[name].sizes[kind] += size
    return tuple(sorted(rows.values(), key=lambda row: (-row.image, -row.ram, row.component)))


def _in_ram(section: Section) -> bool:
    return not section.name.startswith(".flash")


def chip_report(folder: Path, target: str) -> SizeReport:
    """The size of an ESP-IDF build: its map, its app partition, and the RAM regions of its linker script."""
    plan = read_plan(folder, target)
    maps = sorted(plan.folder.glob("*.map"))
    if len(maps) != 1:
        raise DataError(f"{plan.folder}: {len(maps)} map files", hint=f"a build has one, beside {NAME}")
    table = read_map(maps[0])
    limits = []
    app, partition = plan.image("app"), plan.app_partition()
    if app and partition:
        limits.append(Limit(f"app partition {partition.name}", app.size, partition.size))
    # PSRAM has the addresses of flash; what is placed there by name does not say how full anything is.
    in_ram = [s for s in table.sections if _in_ram(s) and not s.name.startswith(".ext_ram")]
    for region in table.regions:
        if any(table.region_of(section) == region for section in in_ram):
            limits.append(Limit(f"RAM region {region.name}", table.used(region), region.length))
    return SizeReport(maps[0], summarise(table, {}, chip=True), tuple(limits))


def emulator_report(folder: Path) -> SizeReport:
    """The size of the emulator's firmware: the newest in a build folder, by the folders its sources come from."""
    from uhd.device.cross import units

    maps = sorted(folder.glob("uhd-*.map"), key=lambda path: path.stat().st_mtime)
    if not maps:
        raise DataError(f"{folder}: no firmware is built there", hint="run `python -m uhd.host build-fw` first")
    component = folder / "uhd_model"
    objects = {s.stem: unit.folder.name for unit in units(component)[:-1] for s in unit.sources}
    objects |= {s.stem: component.name for s in component.rglob("*") if s.suffix in (".cpp", ".S")}
    table = read_map(maps[-1])
    limits = [Limit(f"memory {r.name} of the emulated machine", table.used(r), r.length) for r in table.regions]
    return SizeReport(maps[-1], summarise(table, objects, chip=False), tuple(limits))
