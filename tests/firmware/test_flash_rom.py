"""``flash`` and ``erase`` through the real esptool, into the ROM loader of a scripted chip; skipped without esptool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from support.esp_rom import EspRom
from support.idf_builds import write_build
from uhd.device.esptool_program import find_esptool, run_esptool
from uhd.device.flash import connect_arguments, write_arguments
from uhd.device.flash_plan import read_plan
from uhd.errors import DeviceError
from uhd.host.__main__ import cli

pytestmark = pytest.mark.skipif(find_esptool() is None, reason="esptool is not installed")


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UHD_BUILD", str(tmp_path / "out"))
    # No reset lines on a socket, and no loader in RAM on a scripted chip.
    return write_build(tmp_path / "idf", reset=False, stub=False)


@pytest.fixture
def rom() -> Iterator[EspRom]:
    with EspRom() as chip:
        yield chip


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), standalone_mode=False)


def test_everything_arrives_where_the_build_says(build: Path, rom: EspRom) -> None:
    result = run("flash", "--target", "esp32s3", "--build", str(build), "--port", rom.url)
    assert result.exception is None, result.exception
    for offset, name in ((0, "bootloader/bootloader.bin"), (0x8000, "partition_table/partition-table.bin"),
                         (0x10000, "uhd.bin")):  # fmt: skip
        data = (build / name).read_bytes()
        # esptool itself puts the flash settings into the bootloader's header and its hash.
        start = 24 if offset == 0 else 0
        assert rom.flash[offset + start : offset + len(data) - 32] == data[start:-32], name
    assert rom.flash[0x9000:0xF000] == b"\xaa" * 0x6000, "nvs keeps its content"


def test_one_partition_leaves_the_rest(build: Path, rom: EspRom, tmp_path: Path) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(bytes(i * 7 & 0xFF for i in range(5000)))
    before = bytes(rom.flash)
    result = run("flash", "--target", "esp32s3", "--build", str(build), "--port", rom.url,
                 "--partition", "model", "--image", str(model))  # fmt: skip
    assert result.exception is None, result.exception
    assert rom.flash[0x310000 : 0x310000 + 5000] == model.read_bytes()
    assert rom.flash[:0x310000] == before[:0x310000]
    assert rom.flash[0x310000 + 0x2000 :] == before[0x310000 + 0x2000 :]


def test_erasing_a_region(build: Path, rom: EspRom) -> None:
    result = run("erase", "--target", "esp32s3", "--build", str(build), "--port", rom.url, "--region", "nvs", "--yes")
    assert result.exception is None, result.exception
    assert rom.flash[0x9000:0xF000] == b"\xff" * 0x6000
    assert rom.flash[0x8FFF] == rom.flash[0xF000] == 0xAA


def test_progress_reaches_the_end(build: Path, rom: EspRom, tmp_path: Path) -> None:
    tool, plan = find_esptool(), read_plan(build, "esp32s3")
    assert tool is not None
    steps: list[tuple[int, int, str]] = []
    words = [*connect_arguments(tool, plan, rom.url, 460800), *write_arguments(tool, plan, plan.images)]
    run_esptool(tool, words, tmp_path / "log", progress=lambda *step: steps.append(step))
    writing = [(done, what) for done, _, what in steps if what.startswith("Writing at 0x")]
    assert writing and writing[-1][0] == 100
    assert all(0 <= done <= total == 100 for done, total, _ in steps)


def test_another_chip_on_the_port(build: Path, tmp_path: Path) -> None:
    with EspRom("esp32p4") as other:
        before = bytes(other.flash)
        result = run("flash", "--target", "esp32s3", "--build", str(build), "--port", other.url)
        assert isinstance(result.exception, DeviceError)
        assert "give its --target" in str(result.exception)
        assert bytes(other.flash) == before
