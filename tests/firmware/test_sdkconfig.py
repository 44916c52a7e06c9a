"""sdkconfig defaults, partition tables and the component manifest: consistent, explained, known to ESP-IDF."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from support.shared import ROOT
from uhd.device.idf import IDF_TARGETS, MIN_VERSION
from uhd.targets import TARGETS

FILES = [ROOT / "sdkconfig.defaults", *(ROOT / f"sdkconfig.defaults.{target}" for target in IDF_TARGETS)]
FILES += sorted(ROOT.glob("sdkconfig.profile.*"))
#: Options that the oldest versions of ESP-IDF we build with do not have; there they are ignored with a warning.
NEWER = {"ESP32P4_SELECTS_REV_LESS_V3"}
FLASH = {"esp32s3": 8 << 20, "esp32p4": 16 << 20}


def options(path: Path) -> dict[str, str]:
    """Name -> value. Fails on a line that is neither option, comment nor empty, and on an option given twice."""
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r'CONFIG_(\w+)=("[^"]*"|\w+)', line)
        assert match, f"{path}:{number}: {line!r} is no option"
        assert match[1] not in found, f"{path}:{number}: {match[1]} is set twice"
        found[match[1]] = match[2]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_options_are_unique_and_explained(path: Path) -> None:
    assert options(path)
    for block in path.read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if line]
        assert lines[0].startswith("# "), f"{path}: {lines[0]} has no reason above it"


def test_every_chip_has_its_file() -> None:
    chips = {t.idf_target for t in TARGETS.values() if t.idf_target}
    assert chips <= set(IDF_TARGETS)
    common = options(ROOT / "sdkconfig.defaults")
    for target in IDF_TARGETS:
        own = options(ROOT / f"sdkconfig.defaults.{target}")
        assert not common.keys() & own.keys(), "an option is set for all chips and again for one"
        assert not any(re.match(r"ESP32(?!S3|P4)", name) for name in own)


@pytest.mark.parametrize("target", ["esp32s3", "esp32p4"])
def test_the_link_does_not_share_its_port_with_the_console(target: str) -> None:
    own = options(ROOT / f"sdkconfig.defaults.{target}")
    assert own["ESP_CONSOLE_SECONDARY_NONE"] == "y"
    assert own["ESP_CONSOLE_UART_DEFAULT"] == "y"
    assert "ESP_TASK_WDT_PANIC" not in own, "a slow model would restart the device for ever"


def size_of(text: str) -> int:
    return int(text, 16) if text.startswith("0x") else int(text)


@pytest.mark.parametrize("target", ["esp32s3", "esp32p4"])
def test_partition_table_fits_the_flash(target: str) -> None:
    own = options(ROOT / f"sdkconfig.defaults.{target}")
    megabytes = FLASH[target] >> 20
    assert own[f"ESPTOOLPY_FLASHSIZE_{megabytes}MB"] == "y"
    table = ROOT / "firmware" / own["PARTITION_TABLE_CUSTOM_FILENAME"].strip('"')
    rows = [re.split(r"\s*,\s*", line) for line in table.read_text().splitlines() if line and line[0] != "#"]
    end = 0x9000  # bootloader and the table itself
    for name, kind, _, offset, size, *_ in rows:
        assert size_of(offset) == end, f"{name} leaves a hole or overlaps"
        assert size_of(offset) % (0x10000 if kind == "app" else 0x1000) == 0
        end = size_of(offset) + size_of(size)
    assert end == FLASH[target]
    assert [row[0] for row in rows if row[1] == "app"] == ["factory"]


def test_manifest_asks_for_the_version_that_the_tool_asks_for() -> None:
    text = (ROOT / "firmware" / "main" / "idf_component.yml").read_text()
    assert re.search(r'^  idf: "(.*)"$', text, re.M)[1] == ">=" + ".".join(map(str, MIN_VERSION))  # type: ignore[index]


def test_kconfig_options_used_in_code_exist() -> None:
    """CONFIG_UHD_* in sources is an option of ours, and every option of ours is used, but for one of each choice: what
    is built when none of the others is chosen."""
    firmware = ROOT / "firmware"
    files = [p for p in (*firmware.rglob("*.cpp"), *firmware.rglob("*.hpp"), *firmware.rglob("CMakeLists.txt"))]
    used = {name for p in files for name in re.findall(r"CONFIG_(UHD_\w+)", p.read_text())}
    menus = [p for p in firmware.rglob("Kconfig*") if "build" not in p.parts]
    known = {name for p in menus for name in re.findall(r"^\s*config (\w+)", p.read_text(), re.M)}
    assert used <= known
    for text in (path.read_text() for path in menus):
        for block in re.findall(r"^\s*choice (?:.|\n)*?^\s*endchoice", text, re.M):
            rest = set(re.findall(r"^\s*config (\w+)", block, re.M)) - used
            if len(rest) == 1:
                known -= rest
    assert used == known


def test_options_are_known_to_esp_idf() -> None:
    tree = os.environ.get("IDF_PATH")
    if not tree or not (Path(tree) / "Kconfig").is_file():
        pytest.skip("no ESP-IDF tree at IDF_PATH")
    known: set[str] = set()
    for path in Path(tree).rglob("Kconfig*"):
        if path.is_file() and "test_apps" not in path.parts:
            known.update(re.findall(r"^\s*(?:menu)?config\s+(\w+)", path.read_text(errors="replace"), re.M))
    assert len(known) > 1000, f"{tree} is no ESP-IDF tree"
    for path in FILES:
        assert not options(path).keys() - known - NEWER, f"{path} sets what this ESP-IDF does not know"
