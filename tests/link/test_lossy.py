"""Pictures over a pipe that loses frames, bytes and bits: whole or a clean error, within bounded time (T6)."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from support.camera import slow_camera_to_network
from support.fakemodel import FakeModel
from support.twinlib import CppDevice, library
from uhd.device.client import DeviceClient
from uhd.errors import DeviceError

MODEL = FakeModel()


class LossyDevice(CppDevice):
    """Loses whole frames at ``frame_rate``, and single bytes at ``byte_rate``, in both directions."""

    def __init__(self, seed: int, *, frame_rate: float = 0, byte_rate: float = 0, flip_rate: float = 0) -> None:
        super().__init__(library(MODEL))
        self._random = random.Random(seed)
        self.frame_rate, self.byte_rate, self.flip_rate = frame_rate, byte_rate, flip_rate
        self.deaf = False

    def to_device(self, data: bytes) -> bytes:
        return b"" if self.deaf else self._damage(data)

    def to_host(self, data: bytes) -> bytes:
        return b"".join(self._damage(b"\0" + body + b"\0") for body in data.split(b"\0") if body)

    def _damage(self, frame: bytes) -> bytes:
        if self._random.random() < self.frame_rate:
            return b""
        if self.byte_rate:
            frame = bytes(b for b in frame if self._random.random() >= self.byte_rate)
        if self.flip_rate:
            frame = bytes(
                b ^ (1 << self._random.randrange(8)) if self._random.random() < self.flip_rate else b for b in frame
            )
        return frame


def connect(device: CppDevice) -> DeviceClient:
    return DeviceClient(device, timeout=0.003, retries=30, patience=5)


@pytest.mark.parametrize(
    "loss",
    [{"frame_rate": 0.01}, {"frame_rate": 0.1}, {"frame_rate": 0.3}, {"byte_rate": 1e-4}, {"flip_rate": 1e-4}],
    ids=str,
)
def test_megabyte_camera_picture_arrives_exactly(loss: dict[str, float]) -> None:
    width, height, stride = 800, 600, 1747  # 1 MiB
    frame = np.random.default_rng(4).integers(0, 256, stride * height, dtype=np.uint8)
    device = LossyDevice(21, **loss)
    client = connect(device)
    client.configure(send_outputs=True, send_thumbnail=True)
    result = client.infer_camera(frame, width, height, stride)
    network = slow_camera_to_network(frame.tobytes(), width, height, stride, (64, 64))
    assert result.thumbnail is not None
    np.testing.assert_array_equal(result.thumbnail, network)
    expected = MODEL.run(MODEL.input_of(network))
    for name, value in expected.items():
        np.testing.assert_array_equal(result.outputs[name], value)
    rows, _ = library(MODEL).sent(expected, 9830, 32768, 100)
    np.testing.assert_array_equal(result.rows_q16, rows)
    assert client.connection.counters.retries > 0
    device.frame_rate = device.byte_rate = device.flip_rate = 0
    assert client.stats()["inferences"] == 1  # sent again, never computed again
    device.close()


def test_many_pictures_under_heavy_loss_keep_their_answers_apart() -> None:
    device = LossyDevice(8, frame_rate=0.25, byte_rate=1e-3)
    client = connect(device)
    client.configure(send_outputs=True)
    generator = np.random.default_rng(9)
    for _ in range(15):
        picture = generator.integers(0, 256, (64, 64, 2), dtype=np.uint8)
        result = client.infer_network(picture)
        np.testing.assert_array_equal(result.outputs["box"], MODEL.run(MODEL.input_of(picture))["box"])
    device.close()


def test_one_lost_piece_costs_little() -> None:
    """A single loss is noticed by the next answer, not by a time-out, and only what followed is sent again."""
    device = CppDevice(library(MODEL), credit=4096)
    sent: list[int] = []
    plain = device.to_device

    def lose_the_third(data: bytes) -> bytes:
        sent.append(len(data))
        return b"" if len(sent) == 3 else plain(data)

    client = DeviceClient(device, timeout=30, retries=1)
    client.hello()
    device.to_device = lose_the_third  # type: ignore[method-assign]
    started = time.monotonic()
    client.infer_network(np.zeros((64, 64, 2), np.uint8))
    assert time.monotonic() - started < 5
    # Eight pieces, the lost one, and what was sent before its loss was known; never more than the credit.
    assert 9 <= len(sent) <= 12
    assert client.connection.counters.retries == 1
    device.close()


def test_half_of_the_frames_lost_each_way_fails_cleanly() -> None:
    """T6: with the client's own number of retries, in bounded time, and the next try on a good line is exact."""
    device = LossyDevice(31)
    client = DeviceClient(device, timeout=0.01, patience=1)
    client.configure(send_thumbnail=True)
    width, height, stride = 800, 600, 1747  # 1 MiB
    frame = np.random.default_rng(4).integers(0, 256, stride * height, dtype=np.uint8)
    device.frame_rate = 0.5
    started = time.monotonic()
    with pytest.raises(DeviceError, match="picture 1: no answer, .* acknowledged"):
        client.infer_camera(frame, width, height, stride)
    assert time.monotonic() - started < 10
    device.frame_rate = 0
    result = client.infer_camera(frame, width, height, stride)
    network = slow_camera_to_network(frame.tobytes(), width, height, stride, (64, 64))
    np.testing.assert_array_equal(result.thumbnail, network)
    device.close()


@pytest.mark.parametrize("rate", [0.9, 1.0])
def test_a_hopeless_link_fails_in_bounded_time(rate: float) -> None:
    device = LossyDevice(5)
    client = DeviceClient(device, timeout=0.01, retries=4, patience=1)
    client.hello()
    device.frame_rate = rate
    started = time.monotonic()
    with pytest.raises(DeviceError, match="picture 1: no answer, .* of 8192 bytes acknowledged"):
        for _ in range(3):
            client.infer_network(np.zeros((64, 64, 2), np.uint8))
    assert time.monotonic() - started < 3
    device.close()


def test_device_that_dies_during_the_inference() -> None:
    device = LossyDevice(6)
    client = DeviceClient(device, timeout=0.01, retries=3, patience=0.3)
    client.hello()
    said, device.to_host = device.to_host, lambda data: _without_detections(said(data))  # type: ignore[method-assign]
    started = time.monotonic()
    with pytest.raises(DeviceError, match=r"picture 1: no result within \d+ s"):
        client.infer_network(np.zeros((64, 64, 2), np.uint8))
    # The document's bound: patience and the picture at the slowest speed that counts as alive.
    assert time.monotonic() - started < 0.3 + 8192 / 4000 + 0.5
    device.close()


def _without_detections(data: bytes) -> bytes:
    """Drops every DETECTIONS frame: its type is the byte after the first COBS code."""
    return b"".join(b"\0" + body + b"\0" for body in data.split(b"\0") if body and body[1] != 0xA3)


def test_results_that_come_twice_are_one_result() -> None:
    device = CppDevice(library(MODEL))
    plain = device.to_host
    device.to_host = lambda data: plain(data) * 2  # type: ignore[method-assign]
    client = connect(device)
    client.configure(send_outputs=True)
    generator = np.random.default_rng(3)
    for i in range(5):
        picture = generator.integers(0, 256, (64, 64, 2), dtype=np.uint8)
        result = client.infer_network(picture)
        assert result.frame_id == i + 1
        np.testing.assert_array_equal(result.outputs["box"], MODEL.run(MODEL.input_of(picture))["box"])
    device.close()
