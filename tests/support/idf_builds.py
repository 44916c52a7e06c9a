"""Folders as ESP-IDF's build leaves them, made by hand from its documented file formats."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

CHIP_NUMBERS = {"esp32s3": 9, "esp32p4": 18}

#: name, type, subtype, offset, size, flags
ROWS = (
    ("nvs", 1, 2, 0x9000, 0x6000, 0),
    ("phy_init", 1, 1, 0xF000, 0x1000, 0),
    ("factory", 0, 0, 0x10000, 0x300000, 0),
    ("model", 1, 0x40, 0x310000, 0x100000, 1),
)


def table_bytes(rows: tuple[tuple[str, int, int, int, int, int], ...] = ROWS, md5: bool = True) -> bytes:
    """A binary partition table, padded to 3 KB as ESP-IDF pads it."""
    data = b"".join(
        struct.pack("<2sBBII16sI", b"\xaa\x50", kind, sub, at, size, name.encode(), flags)
        for name, kind, sub, at, size, flags in rows
    )
    if md5:
        data += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(data, usedforsecurity=False).digest()
    return data.ljust(0xC00, b"\xff")


def image_bytes(chip: str, size: int, fill: int = 0x5A) -> bytes:
    """Something with the header of an image for ``chip``."""
    header = bytearray(24)
    header[0], header[1], header[2], header[3] = 0xE9, 1, 2, 0x3F
    header[12:14] = CHIP_NUMBERS[chip].to_bytes(2, "little")
    return bytes(header) + bytes((fill + i) & 0xFF for i in range(size - 24))


def write_build(
    folder: Path, chip: str = "esp32s3", *, words: str = "-", encrypted: bool = False, reset: bool = True,
    stub: bool = True,
) -> Path:  # fmt: skip
    """A build with bootloader, table and app. ``words``: "-" as ESP-IDF 6 spells options, "_" as ESP-IDF 5."""
    (folder / "bootloader").mkdir(parents=True)
    (folder / "partition_table").mkdir()
    boot_offset = "0x0" if chip == "esp32s3" else "0x2000"
    files = {boot_offset: "bootloader/bootloader.bin", "0x8000": "partition_table/partition-table.bin"}
    files["0x10000"] = "uhd.bin"
    (folder / "bootloader" / "bootloader.bin").write_bytes(image_bytes(chip, 0x5000, 1))
    (folder / "partition_table" / "partition-table.bin").write_bytes(table_bytes())
    (folder / "uhd.bin").write_bytes(image_bytes(chip, 40_000))
    names = dict(zip(("bootloader", "partition-table", "app"), files.items(), strict=True))
    secret = {name: str(encrypted and name != "partition-table").lower() for name in names}
    before, after = ("default-reset", "hard-reset") if reset else ("no-reset", "no-reset")
    content: dict[str, Any] = {
        "write_flash_args": [f"--flash{words}mode", "dio", f"--flash{words}size", "8MB", f"--flash{words}freq", "80m"],
        "flash_settings": {"flash_mode": "dio", "flash_size": "8MB", "flash_freq": "80m"},
        "flash_files": files,
        **{n: {"offset": at, "file": file, "encrypted": secret[n]} for n, (at, file) in names.items()},
        "extra_esptool_args": {
            "after": after.replace("-", words),
            "before": before.replace("-", words),
            "stub": stub,
            "chip": chip,
        },
    }
    (folder / "flasher_args.json").write_text(json.dumps(content, indent=4))
    return folder
