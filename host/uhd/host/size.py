"""``size``: what a built firmware weighs, by component."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from uhd.host.ui import emit_json, print_table

if TYPE_CHECKING:
    from uhd.device.image_size import SizeReport

EPILOG = """\b
Examples:
  python -m uhd.host size --variant R --target qemu
  python -m uhd.host size --variant R --target esp32s3 --all
  python -m uhd.host size --build copied_from_elsewhere/ --target esp32p4 --json
"""

_TOP = 12


@click.command(epilog=EPILOG)
@click.option("--target", required=True, type=click.Choice(["qemu", "esp32s3", "esp32p4"]), help="What was built.")
@click.option("--variant", help="Letter of the variant that build-fw built.")
@click.option("--preset", default="speed", show_default=True, help="Its precision preset.")
@click.option("--build", "folder", type=click.Path(path_type=Path), help="Build folder, instead of build-fw's own.")
@click.option("--all", "everything", is_flag=True, help=f"Every component, not only the {_TOP} largest.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(target: str, variant: str | None, preset: str, folder: Path | None, everything: bool, as_json: bool) -> int:
    """Show what a built firmware weighs: flash and RAM by component, and how full partition and RAM are.

    Read from the linker's map, so ESP-IDF is not needed. RAM is what is taken from the start on; heap and the stacks
    of tasks come on top. On the emulated machine code and constants are in RAM too.
    """
    from uhd.device.image_size import chip_report, emulator_report
    from uhd.host.flash import build_folder

    where = build_folder(variant, target, preset, folder)
    report = emulator_report(where) if target == "qemu" else chip_report(where, target)
    if as_json:
        emit_json(report.as_dict())
    else:
        _print(report, everything)
    return 0


def _print(report: SizeReport, everything: bool) -> None:
    from uhd.device.image_size import KINDS

    kinds = [kind for kind in KINDS if report.total(kind)]
    shown = report.rows if everything else report.rows[:_TOP]
    rows = [[row.component, f"{row.image:,}", *(f"{row.sizes[k]:,}" for k in kinds)] for row in shown]
    if hidden := report.rows[len(shown) :]:
        sums = [f"{sum(row.sizes[k] for row in hidden):,}" for k in kinds]
        rows.append([f"{len(hidden)} more (--all)", f"{sum(row.image for row in hidden):,}", *sums])
    rows.append(["total", f"{sum(r.image for r in report.rows):,}", *(f"{report.total(k):,}" for k in kinds)])
    print_table("bytes", rows, ("component", "image", *(k.replace("_", " ") for k in kinds)))
    limits = [(x.name, f"{x.used:,} of {x.size:,} B", f"{x.percent:.1f} %") for x in report.limits]
    print_table("limits", limits)
