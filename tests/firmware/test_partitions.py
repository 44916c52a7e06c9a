"""Partition tables and the sdkconfig profiles that choose them: places, sizes, flags, and ESP-IDF's own tool."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from support.shared import ROOT

FIRMWARE = ROOT / "firmware"
TABLES = sorted(FIRMWARE.glob("partitions_*.csv"))
PROFILES = ("model_partition", "encrypted")
FLASH = {"esp32s3": 8 << 20, "esp32p4": 16 << 20}
#: Page of the flash cache: what starts on one can be mapped into memory from its first byte.
PAGE = 0x10000
SECTOR = 0x1000
#: Kinds of partition: those that ESP-IDF knows by name, and our model's.
TYPES = {("data", "nvs"), ("data", "phy"), ("data", "nvs_keys"), ("app", "factory"), ("data", "0x40")}


@dataclass(frozen=True)
class Row:
    name: str
    kind: str
    subtype: str
    offset: int
    size: int
    flags: frozenset[str]

    @property
    def end(self) -> int:
        return self.offset + self.size


def read_table(path: Path) -> list[Row]:
    rows = []
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, kind, subtype, offset, size, *rest = (field.strip() for field in line.split(","))
        flags = frozenset(flag for field in rest for flag in field.split(":") if flag)
        rows.append(Row(name, kind, subtype, int(offset, 0), int(size, 0), flags))
    return rows


def flash_of(path: Path) -> int:
    megabytes = re.match(r"partitions_(\d+)mb", path.name)
    assert megabytes, path
    return int(megabytes[1]) << 20


def table_offset(path: Path) -> int:
    return 0xD000 if "encrypted" in path.name else 0x8000


def problems(rows: list[Row], start: int, flash: int) -> list[str]:
    """What is wrong with a table that lies at ``start`` in ``flash`` bytes."""
    found = []
    end = start + SECTOR
    for row in sorted(rows, key=lambda row: row.offset):
        if row.offset != end:
            found.append(f"{row.name}: {'overlaps' if row.offset < end else 'leaves a hole'}")
        if row.offset % (PAGE if row.kind == "app" or row.name == "model" else SECTOR) or row.size % SECTOR:
            found.append(f"{row.name}: alignment")
        if (row.kind, row.subtype) not in TYPES:
            found.append(f"{row.name}: type {row.kind} {row.subtype}")
        if len(row.name) > 16:
            found.append(f"{row.name}: name too long")
        if row.flags - {"encrypted", "readonly"}:
            found.append(f"{row.name}: flags {sorted(row.flags)}")
        if row.subtype == "nvs" and (row.size < 3 * SECTOR or row.flags):
            found.append(f"{row.name}: too small, or with flags")
        end = row.end
    if end != flash:
        found.append(f"ends at {end:#x}, flash at {flash:#x}")
    if len({row.name for row in rows}) != len(rows):
        found.append("a name twice")
    return found


def test_there_are_tables_of_every_kind() -> None:
    names = {path.name for path in TABLES}
    kinds = ("", "_model", "_encrypted")
    assert names == {f"partitions_{megabytes}mb{kind}.csv" for megabytes in (8, 16) for kind in kinds}


@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.name)
def test_table(path: Path) -> None:
    assert problems(read_table(path), table_offset(path), flash_of(path)) == []


def test_problems_are_found() -> None:
    good = read_table(FIRMWARE / "partitions_8mb_model.csv")

    def changed(index: int, fields: dict[str, Any]) -> list[Row]:
        return [replace(row, **fields) if i == index else row for i, row in enumerate(good)]

    cases: list[tuple[int, dict[str, Any], str]] = [
        (0, {"size": 0x7000}, "overlaps"),
        (0, {"size": 0x5000}, "hole"),
        (2, {"offset": 0xF800}, "alignment"),
        (3, {"size": 0x5F1000}, "ends at"),
        (3, {"subtype": "0x41x"}, "type"),
        (3, {"flags": frozenset({"secret"})}, "flags"),
        (1, {"name": "nvs"}, "twice"),
        (1, {"name": "a" * 17}, "long"),
    ]
    for index, fields, word in cases:
        assert any(word in problem for problem in problems(changed(index, fields), 0x8000, 8 << 20)), word
    assert problems(good, 0xD000, 8 << 20)


@pytest.mark.parametrize("path", [p for p in TABLES if "_" in p.stem[11:]], ids=lambda p: p.name)
def test_the_model_has_room_and_the_app_too(path: Path) -> None:
    rows = {row.name: row for row in read_table(path)}
    assert rows["model"].size > 5 << 20, "variants of up to five million parameters"
    assert rows["factory"].size >= 2 << 20
    encrypted = "encrypted" in path.name
    assert ("encrypted" in rows["model"].flags) == encrypted
    assert ("nvs_keys" in rows) == encrypted
    if encrypted:
        assert "encrypted" in rows["nvs_keys"].flags, "keys in the clear protect nothing"


@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.name)
def test_esp_idf_accepts_the_table(path: Path, tmp_path: Path) -> None:
    """The tool that builds use: it checks more than we know, and its binary says what we read."""
    tree = os.environ.get("IDF_PATH", "")
    tool = Path(tree) / "components" / "partition_table" / "gen_esp32part.py"
    if not tree or not tool.is_file():
        pytest.skip("no ESP-IDF tree at IDF_PATH")
    python = Path(os.environ.get("IDF_PYTHON_ENV_PATH", "")) / "bin" / "python"
    command = [str(python if python.is_file() else sys.executable), str(tool), "--offset", hex(table_offset(path))]
    binary, back = tmp_path / "table.bin", tmp_path / "table.csv"
    flash = f"{flash_of(path) >> 20}MB"
    for arguments in ([*command, "--flash-size", flash, str(path), str(binary)], [*command, str(binary), str(back)]):
        done = subprocess.run(arguments, capture_output=True, text=True)
        if "ModuleNotFoundError" in done.stderr:
            pytest.skip("the tool's Python is not installed")
        assert done.returncode == 0, done.stdout + done.stderr
    sizes = {"K": 1 << 10, "M": 1 << 20}
    rows = []
    for line in back.read_text().splitlines():
        if line and line[0] != "#":
            name, _, _, offset, size, flags = line.split(",")
            number = int(size[:-1]) * sizes[size[-1]] if size[-1] in sizes else int(size, 0)
            rows.append((name, int(offset, 0), number, flags))
    assert rows == [(r.name, r.offset, r.size, ":".join(sorted(r.flags))) for r in read_table(path)]


def options(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^CONFIG_(\w+)=(.*)$", path.read_text(), re.M))


@pytest.mark.parametrize("target", FLASH)
@pytest.mark.parametrize("profile", PROFILES)
def test_profile_chooses_the_table_of_the_chip(profile: str, target: str) -> None:
    """Later files win, as ESP-IDF reads them: defaults, the chip's, the profile, the chip's."""
    names = ("sdkconfig.defaults", f"sdkconfig.profile.{profile}")
    files = [ROOT / name for base in names for name in (base, f"{base}.{target}")]
    all_options = {name: value for file in files for name, value in options(file).items()}
    assert all_options["PARTITION_TABLE_CUSTOM"] == "y"
    table = FIRMWARE / all_options["PARTITION_TABLE_CUSTOM_FILENAME"].strip('"')
    assert flash_of(table) == FLASH[target]
    assert any(row.name == "model" for row in read_table(table))
    assert int(all_options.get("PARTITION_TABLE_OFFSET", "0x8000"), 0) == table_offset(table)


@pytest.mark.parametrize("target", FLASH)
def test_encryption_is_development_mode_and_keeps_a_way_back(target: str) -> None:
    found = {**options(ROOT / "sdkconfig.profile.encrypted"), **options(ROOT / f"sdkconfig.profile.encrypted.{target}")}
    assert found["SECURE_FLASH_ENC_ENABLED"] == found["SECURE_FLASH_ENCRYPTION_MODE_DEVELOPMENT"] == "y"
    assert not any("RELEASE" in name for name in found)
    assert "IRREVERSIBLE" in (ROOT / "sdkconfig.profile.encrypted").read_text()
    plain = options(ROOT / "sdkconfig.profile.model_partition")
    assert not any("SECURE" in name for name in plain)
