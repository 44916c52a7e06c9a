"""What ESP-IDF wants written where: ``flasher_args.json`` of a build folder, read and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uhd.device.partition_table import Partition, read_partition_table
from uhd.errors import DataError

#: Number of the chip in an image's header (bytes 12 and 13), which the bootloader checks too.
CHIP_IDS = {"esp32s3": 9, "esp32p4": 18}
_IMAGE_MAGIC = 0xE9
_HEADER = 24
NAME = "flasher_args.json"


@dataclass(frozen=True)
class Image:
    """A file to write. ``name`` is ESP-IDF's: bootloader, partition-table, app, ..."""

    name: str
    offset: int
    path: Path
    encrypted: bool

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size


@dataclass(frozen=True)
class FlashPlan:
    """A build, ready to be written. Reset modes are in the words of esptool 5 (``hard-reset``)."""

    folder: Path
    chip: str
    before: str
    after: str
    stub: bool
    mode: str
    size: str
    frequency: str
    images: tuple[Image, ...]

    @classmethod
    def bare(cls, chip: str) -> FlashPlan:
        """Only how to reach a chip, for what needs no build."""
        return cls(Path(), chip, "default-reset", "hard-reset", True, "keep", "detect", "keep", ())

    def image(self, name: str) -> Image | None:
        """The file of that name, or None."""
        return next((image for image in self.images if image.name == name), None)

    @property
    def flash_bytes(self) -> int | None:
        """Size of the flash chip; None where the build leaves it to be detected."""
        return int(self.size[:-2]) << 20 if self.size.endswith("MB") and self.size[:-2].isdecimal() else None

    def partitions(self) -> tuple[Partition, ...]:
        """The table that this build writes. Raises ``DataError`` if it has none."""
        table = self.image("partition-table")
        return read_partition_table(table.path if table else self.folder / "partition_table" / "partition-table.bin")

    def app_partition(self) -> Partition | None:
        """Where the app is written, or None for a build without app."""
        app = self.image("app")
        return next((p for p in self.partitions() if app and p.offset == app.offset), None)


def find_build(folder: Path) -> Path:
    """The ESP-IDF build folder in ``folder``: itself or its ``idf/``. Raises ``DataError`` if neither is one."""
    for candidate in (folder, folder / "idf"):
        if (candidate / NAME).is_file():
            return candidate
    hint = "run `python -m uhd.host build-fw` first, or give --build with a folder built elsewhere"
    raise DataError(f"{folder}: no firmware is built there (no {NAME})", hint=hint)


def read_plan(folder: Path, target: str) -> FlashPlan:
    """The plan of a build for the chip ``target``, in ``folder`` or its ``idf/``.

    Raises ``DataError`` if the build is for another chip, a file of it is missing, two files overlap, or one does not
    fit its partition.
    """
    folder = find_build(folder).resolve()
    path = folder / NAME
    try:
        plan = _plan(folder, json.loads(path.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not what ESP-IDF writes ({error!r})", hint="build the firmware again") from None
    if plan.chip != target:
        raise DataError(f"{folder}: built for {plan.chip}, not for {target}", hint=f"give --target {plan.chip}")
    _check_files(plan)
    return plan


def _plan(folder: Path, found: dict[str, Any]) -> FlashPlan:
    extra, settings = found["extra_esptool_args"], found["flash_settings"]
    named = {e["file"]: (n, e) for n, e in found.items() if isinstance(e, dict) and {"file", "offset"} <= e.keys()}
    images = []
    for offset, file in found["flash_files"].items():
        name, entry = named.get(file, (Path(file).stem, {}))
        # The flag is text, "true" or "false".
        images.append(Image(name, int(offset, 0), folder / file, str(entry.get("encrypted")).lower() == "true"))
    return FlashPlan(
        folder,
        str(extra["chip"]),
        # ESP-IDF 5 writes default_reset and hard_reset.
        str(extra["before"]).replace("_", "-"),
        str(extra["after"]).replace("_", "-"),
        bool(extra["stub"]),
        str(settings["flash_mode"]),
        str(settings["flash_size"]),
        str(settings["flash_freq"]),
        tuple(sorted(images, key=lambda image: image.offset)),
    )


def _check_files(plan: FlashPlan) -> None:
    if not plan.images:
        raise DataError(f"{plan.folder}: the build has nothing to write")
    for image in plan.images:
        if not image.path.is_file():
            raise DataError(f"{image.path}: missing", hint="build the firmware again, or copy the whole build folder")
    for image, behind in zip(plan.images, plan.images[1:], strict=False):
        if image.offset + image.size > behind.offset:
            raise DataError(f"{image.path.name} of {image.size:,} bytes reaches into {behind.path.name}")
    for name in ("bootloader", "app"):
        if (found := plan.image(name)) is not None:
            check_chip(found.path, plan.chip)
    app, room = plan.image("app"), plan.app_partition()
    if app is not None and room is not None and app.size > room.size:
        raise DataError(f"{app.path.name} of {app.size:,} bytes is larger than partition {room.name} ({room.size:,})")


def check_chip(path: Path, chip: str) -> None:
    """Raise ``DataError`` if the image's own header names another chip, or if it is no image."""
    with path.open("rb") as stream:
        header = stream.read(_HEADER)
    if len(header) < _HEADER or header[0] != _IMAGE_MAGIC:
        raise DataError(f"{path}: not an image for an Espressif chip", hint="build the firmware again")
    number = int.from_bytes(header[12:14], "little")
    if chip in CHIP_IDS and number != CHIP_IDS[chip]:
        other = next((name for name, value in CHIP_IDS.items() if value == number), f"chip number {number}")
        raise DataError(f"{path}: an image for {other}, not for {chip}", hint="build the firmware again")
