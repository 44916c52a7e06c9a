"""``doctor``: what this machine has and lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from uhd.host.ui import emit_json

if TYPE_CHECKING:
    from uhd.device.doctor import Check, Report

EPILOG = """\b
Examples:
  python -m uhd.host doctor
  python -m uhd.host doctor --target esp32s3
  python -m uhd.host doctor --target esp32p4 --json
"""

_MARKS = {"ok": "green", "warning": "yellow", "missing": "red", "broken": "red"}


@click.command(epilog=EPILOG)
@click.option(
    "--target",
    default="qemu",
    show_default=True,
    type=click.Choice(["qemu", "esp32s3", "esp32p4"]),
    help="What must be possible on this machine.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def command(target: str, as_json: bool) -> int:
    """Check this machine: what is there, what each thing is for, and how to get what is missing.

    Changes nothing and needs no network. Exit code 0 if everything the target needs is there, 3 if only the vendor's
    SDK is missing, 2 if something else is missing or broken.
    """
    from uhd.device.doctor import examine

    report = examine(target)
    if as_json:
        emit_json(report.as_dict())
    else:
        _print(report)
    return report.exit_code


def _print(report: Report) -> None:
    import sys

    if sys.stdout.isatty():
        _draw(report)
    else:
        for check in report.checks:
            click.echo(f"{check.status:<8} {check.name:<22} {check.found}{_mark(report, check)}")
            if check.fix:
                click.echo(f"{'':<8} {check.purpose}: {check.fix}")
    click.echo(_verdict(report))


def _mark(report: Report, check: Check) -> str:
    return "" if report.needed(check) or check.status == "ok" else f"  (not needed for {report.target})"


def _draw(report: Report) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"This machine, for {report.target}", title_justify="left")
    for column in ("", "what", "found", "for", "fix"):
        table.add_column(column, overflow="fold")
    for check in report.checks:
        style = _MARKS[check.status] if report.needed(check) or check.status in ("ok", "warning") else "dim"
        cells = (check.name, check.found, check.purpose, check.fix)
        table.add_row(f"[{style}]{check.status}[/]", *(escape(cell) for cell in cells))
    Console().print(table)


def _verdict(report: Report) -> str:
    if not report.failed:
        return f"ready for {report.target}"
    names = ", ".join(check.name for check in report.failed)
    return f"not ready for {report.target}: {names}"
