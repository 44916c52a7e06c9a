"""Where the device under test is: the port given with ``--port``, the firmware as a program of this machine
(``UHD_DEVICE_PROGRAM``, what ESP-IDF builds for its linux target), or else an emulator of our own.

On a board: ``pytest tests/device --embedded-services esp,idf --target esp32s3 --port PORT --app-path firmware``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.emulated import firmware
from support.fakemodel import FakeModel
from support.firmware_app import running
from support.pty_bridge import pty_of
from uhd.device.qemu import QemuDevice

PROGRAM = "UHD_DEVICE_PROGRAM"


@pytest.fixture
def embedded_services(request: pytest.FixtureRequest) -> str:
    """What pytest-embedded drives: the services asked for, else a serial port."""
    return request.config.getoption("embedded_services", None) or "serial"


@pytest.fixture
def known_model(request: pytest.FixtureRequest) -> FakeModel | None:
    """The model of the emulator of our own; None on a device that someone else has set up."""
    return None if request.config.getoption("port", None) or os.environ.get(PROGRAM) else FakeModel()


@pytest.fixture
def port(request: pytest.FixtureRequest, known_model: FakeModel | None) -> Iterator[str]:
    """Path of the serial port, which pytest-embedded opens."""
    if program := os.environ.get(PROGRAM):
        with running(Path(program)) as app, pty_of(app.number) as path:
            yield path
        return
    if known_model is None:
        yield request.config.getoption("port")
        return
    # The guest starts before the port is open, so its first words are lost, as on a board. Every test asks first.
    with QemuDevice(firmware(known_model), link="pty", open=False) as device:
        yield device.path
