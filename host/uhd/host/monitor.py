"""``monitor``: what a board says, text and messages alike."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from uhd.host.loss import loss_options

if TYPE_CHECKING:
    from uhd.device.lossy import Loss
    from uhd.device.ports import FdPort

EPILOG = """\b
Examples:
  python -m uhd.host monitor
  python -m uhd.host monitor --port /dev/ttyACM0 --hello
  python -m uhd.host monitor --port /dev/ttyUSB0 --variant R --target esp32s3 --timestamps
  python -m uhd.host monitor --port socket://127.0.0.1:5444 --seconds 10
  python -m uhd.host monitor --port /dev/ttyACM0 --hello --drop-rate 1e-3 --flip-rate 1e-5
"""

#: Ctrl-].
_END = b"\x1d"


@click.command(epilog=EPILOG)
@click.option("--port", help="Serial port or socket://HOST:PORT; by default $ESPPORT, or the only possible board.")
@click.option("--baud", type=click.IntRange(300), default=115200, show_default=True, help="Speed; USB ports ignore it.")
@click.option("--hello", is_flag=True, help="Ask the device who it is, now and whenever it comes back.")
@click.option("--timestamps", is_flag=True, help="Put the time before every line.")
@click.option("--raw", is_flag=True, help="Show everything as it comes, undecoded.")
@click.option("--seconds", type=click.FloatRange(min=0), default=0.0, help="End after so long.")
@click.option("--variant", help="Letter of the variant on the board: its build explains crashes.")
@click.option("--target", type=click.Choice(["esp32s3", "esp32p4"]), help="Chip of the board, with --variant.")
@click.option("--preset", default="speed", show_default=True, help="Precision preset, with --variant.")
@click.option("--build", type=click.Path(path_type=Path), help="Build folder or ELF file that explains crashes.")
@loss_options
def command(
    port: str | None,
    baud: int,
    hello: bool,
    timestamps: bool,
    raw: bool,
    seconds: float,
    variant: str | None,
    target: str | None,
    preset: str,
    build: Path | None,
    loss: Loss,
) -> int:
    """Show what a board says: its console text, and a line for each message of the link.

    Ends with Ctrl-] or Ctrl-C. When the board goes away, for example because it restarts, it is waited for. Addresses
    of a crash become source lines where the build and a fitting addr2line are on this machine. What was counted on
    this side is shown at the end; with --hello, what the device has counted is, too.
    """
    from uhd.errors import ConfigError

    if variant and build is None:
        if target is None:
            raise ConfigError("--variant alone does not name a build", hint="give --target too")
        from uhd.host.flash import build_folder

        build = build_folder(variant, target, preset, None)
    return run(
        port,
        baud,
        hello=hello,
        timestamps=timestamps,
        raw=raw,
        seconds=seconds,
        build=build,
        chip=target or "",
        loss=loss,
    )


def run(
    port: str | None,
    baud: int = 115200,
    *,
    hello: bool = False,
    timestamps: bool = False,
    raw: bool = False,
    seconds: float = 0.0,
    build: Path | None = None,
    chip: str = "",
    patience: float = 0.0,
    loss: Loss | None = None,
) -> int:
    """Watch a port until the user ends it; returns the exit code. ``patience``: as in ``Options``; ``loss``: of a line
    that is put before the port.
    """
    from uhd.device.monitor import Monitor, Options
    from uhd.device.panic import Decoder, find_addr2line, find_elf
    from uhd.device.serial_ports import check_access, choose_port

    path = choose_port(port)
    if not patience:
        check_access(path)
    crashes = None
    if build is not None:
        elf = build if build.is_file() else find_elf(build)
        program = find_addr2line(chip)
        if elf and program:
            crashes = Decoder(elf, program)
        else:
            what = "no ELF file there" if program else "no addr2line for this chip; activate ESP-IDF"
            click.echo(f"crashes are shown as addresses: {what} ({build})", err=True)
    click.echo(f"{path} at {baud} baud; Ctrl-] or Ctrl-C ends", err=True)
    with _keys() as ended, contextlib.suppress(KeyboardInterrupt):
        options = Options(timestamps, raw, hello, seconds, patience)
        Monitor(_opener(path, baud), _write, ended, options, crashes, loss).run()
    return 0


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _opener(path: str, baud: int) -> Callable[[], FdPort]:
    """Opens the port, also under the new name that the same board may have after a restart."""
    from uhd.device.ports import open_port
    from uhd.device.serial_ports import list_serial_ports, same_device
    from uhd.errors import DeviceError

    known = None if "://" in path else next((p for p in list_serial_ports() if p.path == path), None)

    def open_again() -> FdPort:
        if "://" in path:
            return open_port(path, timeout=1.0)
        now = same_device(known, list_serial_ports(), path)
        if now is None:
            raise DeviceError(f"{path}: gone")
        return open_port(now, baud=baud)

    return open_again


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[], bool]]:
    """Whether the user has pressed Ctrl-]; the terminal gives keys at once inside, without showing them."""
    if not sys.stdin.isatty():
        yield lambda: False
        return
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    try:
        yield lambda: bool(select.select([fd], [], [], 0)[0]) and _END in os.read(fd, 64)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
