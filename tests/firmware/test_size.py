"""``size``: linker maps of real links against the sections of the ELF files that came with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from support.emulated import firmware, need_emulator
from support.idf_builds import write_build
from uhd.device.cross import COMPILER, LINKER
from uhd.device.image_size import chip_report, component_of, kind_of, summarise
from uhd.device.linker_map import PADDING, parse_map, read_map
from uhd.errors import DataError
from uhd.host.__main__ import cli


def elf_sections(elf: Path) -> dict[str, int]:
    """Sections in memory, as binutils counts them."""
    done = subprocess.run(["riscv64-unknown-elf-size", "-A", str(elf)], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()[2:] if len(line.split()) == 3]
    return {name: int(size) for name, size, address in rows if int(address) and int(size)}


@pytest.mark.emu
def test_sections_and_parts_agree_with_the_elf() -> None:
    elf = firmware()
    table = read_map(elf.with_suffix(".map"))
    assert {s.name: s.size for s in table.sections} == elf_sections(elf)
    for section in table.sections:
        assert sum(section.parts.values()) == section.size
        assert section.parts.get(PADDING, 0) < 64 * len(section.parts)
    region = table.regions[0]
    assert (region.name, region.origin) == ("ram", 0x80000000)
    last = table.sections[-1]
    assert table.used(region) == last.address + last.size - region.origin


#: A layout in the style of ESP-IDF's for a chip: code and constants in flash, some code in RAM, room kept free.
LAYOUT = """
MEMORY {
  irom (rx) : ORIGIN = 0x40000020, LENGTH = 0x3fffe0
  sram_seg (rwx) : ORIGIN = 0x4ff00000, LENGTH = 0x10000
}
ENTRY(app_main)
SECTIONS {
  .iram0.text : { *(.iram1 .iram1.*) } > sram_seg
  .dram0.dummy (NOLOAD) : { . = . + 0x40; } > sram_seg
  .dram0.data : { *(.data .data.* .sdata .sdata.*) . = ALIGN(16); } > sram_seg
  .dram0.bss (NOLOAD) : { *(.bss .bss.* .sbss .sbss.* COMMON) } > sram_seg
  .flash.text : { *(.text .text.*) } > irom
  .flash.rodata : ALIGN(16) { *(.rodata .rodata.* .srodata .srodata.*) } > irom
  /DISCARD/ : { *(.eh_frame) *(.comment) }
}
"""
MAIN = """
extern int shared; extern const char table[]; int helper(int);
static char buffer[1000]; int counter = 7; static const char words[] = "some words that are merged";
__attribute__((section(".iram1.fast"), noinline)) int fast(int x) { return x * 3 + counter; }
const char *say(void) { return "some words that are merged"; }
int app_main(int x) { buffer[x] = words[x]; return fast(helper(x)) + table[x] + shared + buffer[x + 1]; }
"""
LIBRARY = """
int shared = 5; const char table[300] = {1, 2, 3};
int helper(int x) { return x ^ 0x55; }
int never(int x) { return x + 1; }
const char *say2(void) { return "some words that are merged"; }
"""


@pytest.fixture(scope="module")
def chip_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder with a map that GNU ld wrote, of archives where ESP-IDF puts its components."""
    if not shutil.which(COMPILER):
        need_emulator()
    folder = write_build(tmp_path_factory.mktemp("size") / "idf", "esp32p4")
    archives = []
    for component, source in (("main", MAIN), ("helper_with_a_long_name", LIBRARY)):
        place = folder / "esp-idf" / component
        place.mkdir(parents=True)
        (place / "part.c").write_text(source)
        flags = ["-march=rv32imafc", "-mabi=ilp32f", "-Os", "-ffunction-sections", "-fdata-sections", "-fno-builtin"]
        run = [LINKER, *flags, "-c", str(place / "part.c"), "-o", str(place / "part.c.obj")]
        subprocess.run(run, check=True)
        archive = f"esp-idf/{component}/lib{component}.a"
        subprocess.run(["riscv64-unknown-elf-ar", "rc", archive, str(place / "part.c.obj")], check=True, cwd=folder)
        archives.append(archive)
    (folder / "layout.ld").write_text(LAYOUT)
    link = [LINKER, "-march=rv32imafc", "-mabi=ilp32f", "-nostdlib", "-Wl,--gc-sections", "-Wl,-u,say,-u,say2"]
    link += ["-Tlayout.ld", "-Wl,-Map=uhd.map", "-Wl,--defsym=IDF_TARGET_ESP32P4=0", *archives, *archives]
    subprocess.run([*link, "-o", "uhd.elf"], check=True, cwd=folder)
    return folder


