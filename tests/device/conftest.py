"""Where the device under test is: the port given with ``--port``, the firmware as a program of this machine
(``UHD_DEVICE_PROGRAM``, what ESP-IDF builds for its linux target), or else an emulator of our own with variant R.

On a board: ``pytest tests/device --embedded-services esp,idf --target esp32s3 --port PORT --app-path firmware``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.emulated import need_emulator
from support.firmware_app import running
from support.known_device import Known, known_by
from support.pty_bridge import pty_of
from uhd.device.build import Request, prepare_component
from uhd.device.client import DeviceClient
from uhd.device.ports import FdPort
from uhd.device.qemu import QemuDevice, build_elf
from uhd.paths import build_root

PROGRAM = "UHD_DEVICE_PROGRAM"


@dataclass(frozen=True)
class Board:
    """What is behind the port. ``reset`` presses its reset button; None where only pytest-embedded can."""

    path: str
    reset: Callable[[], None] | None


@pytest.fixture
def embedded_services(request: pytest.FixtureRequest) -> str:
    """What pytest-embedded drives: the services asked for, else a serial port."""
    return request.config.getoption("embedded_services", None) or "serial"


@pytest.fixture
def board(request: pytest.FixtureRequest) -> Iterator[Board]:
    """The device under test, started where it is not a board."""
    given = request.config.getoption("port", None)
    if program := os.environ.get(PROGRAM):
        with _program(Path(program)) as board:
            yield board
    elif given:
        yield Board(given, None)
    else:
        # The guest starts before the port is open, so its first words are lost, as on a board. Every test asks first.
        with QemuDevice(_shipped_elf(), link="pty", open=False) as device:
            yield Board(device.path, device.reset)


@contextlib.contextmanager
def _program(path: Path) -> Iterator[Board]:
    starts = contextlib.ExitStack()
    number = starts.enter_context(running(path)).number

    def reset() -> None:
        starts.close()
        starts.enter_context(running(path, UHD_LINK_PORT=str(number)))

    with starts, pty_of(number) as terminal:
        yield Board(terminal, reset)


def _shipped_elf() -> Path:
    need_emulator()
    request = Request("R", "qemu")
    component = prepare_component(request, folder=build_root() / request.name / "uhd_model")
    return build_elf(component.folder, component.folder.parent)


@pytest.fixture
def port(board: Board) -> str:
    """Path of the serial port, which pytest-embedded opens."""
    return board.path


@pytest.fixture
def reset(board: Board, dut: Any) -> Callable[[], None]:
    """Presses the reset button of whatever is behind the port."""
    if board.reset is not None:
        return board.reset
    if not hasattr(dut.serial, "hard_reset"):
        pytest.skip("only --embedded-services esp can reset a board")
    press: Callable[[], None] = dut.serial.hard_reset
    return press


@pytest.fixture
def link(dut: Any) -> Iterator[FdPort]:
    """The serial port itself, for what is too fast for pytest-embedded's polling (20 times a second)."""
    with dut.serial.disable_redirect_thread():
        descriptor = os.dup(dut.serial.proc.fileno())
        made = FdPort(descriptor, dut.serial.port)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def client(link: FdPort) -> DeviceClient:
    """A session with the device; patient, because machines that run tests are busy."""
    made = DeviceClient(link, timeout=5)
    made.hello()
    return made


@pytest.fixture
def known(client: DeviceClient) -> Known:
    """What the device must answer."""
    found = known_by(client.info.model_hash)
    if found is None:
        pytest.skip(f"the device runs {client.info.name} ({client.info.model_hash}), which is not of this release")
    return found
