"""The serial ports of this machine: which could be a board, and why one cannot be opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uhd.errors import ConfigError, DeviceError

#: USB vendors of the chips themselves and of the bridges that boards carry.
VENDORS = {0x303A: "Espressif", 0x10C4: "Silicon Labs", 0x1A86: "WCH", 0x0403: "FTDI", 0x067B: "Prolific"}


@dataclass(frozen=True)
class SerialPort:
    """A serial port. ``vendor`` and ``serial`` are of its USB device; None and "" where it is none."""

    path: str
    description: str
    vendor: int | None = None
    product: int | None = None
    serial: str = ""

    @property
    def plausible(self) -> bool:
        """Whether a board of ours could be behind it."""
        return self.vendor in VENDORS

    def __str__(self) -> str:
        return f"{self.path} ({self.description})" if self.description not in ("", "n/a") else self.path


def list_serial_ports() -> list[SerialPort]:
    """Every serial port of this machine, by path."""
    from serial.tools import list_ports

    ports = [
        SerialPort(p.device, p.description or "", p.vid, p.pid, p.serial_number or "") for p in list_ports.comports()
    ]
    return sorted(ports, key=lambda port: port.path)


def choose_port(
    given: str | None, environment: Mapping[str, str] = os.environ, ports: Sequence[SerialPort] | None = None
) -> str:
    """The port to use: ``given``, ``$ESPPORT``, or the only one that could be a board.

    Raises ``ConfigError`` where that is nobody's or anybody's guess.
    """
    if chosen := given or environment.get("ESPPORT", ""):
        return chosen
    found = list_serial_ports() if ports is None else ports
    boards = [port for port in found if port.plausible]
    if len(boards) == 1:
        return boards[0].path
    if boards:
        raise ConfigError(f"{len(boards)} serial ports: {', '.join(map(str, boards))}", hint="choose one with --port")
    others = f"; the ports here ({', '.join(p.path for p in found)}) are no USB bridges of boards" if found else ""
    raise ConfigError(f"no board found{others}", hint="plug it in (a cable with data lines), or give --port")


def check_access(path: str) -> None:
    """Raise ``DeviceError`` with the way out if this user cannot open the serial port. Addresses of sockets pass."""
    if "://" in path:
        return
    if not Path(path).exists():
        raise DeviceError(f"{path}: no such port", hint="is the board plugged in? `doctor` lists the ports")
    if fix := access_fix(path):
        raise DeviceError(f"{path}: this user may not open it", hint=fix)


def access_fix(path: str) -> str:
    """The command that lets this user open an existing port; "" if nothing is wrong."""
    if os.access(path, os.R_OK | os.W_OK):
        return ""
    import grp

    status = Path(path).stat()
    if status.st_mode & stat.S_IRGRP and status.st_mode & stat.S_IWGRP and status.st_gid != 0:
        try:
            group = grp.getgrgid(status.st_gid).gr_name
        except KeyError:
            group = str(status.st_gid)
        return f"`sudo usermod -aG {group} $USER`, then log in again"
    return "install ESP-IDF's udev rules (they come with OpenOCD), then plug the board in again"


def same_device(before: SerialPort | None, ports: Sequence[SerialPort], path: str) -> str | None:
    """Where a board that went away is now: its old path, or the port of its USB serial number; None while gone."""
    if any(port.path == path for port in ports) or Path(path).exists():
        return path
    if before is not None and before.serial:
        for port in ports:
            if (port.vendor, port.product, port.serial) == (before.vendor, before.product, before.serial):
                return port.path
    return None
