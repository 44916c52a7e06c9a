"""Which boards are on this machine: their ports, the chip where it may be asked, and what runs on them."""

from __future__ import annotations

import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uhd.bridge.models import find_manifest
from uhd.device.client import DeviceClient
from uhd.device.connection import VersionError
from uhd.device.ports import DEFAULT_BAUD, open_port
from uhd.device.serial_ports import VENDORS, SerialPort, access_fix
from uhd.errors import DeviceError, UhdError

#: (vendor, product) -> what shows itself so.
_BOARDS = {
    (0x303A, 0x1001): "the chip's own USB port (USB-Serial-JTAG: ESP32-S3-EYE, ESP32-P4 boards)",
    (0x303A, 0x1002): "ESP-Prog or a board with its bridge",
    (0x303A, 0x4001): "firmware with its own USB (TinyUSB)",
    (0x10C4, 0xEA60): "a UART bridge CP210x (ESP32-P4-Function-EV-Board, DevKitC)",
    (0x1A86, 0x7523): "a UART bridge CH340",
    (0x1A86, 0x55D3): "a UART bridge CH343 (DevKitC, many P4 boards)",
    (0x1A86, 0x55D4): "a UART bridge CH9102",
    (0x0403, 0x6001): "a UART bridge FT232R",
    (0x0403, 0x6010): "a UART bridge FT2232H (JTAG board)",
}
_CHIP = re.compile(r"^(?:Chip is|Chip type:)\s*(.+)$")
_FLASH = re.compile(r"^Detected flash size:\s*(\S+)")
_MAC = re.compile(r"^MAC:\s*(\S+)")


@dataclass
class Board:
    """A port and what is known of it. ``usb``: "303a:1001", "" for no USB port. ``problem``: why it cannot be used."""

    path: str
    usb: str = ""
    vendor: str = ""
    serial: str = ""
    board: str = ""
    chip: str = ""
    flash: str = ""
    mac: str = ""
    model: str = ""
    model_hash: str = ""
    known_model: bool = False
    target: str = ""
    protocol_version: int | None = None
    faults: tuple[str, ...] = ()
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def describe(port: SerialPort) -> Board:
    """What its USB descriptors tell, without opening it."""
    known = port.vendor is not None
    usb = f"{port.vendor:04x}:{port.product or 0:04x}" if known else ""
    guess = _BOARDS.get((port.vendor or 0, port.product or 0), "")
    board = Board(port.path, usb, VENDORS.get(port.vendor or 0, ""), port.serial, guess or port.description)
    if "://" not in port.path and Path(port.path).exists() and (fix := access_fix(port.path)):
        board.problem = f"this user may not open it; {fix}"
    return board


def greet(board: Board, *, baud: int = DEFAULT_BAUD, seconds: float = 1.0) -> None:
    """Ask whether firmware of this project runs there, for ``seconds`` at most. Does not reset the board."""
    try:
        port = open_port(board.path, baud=baud, timeout=seconds)
    except UhdError as error:
        board.problem = str(error)
        return
    try:
        info = DeviceClient(port, timeout=seconds / 4, retries=3).hello(require_ready=False)
    except VersionError as error:
        board.problem = str(error)
    except DeviceError:
        board.model = ""  # something else runs there, or nothing
    else:
        board.model, board.model_hash, board.target = info.name, info.model_hash, info.target
        board.protocol_version, board.faults = info.protocol_version, info.faults
        board.known_model = find_manifest(info.model_hash) is not None
    finally:
        port.close()


def probe(board: Board) -> None:
    """Ask the chip's ROM through esptool, which resets the board.

    Raises ``ToolMissingError`` where esptool is not installed.
    """
    from uhd.device.esptool_program import require_esptool, run_esptool

    tool = require_esptool()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "esptool.log"
        try:
            run_esptool(tool, ["--port", board.path, *tool.words("flash-id")], log, progress=lambda *_: None)
        except DeviceError as error:
            board.problem = str(error).partition("; all of its output")[0]
            return
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            text = line.strip()
            if found := _CHIP.match(text):
                board.chip = found[1]
            elif found := _FLASH.match(text):
                board.flash = found[1]
            elif found := _MAC.match(text):
                board.mac = found[1]
