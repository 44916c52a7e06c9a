"""What the link carries through the emulated serial port, beside a guest that only echoes.

Both guests have the same start-up code and serial driver, both move the same payload in the same shape: a network input
of 8 KiB goes in, and when all of it is there the same 8 KiB come out (as THUMBNAIL from the firmware, as they came from
the echo). So the echo's rate is what the line and this host carry without framing, answers, preprocessing and a model;
the firmware must reach nine tenths of it, in payload bytes a second. The line is slow (a few bytes for each turn of the
emulator's main loop) and its rate follows the load of the machine: the two take turns, and their medians are compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from support.echo_guest import echo_guest
from support.emulated import firmware, need_emulator
from support.fakemodel import FakeModel
from uhd.device.client import DeviceClient
from uhd.device.ports import FdPort
from uhd.device.qemu import QemuDevice

pytestmark = pytest.mark.emu

PICTURE = np.random.default_rng(1).integers(0, 256, (64, 64, 2), dtype=np.uint8)
LEAST = 0.9
PICTURES = 4  # in one turn
TURNS = 9  # at least, and as many more as an uneven machine needs
PATIENCE = 60.0  # seconds for those


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[FdPort, FdPort]]:
    """The echo's and the firmware's end of the line."""
    need_emulator()
    with QemuDevice(echo_guest()) as echo, QemuDevice(firmware(FakeModel())) as device:
        yield echo.port, device.port


def echo_pictures(port: FdPort) -> None:
    sent = PICTURE.tobytes()
    for _ in range(PICTURES):
        port.write(sent)
        came = b""
        while len(came) < len(sent):
            piece = port.read(20)
            assert piece, "the echo is silent"
            came += piece
        assert came == sent


def seconds(work: Callable[[], None]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def test_nine_tenths_of_a_bare_echo(ports: tuple[FdPort, FdPort], capsys: pytest.CaptureFixture[str]) -> None:
    echo, device = ports
    client = DeviceClient(device, timeout=20)
    client.configure(send_thumbnail=True, send_timing=False)

    def through_the_device() -> None:
        for _ in range(PICTURES):
            np.testing.assert_array_equal(client.infer_network(PICTURE).thumbnail, PICTURE)

    for work in (lambda: echo_pictures(echo), through_the_device):  # until both have booted and their code is warm
        work()
    bare: list[float] = []
    framed: list[float] = []
    end, ratio = time.monotonic() + PATIENCE, 0.0
    while len(bare) < TURNS or (ratio < LEAST and time.monotonic() < end):
        bare.append(seconds(lambda: echo_pictures(echo)))
        framed.append(seconds(through_the_device))
        ratio = statistics.median(bare) / statistics.median(framed)
    rates = [PICTURES * PICTURE.nbytes / statistics.median(times) / 1e3 for times in (bare, framed)]
    with capsys.disabled():
        print(
            f"\n  echo {rates[0]:.0f} kB/s, firmware {rates[1]:.0f} kB/s each way (emulated line): {ratio:.2f}", end=""
        )
    assert client.connection.counters.retries == client.connection.decoder.counters.lost == 0
    assert ratio >= LEAST