@pytest.mark.emu
def test_a_chips_build(chip_build: Path) -> None:
    sections = elf_sections(chip_build / "uhd.elf")
    report = chip_report(chip_build, "esp32p4")
    assert report.total("code") == sections[".flash.text"]
    assert report.total("constants") == sections[".flash.rodata"]
    assert report.total("ram_code") == sections[".iram0.text"]
    assert report.total("data") == sections[".dram0.data"]
    assert report.total("zeroed") == sections[".dram0.bss"] >= 1000
    rows = {row.component: row for row in report.rows}
    assert rows.keys() == {"main", "helper_with_a_long_name", PADDING}
    helper = rows["helper_with_a_long_name"]
    assert helper.sizes["constants"] >= 300 and helper.sizes["data"] == 4 and helper.sizes["ram_code"] == 0
    assert rows["main"].sizes["zeroed"] == 1000
    limits = {limit.name: limit for limit in report.limits}
    assert limits["app partition factory"].used == (chip_build / "uhd.bin").stat().st_size
    assert limits["app partition factory"].size == 0x300000
    ram = limits["RAM region sram_seg"]
    kept_free = 0x40
    assert ram.size == 0x10000
    assert ram.used >= sum(row.ram for row in report.rows) + kept_free
    assert len(report.limits) == 2, "flash seen through the cache is no limit"


@pytest.mark.emu
def test_the_command_prints_and_gives_json(chip_build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["size", "--target", "esp32p4", "--build", str(chip_build)]
    text = CliRunner().invoke(cli, words, standalone_mode=False).output
    assert text.splitlines()[1].split() == ["component", "image", "code", "constants", "ram", "code", "data", "zeroed"]
    assert "app partition factory  40,000 of 3,145,728 B  1.3 %" in text
    found = json.loads(CliRunner().invoke(cli, [*words, "--json"], standalone_mode=False).output)
    assert {row["component"] for row in found["components"]} == {"main", "helper_with_a_long_name", PADDING}
    assert found["limits"][0]["percent"] == 1.27


def _has_it(python: str) -> bool:
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('esp_idf_size') is None)"
    return subprocess.run([python, "-c", code]).returncode == 0


