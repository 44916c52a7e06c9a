"""The image of each chip, built by ESP-IDF from the committed model: ``pytest -m idf``, where ESP-IDF is active."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from uhd.device import idf

pytestmark = pytest.mark.idf
COMPILERS = {"esp32s3": "xtensa-esp32s3-elf-gcc", "esp32p4": "riscv32-esp-elf-gcc"}


@pytest.mark.parametrize("chip", COMPILERS)
def test_image_of_a_fresh_clone(chip: str, tmp_path: Path) -> None:
    if idf.find_idf() is None:
        pytest.skip("ESP-IDF is not active")
    if shutil.which(COMPILERS[chip]) is None:
        pytest.skip(f"ESP-IDF's compiler for {chip} is not installed (idf_tools.py install)")
    elf = idf.build("R", chip, tmp_path)
    plan = json.loads((elf.parent / "flasher_args.json").read_text())
    assert plan["extra_esptool_args"]["chip"] == chip
    assert {"bootloader", "partition-table", "app"} <= plan.keys()
    assert all((elf.parent / name).is_file() for name in plan["flash_files"].values())
