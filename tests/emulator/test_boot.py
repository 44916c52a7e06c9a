"""The firmware booted in QEMU: hello, pictures, configuration, noise, resets, refusals."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from support.emulated import firmware, need_emulator
from support.fakemodel import FakeModel
from support.twinlib import CppDevice, library
from uhd.device.client import DeviceClient
from uhd.device.link import encode_frame
from uhd.device.messages import MESSAGES, PROTOCOL_VERSION, pack
from uhd.device.qemu import QemuDevice
from uhd.errors import DeviceError
from uhd.image.yuyv import camera_to_network

pytestmark = pytest.mark.emu
MODEL = FakeModel()
RNG = np.random.default_rng(1)
PICTURE = RNG.integers(0, 256, (64, 64, 2), dtype=np.uint8)


@pytest.fixture(scope="module")
def device() -> Iterator[QemuDevice]:
    need_emulator()
    with QemuDevice(firmware(MODEL)) as running:
        yield running


@pytest.fixture
def client(device: QemuDevice) -> DeviceClient:
    made = DeviceClient(device.port, timeout=2)
    made.hello(expect_hash=MODEL.hash.hex())
    return made


def twin_rows(picture: NDArray[np.uint8]) -> NDArray[np.int32]:
    return library(MODEL).sent(MODEL.run(MODEL.input_of(picture)), 9830, 32768, 100)[0]


def test_hello(client: DeviceClient) -> None:
    info = client.info
    assert (info.name, info.target, info.backend, info.health) == ("fake", "c", "reference", 0)
    assert info.credit >= 8192
    twin = CppDevice(library(MODEL))
    assert info.outputs == DeviceClient(twin).hello().outputs
    twin.close()


def test_one_picture_equals_the_twin(client: DeviceClient) -> None:
    client.configure(send_outputs=True, send_thumbnail=True)
    result = client.infer_network(PICTURE)
    for name, expected in MODEL.run(MODEL.input_of(PICTURE)).items():
        np.testing.assert_array_equal(result.outputs[name], expected)
    np.testing.assert_array_equal(result.rows_q16, twin_rows(PICTURE))
    np.testing.assert_array_equal(result.thumbnail, PICTURE)
    assert result.timings.inference_ticks > 0
    assert 0 < result.timings.receive_us < 60_000_000


def test_camera_picture(client: DeviceClient) -> None:
    width, height, stride = 160, 121, 333
    frame = RNG.integers(0, 256, stride * height, dtype=np.uint8)
    client.configure(send_thumbnail=True)
    result = client.infer_camera(frame, width, height, stride)
    network = camera_to_network(frame, width, height, stride)
    np.testing.assert_array_equal(result.thumbnail, network)
    np.testing.assert_array_equal(result.rows_q16, twin_rows(network))


def test_reconfiguration(client: DeviceClient) -> None:
    everything = client.infer_network(PICTURE)
    client.configure(score_threshold=0.95, limit=3)
    few = client.infer_network(PICTURE)
    assert 0 < len(few.rows) <= 3 < len(everything.rows)
    np.testing.assert_array_equal(few.rows_q16, everything.rows_q16[: len(few.rows)])
    client.configure()
    np.testing.assert_array_equal(client.infer_network(PICTURE).rows_q16, everything.rows_q16)


def test_many_pictures_without_a_fault(client: DeviceClient) -> None:
    before = client.stats()
    for _ in range(10):
        picture = RNG.integers(0, 256, (64, 64, 2), dtype=np.uint8)
        np.testing.assert_array_equal(client.infer_network(picture).rows_q16, twin_rows(picture))
    after = client.stats()
    assert after["inferences"] - before["inferences"] == 10
    for name in ("crc_errors", "malformed", "overlong", "unknown"):
        assert after[name] == before[name]
    assert client.connection.counters.retries == client.connection.decoder.counters.lost == 0


def test_garbage_is_survived_and_counted(client: DeviceClient) -> None:
    before = client.stats()
    generator = random.Random(4)
    client.connection.port.write(generator.randbytes(30_000) + b"\0" + encode_frame(0xB0, 1, b"?"))
    after = client.stats()
    assert after["unknown"] == before["unknown"] + 1
    bad = sum(after[n] - before[n] for n in ("crc_errors", "malformed", "overlong"))
    assert bad > 50
    np.testing.assert_array_equal(client.infer_network(PICTURE).rows_q16, twin_rows(PICTURE))


def test_reset_in_the_middle_of_a_picture(device: QemuDevice, client: DeviceClient) -> None:
    client.configure(limit=4)
    head = {"frame_id": 77, "format": 0, "width": 64, "height": 64, "total": 8192}
    client.connection.send("FRAME", PICTURE.tobytes()[:1024], **head)
    client.stats()  # the device has taken that piece
    device.reset()
    result = client.infer_network(PICTURE)
    np.testing.assert_array_equal(result.rows_q16, twin_rows(PICTURE)[:4])
    assert client.connection.counters.restarts == 1
    assert client.stats()["inferences"] == 1
    assert any("uhd: fake" in line for line in client.connection.console)


def test_version_skew(device: QemuDevice, client: DeviceClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("uhd.device.client.PROTOCOL_VERSION", 9)
        patch.setattr("uhd.device.connection.PROTOCOL_VERSION", 9)
        with pytest.raises(DeviceError, match=f"protocol version {PROTOCOL_VERSION}, this host version 9"):
            DeviceClient(device.port).hello()
    # The session is closed, so a client that goes on has to say hello again, and does.
    np.testing.assert_array_equal(client.infer_network(PICTURE).rows_q16, twin_rows(PICTURE))
    assert client.connection.counters.restarts == 1


def test_wrong_model_hash_says_so_at_boot_and_does_not_infer() -> None:
    """T30."""
    with QemuDevice(firmware(FakeModel(broken="hash"))) as device:
        client = DeviceClient(device.port)
        with pytest.raises(DeviceError, match="not ready.*SHA-256"):
            client.hello()
        client.hello(require_ready=False)
        with pytest.raises(DeviceError, match="NOT_READY"):
            client.infer_network(PICTURE)
        assert client.stats()["inferences"] == 0


def test_the_firmware_reports_a_broken_model_unasked() -> None:
    with QemuDevice(firmware(FakeModel(broken="hash"))) as device:
        client = DeviceClient(device.port)
        message = client.connection.receive(time.monotonic() + 20)
        assert message is not None
        assert (message.name, message["reply_type"]) == ("ERROR", 0)
        assert "SHA-256" in message.tail


@pytest.mark.parametrize("link", ["pty", "socket"])
def test_each_link_boots_and_shuts_down(link: str) -> None:
    with QemuDevice(firmware(MODEL), link=link) as device:  # type: ignore[arg-type]
        assert device.path.startswith("/dev/") == (link == "pty")
        client = DeviceClient(device.port)
        np.testing.assert_array_equal(client.infer_network(PICTURE).rows_q16, twin_rows(PICTURE))
        client.shutdown()
        assert device.wait(10) == 0


def test_a_request_that_came_before_the_boot_is_answered() -> None:
    """The race at power-on: bytes that wait for the guest must not block the line for ever."""
    for _ in range(5):
        with QemuDevice(firmware(MODEL)) as device:
            hello = encode_frame(MESSAGES["HELLO"].type, 0, pack("HELLO", protocol_version=PROTOCOL_VERSION))
            device.port.write(hello * 3)
            assert DeviceClient(device.port).hello().name == "fake"


def test_instruction_counts_repeat() -> None:
    counts = []
    for _ in range(2):
        with QemuDevice(firmware(MODEL), icount=True) as device:
            client = DeviceClient(device.port, timeout=5)
            client.configure()
            counts.append(client.infer_network(PICTURE).timings.inference_ticks)
    assert counts[0] == counts[1] > 1000