@pytest.mark.emu
def test_espressifs_program_gives_the_same(chip_build: Path, tmp_path: Path) -> None:
    """esp-idf-size, where it is installed, is an independent reader of the same map."""
    python = next(
        (p for p in (os.environ.get("ESP_IDF_SIZE_PYTHON"), shutil.which("python3")) if p and _has_it(p)), None
    )
    if python is None:
        pytest.skip("esp-idf-size is not installed")
    command = [python, "-m", "esp_idf_size", "--archives", "--format", "json2", str(chip_build / "uhd.map")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs = {}
    for name, found in json.loads(done.stdout).items():
        kinds = found["memory_types"].values()
        theirs[Path(name).stem.removeprefix("lib")] = sum(kind["size"] for kind in kinds)
    ours = {row.component: sum(row.sizes.values()) for row in chip_report(chip_build, "esp32p4").rows}
    padding = ours.pop(PADDING)
    for name, size in ours.items():
        assert size <= theirs[name] <= size + padding, "padding goes to a neighbour there"


def test_names_of_files_and_sections() -> None:
    objects = {"device": "uhd_core"}
    for file, component in (
        ("esp-idf/main/libmain.a(app_main.cpp.obj)", "main"),
        ("/x y/build/esp-idf/espressif__esp-dl/libespressif__esp-dl.a(a.cpp.obj)", "espressif__esp-dl"),
        ("/opt/lib/rv32imafc/ilp32f/libm.a(sf_exp.c.o)", "libm.a"),
        (f"/build/objects/device-{'0a' * 12}.o", "uhd_core"),
        ("CMakeFiles/uhd.elf.dir/project_elf_src_esp32s3.c.obj", "project_elf_src_esp32s3.c.obj"),
        (PADDING, PADDING),
    ):
        assert component_of(file, objects) == component
    for name, in_ram, kind in (
        (".flash.text", False, "code"), (".flash.rodata", False, "constants"), (".flash.appdesc", False, "constants"),
        (".iram0.vectors", True, "ram_code"), (".iram0.text", True, "ram_code"), (".dram0.data", True, "data"),
        (".dram0.bss", True, "zeroed"), (".noinit", True, "zeroed"), (".ext_ram.bss", True, "zeroed"),
        (".rtc.text", True, "ram_code"), (".text", False, "code"), (".rodata", False, "constants"),
    ):  # fmt: skip
        assert kind_of(name, in_ram) == kind, name


#: As GNU ld writes it: a string merged into the next piece, a name too long for its line, bytes given in the script.
TEXT = """Discarded input sections

 .text.unused   0x00000000       0x40 gone.o

Memory Configuration

Name             Origin             Length             Attributes
rom              0x00001000         0x00001000         xr
*default*        0x00000000         0xffffffff

Linker script and memory map

LOAD a.o
                0x00000010                __a_symbol = 0x10

.a              0x00001000       0x30 load address 0x00002000
 *(.a .a.*)
 .a.one         0x00001000        0x8 lib/libx.a(one.o)
                                 0x10 (size before relaxing)
 .a.two         0x00001000       0x10 lib/libx.a(two.o)
                0x00001000                two
 *fill*         0x00001010        0x4 
 .a.a_name_that_takes_its_own_line
                0x00001014        0xc with blanks/libx.a(three.o)
 BYTE 0x7f
                0x00001020        0x1 BYTE 0x7f
 .a.beyond      0x00001100        0x8 lib/libx.a(beyond.o)

.a_section_with_a_long_name
                0x00001030        0x4
 .b             0x00001030        0x4 b.o

.empty
 *(.empty)

.debug_info     0x00000000      0x100
 .debug_info    0x00000000      0x100 a.o
"""  # noqa: W291


def test_pieces_of_a_map() -> None:
    table = parse_map(TEXT)
    assert [(s.name, s.address, s.size) for s in table.sections] == [
        (".a", 0x1000, 0x30),
        (".a_section_with_a_long_name", 0x1030, 4),
    ]
    assert table.sections[0].parts == {
        "lib/libx.a(two.o)": 0x10,
        "with blanks/libx.a(three.o)": 0xC,
        PADDING: 0x30 - 0x1C,
    }
    assert table.used(table.regions[0]) == 0x34
    assert sum(row.image for row in summarise(table, {}, chip=False)) == 0x34


def test_what_is_no_map(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a linker map"):
        parse_map("hello", "x.map")
    with pytest.raises(DataError, match="build the firmware first"):
        read_map(tmp_path / "gone.map")
    with pytest.raises(DataError, match="0 map files"):
        chip_report(write_build(tmp_path / "b"), "esp32s3")


@pytest.mark.emu
def test_the_emulated_firmware_by_component(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "R-qemu-speed"
    folder.mkdir()
    elf = firmware()
    shutil.copy(elf.with_suffix(".map"), folder)
    (folder / "uhd_model" / "src").mkdir(parents=True)
    (folder / "uhd_model" / "src" / "model.cpp").touch()
    monkeypatch.setenv("UHD_BUILD", str(tmp_path))
    done = CliRunner().invoke(cli, ["size", "--variant", "R", "--target", "qemu", "--json"], standalone_mode=False)
    assert done.exception is None, done.exception
    found = json.loads(done.output)
    names = {row["component"] for row in found["components"]}
    assert {"emulator", "uhd_core", "uhd_model"} <= names
    assert not any(name.endswith(".o") for name in names), names
    assert sum(r["image"] + r["zeroed"] for r in found["components"]) == sum(elf_sections(elf).values())


def test_qemu_without_a_build(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "uhd.host", "size", "--target", "qemu", "--build", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "no firmware is built there; run `python -m uhd.host build-fw`" in done.stderr
