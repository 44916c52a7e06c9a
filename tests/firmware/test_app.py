"""The firmware's own app_main on this machine, its link a TCP port: what a user flashes, but for the drivers."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from support.fakemodel import FakeModel
from support.firmware_app import build_app, device_tests, running
from uhd.device.client import DeviceClient
from uhd.device.link import encode_frame
from uhd.device.messages import MESSAGES, PROTOCOL_VERSION, pack
from uhd.errors import DeviceError

MODEL = FakeModel()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_app(tmp_path_factory.mktemp("app"), MODEL)


def test_hello_frame_and_shutdown(program: Path) -> None:
    rng = np.random.default_rng(1)
    with running(program) as app:
        with app.connect() as port:
            client = DeviceClient(port)
            info = client.hello(expect_hash=MODEL.hash.hex())
            assert info.backend == "reference"
            client.configure(send_outputs=True)
            network = rng.integers(0, 256, (64, 64, 2), dtype=np.uint8)
            result = client.infer_network(network)
            expected = MODEL.run(MODEL.input_of(network))
            assert result.outputs.keys() == expected.keys()
            for name, values in expected.items():
                np.testing.assert_array_equal(result.outputs[name], values)
            assert result.timings.inference_us < 1_000_000
            client.shutdown()
        assert app.process.wait(10) == 0


def test_a_second_client_follows_the_first(program: Path) -> None:
    """Clients that leave, one in the middle of a frame: the next one is served all the same."""
    tensor = np.zeros((1, 64, 64, 2), np.int8)
    with running(program) as app:
        for garbage in (b"", b"\x00\x83half a frame", bytes(range(256)) * 40):
            with app.connect() as port:
                client = DeviceClient(port)
                client.hello()
                assert client.infer_tensor(tensor).candidates >= 0
                port.write(garbage)
        with app.connect() as port:
            stats = DeviceClient(port).stats()
        assert stats["inferences"] == 3
        assert stats["memory_size"] >= stats["memory_used"] > 64 * 64 * 2
        assert app.process.poll() is None


def test_a_host_that_never_reads_does_not_stop_the_device(program: Path) -> None:
    """It asks for far more than the pipe holds; the device drops answers, takes requests and serves the next host."""
    hello = encode_frame(MESSAGES["HELLO"].type, 0, pack("HELLO", protocol_version=PROTOCOL_VERSION))
    with running(program) as app:
        with socket.socket() as deaf:
            # Small buffers: sendall() only ends if the device keeps reading, though its answers go nowhere.
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            deaf.connect(("127.0.0.1", app.number))
            deaf.settimeout(30)
            deaf.sendall(hello * 15_000)
        with app.connect() as port:
            client = DeviceClient(port, timeout=5)
            info = client.hello(expect_hash=MODEL.hash.hex())
            assert client.stats()["frames_received"] > 4_000
            assert client.infer_network(np.zeros(info.input.shape[1:], np.uint8)).candidates >= 0


def test_no_memory_is_reported_not_fatal(program: Path) -> None:
    with running(program, SHIM_NO_MEMORY="all") as app:
        assert any(line.startswith("E uhd: no inference, health 2") for line in app.log), app.log
        assert any(line.startswith("E uhd: fault 36: too little memory") for line in app.log), app.log
        with app.connect() as port:
            client = DeviceClient(port)
            with pytest.raises(DeviceError, match="memory"):
                client.hello()
            assert client.hello(require_ready=False).health == 2


def test_psram_is_the_second_choice(program: Path) -> None:
    with running(program, SHIM_NO_MEMORY="internal") as app:
        assert any(line.endswith("bytes of activations in PSRAM") for line in app.log), app.log
        with app.connect() as port:
            assert DeviceClient(port).hello().health == 0


def test_wrong_hash_is_reported(tmp_path: Path) -> None:
    with running(build_app(tmp_path, FakeModel(broken="hash"))) as app:
        assert any("no inference, health 1" in line for line in app.log), app.log
        with app.connect() as port, pytest.raises(DeviceError, match="SHA-256"):
            DeviceClient(port).hello()


def test_a_port_in_use_is_logged_and_the_program_stays(program: Path) -> None:
    with running(program) as first, running(program, UHD_LINK_PORT=str(first.number)) as second:
        assert second.log[-1].startswith("E uhd: the link does not open")
        assert second.process.poll() is None


def test_the_device_tests_pass(program: Path) -> None:
    """The same tests that run on the emulator and on a board."""
    said = device_tests(program)
    assert " passed" in said and "skipped" not in said
