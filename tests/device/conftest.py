"""Where the device under test is: the port given with ``--port``, or else an emulator of our own on a pseudo terminal.

On a board: ``pytest tests/device --embedded-services esp,idf --target esp32s3 --port PORT --app-path firmware``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.emulated import firmware
from support.fakemodel import FakeModel
from uhd.device.qemu import QemuDevice


@pytest.fixture
def embedded_services(request: pytest.FixtureRequest) -> str:
    """What pytest-embedded drives: the services asked for, else a serial port."""
    return request.config.getoption("embedded_services", None) or "serial"


@pytest.fixture
def known_model(request: pytest.FixtureRequest) -> FakeModel | None:
    """The model of the emulator of our own; None on a device that someone else has set up."""
    return None if request.config.getoption("port", None) else FakeModel()


@pytest.fixture
def port(request: pytest.FixtureRequest, known_model: FakeModel | None) -> Iterator[str]:
    """Path of the serial port, which pytest-embedded opens."""
    if known_model is None:
        yield request.config.getoption("port")
        return
    # The guest starts before the port is open, so its first words are lost, as on a board. Every test asks first.
    with QemuDevice(firmware(known_model), link="pty", open=False) as device:
        yield device.path
