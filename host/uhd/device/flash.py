"""Writing and erasing a board's flash: what esptool is asked, checked before the board is touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uhd.device.esptool_program import Esptool
from uhd.device.flash_plan import FlashPlan, Image
from uhd.device.partition_table import SECTOR, Partition, find_partition
from uhd.errors import ConfigError, DataError

DEFAULT_BAUD = 460800
#: Partition of the model package, replaced without the app.
MODEL_PARTITION = "model"


def connect_arguments(tool: Esptool, plan: FlashPlan, port: str, baud: int) -> list[str]:
    """How to reach the chip."""
    stub = [] if plan.stub else tool.words("--no-stub")
    reset = ["--before", *tool.words(plan.before), "--after", *tool.words(plan.after)]
    return ["--chip", plan.chip, "--port", port, "--baud", str(baud), *reset, *stub]


def write_arguments(tool: Esptool, plan: FlashPlan, images: Sequence[Image], *, encrypt: bool = False) -> list[str]:
    """Write ``images`` with the build's flash settings; ``encrypt`` as the build says.

    Raises ``ConfigError`` where ``encrypt`` is asked of a build without flash encryption.
    """
    secret = [image for image in images if image.encrypted] if encrypt else []
    if encrypt and not secret:
        raise ConfigError(f"{plan.folder}: this build has no flash encryption", hint="leave --encrypt out")
    arguments = tool.words("write-flash", "--flash-mode") + [plan.mode]
    arguments += tool.words("--flash-freq") + [plan.frequency, *tool.words("--flash-size"), plan.size]
    plain = [image for image in images if image not in secret]
    if secret and not plain:
        arguments.append("--encrypt")
    arguments += _files(plain or secret)
    return [*arguments, "--encrypt-files", *_files(secret)] if secret and plain else arguments


def _files(images: Sequence[Image]) -> list[str]:
    return [word for image in images for word in (hex(image.offset), str(image.path))]


def partition_image(plan: FlashPlan, name: str, path: Path) -> Image:
    """``path`` as an image for the partition ``name``.

    Raises ``DataError`` if the firmware has no such partition, or the file is missing, empty or too large for it.
    """
    partition = find_partition(plan.partitions(), name)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    size = path.stat().st_size
    if not 0 < size <= partition.size:
        raise DataError(f"{path}: {size:,} bytes do not fit partition {name} of {partition.size:,} bytes")
    encrypting = any(image.encrypted for image in plan.images)
    return Image(name, partition.offset, path.resolve(), encrypting and partition.encrypted)


def erase_arguments(tool: Esptool, region: Partition | None) -> list[str]:
    """Erase a partition, or all of the flash."""
    if region is None:
        return tool.words("erase-flash")
    size = -(-region.size // SECTOR) * SECTOR
    return [*tool.words("erase-region"), hex(region.offset), hex(size)]
