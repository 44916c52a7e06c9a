"""``flash``: write a built firmware, or one partition, to a board."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from uhd.host.ui import Steps, emit_json, human_bytes

if TYPE_CHECKING:
    from uhd.device.esptool_program import Esptool
    from uhd.device.flash_plan import FlashPlan, Image

EPILOG = """\b
Examples:
  python -m uhd.host flash --variant R --target esp32s3
  python -m uhd.host flash --variant R --target esp32p4 --preset precision --port /dev/ttyACM0 --monitor
  python -m uhd.host flash --build copied_from_elsewhere/ --target esp32s3 --dry-run
  python -m uhd.host flash --variant R --target esp32s3 --partition model --image model.bin
"""


@click.command(epilog=EPILOG)
@click.option("--target", required=True, type=click.Choice(["esp32s3", "esp32p4"]), help="Chip of the board.")
@click.option("--variant", help="Letter of the variant that build-fw built.")
@click.option("--preset", default="speed", show_default=True, help="Its precision preset.")
@click.option("--build", "folder", type=click.Path(path_type=Path), help="Build folder, instead of build-fw's own.")
@click.option("--port", help="Serial port; by default $ESPPORT, or the only one that could be a board.")
@click.option("--baud", type=click.IntRange(9600), help="Speed of the transfer.  [default: 460800]")
@click.option("--partition", help="Write only this partition, with --image.")
@click.option("--image", type=click.Path(path_type=Path), help="File for --partition.")
@click.option("--encrypt", is_flag=True, help="Encrypt what the build marks; the chip has flash encryption on.")
@click.option("--monitor", is_flag=True, help="Then show what the board says, as the command monitor does.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the command, touch no board.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def command(
    target: str,
    variant: str | None,
    preset: str,
    folder: Path | None,
    port: str | None,
    baud: int | None,
    partition: str | None,
    image: Path | None,
    encrypt: bool,
    monitor: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Write a built firmware to a board.

    Needs esptool; ESP-IDF only where that is missing. So a build can come from another machine: copy its idf/ folder
    and give it with --build. Chip, files and sizes are checked before the board is touched.
    """
    from uhd.device.esptool_program import find_esptool, run_esptool
    from uhd.device.flash import DEFAULT_BAUD, connect_arguments, partition_image, write_arguments
    from uhd.device.flash_plan import read_plan
    from uhd.errors import ConfigError
    from uhd.paths import build_root

    if (partition is None) != (image is None):
        raise ConfigError("--partition and --image belong together")
    plan = read_plan(build_folder(variant, target, preset, folder), target)
    images = plan.images if partition is None or image is None else (partition_image(plan, partition, image),)
    tool = find_esptool()
    if tool is None:
        return _with_idf(plan, partition, encrypt, port, baud, dry_run, monitor)
    write = write_arguments(tool, plan, images, encrypt=encrypt)
    port = choose(port, dry_run)
    arguments = [*connect_arguments(tool, plan, port, baud or DEFAULT_BAUD), *write]
    if not dry_run:
        steps = Steps(1, quiet=as_json)
        steps.start(f"flash     {sum(i.size for i in images):,} bytes to {plan.chip} at {port}")
        log = build_root() / "flash.log"
        run_esptool(tool, arguments, log, progress=(lambda *_: None) if as_json else None)
        steps.done(", ".join(i.name for i in images))
    _report(tool, plan, images, port, arguments, dry_run, as_json)
    return _monitor(port, plan) if monitor and not dry_run else 0


def build_folder(variant: str | None, target: str, preset: str, folder: Path | None) -> Path:
    """The build folder that the options name. Raises ``ConfigError`` if they name none."""
    from uhd.device.build import Request
    from uhd.errors import ConfigError
    from uhd.paths import build_root

    if folder is not None:
        return folder
    if not variant:
        raise ConfigError("which build?", hint="give --variant, or --build FOLDER")
    return build_root() / Request(variant.upper(), target, preset).name


def choose(given: str | None, dry_run: bool) -> str:
    """The port to use, found and checked; a placeholder where a dry run has none."""
    from uhd.device.serial_ports import check_access, choose_port
    from uhd.errors import ConfigError

    try:
        port = choose_port(given)
    except ConfigError:
        if not dry_run:
            raise
        return "PORT"
    if not dry_run:
        check_access(port)
    return port


def _with_idf(
    plan: FlashPlan,
    partition: str | None,
    encrypt: bool,
    port: str | None,
    baud: int | None,
    dry_run: bool,
    monitor: bool,
) -> int:
    from uhd.device import idf
    from uhd.device.esptool_program import require_esptool
    from uhd.device.flash import DEFAULT_BAUD

    found = idf.find_idf()
    if found is None or partition or encrypt:
        require_esptool()
    port = choose(port, dry_run)
    if dry_run and found is not None:
        words = [*found.command, *idf.flash_arguments(plan.folder, port, baud or DEFAULT_BAUD)]
        click.echo(shlex.join(words))
        return 0
    idf.flash(plan.folder, port, baud or DEFAULT_BAUD)
    return _monitor(port, plan) if monitor else 0


def _report(
    tool: Esptool,
    plan: FlashPlan,
    images: tuple[Image, ...],
    port: str,
    arguments: list[str],
    dry_run: bool,
    as_json: bool,
) -> None:
    if as_json:
        rows = [{"name": i.name, "offset": i.offset, "bytes": i.size, "file": str(i.path)} for i in images]
        command = [*tool.command, *arguments]
        emit_json({"chip": plan.chip, "port": port, "written": not dry_run, "images": rows, "command": command})
        return
    for image in images:
        click.echo(f"{hex(image.offset):>10}  {image.name:<16} {human_bytes(image.size)}")
    if dry_run:
        click.echo(shlex.join([*tool.command, *arguments]))
    else:
        click.echo(f"next: python -m uhd.host monitor --port {port}")


def _monitor(port: str, plan: FlashPlan) -> int:
    from uhd.host.monitor import run

    # The reset after flashing takes a USB port away for a moment.
    return run(port, build=plan.folder, chip=plan.chip, patience=10.0)
