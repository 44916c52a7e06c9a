"""The link's ports against stand-ins of the drivers: waiting, bytes in order, a host that does not read, clocks."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.idf_project import COMPONENTS, SHIM, compile_host, kconfig_defaults
from uhd.device.messages import MAX_PAYLOAD, MESSAGES, NO_TEMPERATURE

SOURCES = COMPONENTS / "uhd_board" / "src"
KCONFIG = COMPONENTS / "uhd_board" / "Kconfig"
UART_OPTIONS = tuple(f"UHD_LINK_UART_{name}" for name in ("NUMBER", "BAUD", "TX", "RX"))


class PortUnderTest:
    """The C interface of ``idf_shim/harness.cpp``."""

    def __init__(self, library: Path) -> None:
        self.lib = ctypes.CDLL(str(library))
        for name in ("read", "sent", "receive_buffer", "transmit_buffer"):
            getattr(self.lib, f"shim_{name}").restype = ctypes.c_size_t
        self.lib.shim_ticks.restype = ctypes.c_uint64
        assert self.lib.shim_open() == 0

    def arrive(self, data: bytes) -> None:
        self.lib.shim_arrive(data, ctypes.c_size_t(len(data)))

    def read(self, capacity: int) -> bytes:
        buffer = ctypes.create_string_buffer(max(capacity, 1))
        count: int = self.lib.shim_read(buffer, ctypes.c_size_t(capacity))
        return buffer.raw[:count]

    def write(self, data: bytes) -> None:
        self.lib.shim_write(data, ctypes.c_size_t(len(data)))

    def wait(self, milliseconds: int) -> int:
        """Waits; returns for how long the driver was asked to wait in vain."""
        self.lib.shim_waited()
        self.lib.shim_wait(ctypes.c_uint32(milliseconds))
        waited: int = self.lib.shim_waited()
        return waited

    def sent(self) -> bytes:
        buffer = ctypes.create_string_buffer(1 << 17)
        count: int = self.lib.shim_sent(buffer)
        return buffer.raw[:count]


Maker = Callable[[], PortUnderTest]


@pytest.fixture(scope="module", params=["usb_serial_jtag", "uart"])
def make_port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """A function that gives a port in its state after boot: each one is a library of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    flags = ["-shared", "-fPIC", "-DSHIM_CYCLES=shim_cycles", *kconfig_defaults(KCONFIG, UART_OPTIONS)]
    names = ("link_port", f"link_{request.param}", "temperature_chip")
    files = [*(SOURCES / f"{name}.cpp" for name in names), SHIM / "harness.cpp"]
    library = compile_host(folder / "port.so", files, flags)
    count = 0

    def make() -> PortUnderTest:
        nonlocal count
        count += 1
        copy = folder / f"port{count}.so"
        copy.write_bytes(library.read_bytes())
        try:
            return PortUnderTest(copy)
        finally:
            copy.unlink()

    return make


def is_usb(port: PortUnderTest) -> bool:
    return bool(port.lib.shim_setting(0) == 0)


def test_settings_reach_the_driver(make_port: Maker) -> None:
    port = make_port()
    if not is_usb(port):
        assert [port.lib.shim_setting(i) for i in range(3)] == [921600, -1, -1]
    assert port.lib.shim_transmit_buffer() >= 1024


def test_credit_fits_the_receive_buffer(make_port: Maker) -> None:
    """``credit`` bytes of picture in the pieces that a host sends, each framed, and one empty piece more."""
    port = make_port()
    credit = port.lib.shim_credit()
    piece = 128
    body = MESSAGES["FRAME"].size + 7
    framed = piece + body + (piece + body) // 254 + 1 + 2
    assert credit >= MAX_PAYLOAD // 2
    assert -(-credit // piece) * framed + 2 * body <= port.lib.shim_receive_buffer()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.binary(min_size=1, max_size=90), st.integers(0, 70), st.none()), max_size=40))
def test_bytes_come_in_order_whatever_the_calls(make_port: Maker, calls: list[bytes | int | None]) -> None:
    """bytes: they arrive; a number: read that many; None: wait. Nothing is lost, doubled or reordered."""
    port = make_port()
    arrived = taken = b""
    for call in calls:
        if isinstance(call, bytes):
            port.arrive(call)
            arrived += call
        elif call is None:
            waited = port.wait(250)
            assert waited == (0 if len(arrived) > len(taken) else 250)
        else:
            got = port.read(call)
            assert len(got) == min(call, len(arrived) - len(taken))
            taken += got
    while got := port.read(33):
        taken += got
    assert taken == arrived


def test_reading_never_waits(make_port: Maker) -> None:
    port = make_port()
    port.lib.shim_waited()
    assert port.read(64) == b""
    port.arrive(b"ab")
    assert port.read(64) == b"ab"
    assert port.lib.shim_waited() == 0


@pytest.mark.parametrize("size", [1, 255, 1024, 4096, 4097, 60000])
def test_everything_is_sent_to_a_host_that_reads(make_port: Maker, size: int) -> None:
    port = make_port()
    data = bytes(i * 7 % 251 for i in range(size))
    got = b""
    for start in range(0, size, 2048):
        port.write(data[start : start + 2048])
        got += port.sent()
    assert got == data


def test_a_host_that_does_not_read_costs_one_wait(make_port: Maker) -> None:
    port = make_port()
    port.lib.shim_waited()
    for _ in range(40):
        port.write(bytes(255))
        port.arrive(b"?")
        assert port.read(8) == b"?", "requests are still heard"
    waited, left = port.lib.shim_waited(), port.sent()
    if is_usb(port):
        assert 0 < waited <= 1000, "one wait, not one for each piece"
        assert left == bytes(len(left)) and 0 < len(left) <= 4096, "what the host finds is what fitted the buffer"
    else:  # without flow control it always drains
        assert left == bytes(40 * 255)
    port.write(b"the host is back")
    assert port.sent() == b"the host is back"


def test_temperature_in_tenths_of_a_degree(make_port: Maker) -> None:
    port = make_port()

    def celsius(value: float, works: bool = True) -> None:
        port.lib.shim_celsius(ctypes.c_float(value), works)

    celsius(25, works=False)
    assert port.lib.shim_start_temperature() != 0
    celsius(25)
    assert port.lib.shim_temperature() == NO_TEMPERATURE, "a sensor that did not start is not asked"
    assert port.lib.shim_start_temperature() == 0
    for value, tenths in ((48.26, 483), (0.04, 0), (-5.06, -51), (-10, -100), (80, 800)):
        celsius(value)
        assert port.lib.shim_temperature() == tenths
    celsius(25, works=False)
    assert port.lib.shim_temperature() == NO_TEMPERATURE


def test_ticks_count_on_when_the_counter_wraps(make_port: Maker) -> None:
    port = make_port()
    first: int = port.lib.shim_ticks(ctypes.c_uint32(0xFFFFFF00))
    assert port.lib.shim_ticks(ctypes.c_uint32(0x100)) - first == 0x200
    assert port.lib.shim_ticks(ctypes.c_uint32(0x90000000)) - first == 0x90000100
