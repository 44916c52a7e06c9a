"""``erase``: empty a board's flash, or one partition of it."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from uhd.host.ui import Steps, human_bytes

EPILOG = """\b
Examples:
  python -m uhd.host erase --target esp32s3 --variant R --region nvs
  python -m uhd.host erase --target esp32s3 --build copied_from_elsewhere/ --region model --yes
  python -m uhd.host erase --target esp32p4 --all --port /dev/ttyACM0
"""


@click.command(epilog=EPILOG)
@click.option("--target", required=True, type=click.Choice(["esp32s3", "esp32p4"]), help="Chip of the board.")
@click.option("--region", help="Erase this partition only; its place is that of the build.")
@click.option("--all", "everything", is_flag=True, help="Erase all of the flash.")
@click.option("--variant", help="Letter of the variant whose build has the partition table.")
@click.option("--preset", default="speed", show_default=True, help="Its precision preset.")
@click.option("--build", "folder", type=click.Path(path_type=Path), help="Build folder, instead of build-fw's own.")
@click.option("--port", help="Serial port; by default $ESPPORT, or the only one that could be a board.")
@click.option("--baud", type=click.IntRange(9600), default=115200, show_default=True, help="Speed of the port.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the command, touch no board.")
def command(
    target: str,
    region: str | None,
    everything: bool,
    variant: str | None,
    preset: str,
    folder: Path | None,
    port: str | None,
    baud: int,
    yes: bool,
    dry_run: bool,
) -> int:
    """Erase a board's flash, or one partition of it. Asks first."""
    from uhd.device.esptool_program import require_esptool, run_esptool
    from uhd.device.flash import connect_arguments, erase_arguments
    from uhd.device.flash_plan import FlashPlan, read_plan
    from uhd.device.partition_table import find_partition
    from uhd.errors import ConfigError
    from uhd.host.flash import build_folder, choose
    from uhd.paths import build_root

    if everything == bool(region):
        raise ConfigError("what to erase?", hint="give either --region NAME or --all")
    if region:
        plan = read_plan(build_folder(variant, target, preset, folder), target)
        partition = find_partition(plan.partitions(), region)
        what = f"partition {region} ({human_bytes(partition.size)} at {hex(partition.offset)})"
    else:
        plan, partition, what = FlashPlan.bare(target), None, "all of the flash"
    tool = require_esptool()
    port = choose(port, dry_run)
    arguments = [*connect_arguments(tool, plan, port, baud), *erase_arguments(tool, partition)]
    if dry_run:
        click.echo(shlex.join([*tool.command, *arguments]))
        return 0
    if not yes:
        click.confirm(f"Erase {what} of the {target} at {port}?", abort=True)
    steps = Steps(1)
    steps.start(f"erase     {what}")
    run_esptool(tool, arguments, build_root() / "erase.log")
    steps.done(port)
    return 0
