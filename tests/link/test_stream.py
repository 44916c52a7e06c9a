"""Live results on the host: the C++ device with a camera, over a pipe that loses and damages bytes."""

from __future__ import annotations

import random
from itertools import islice

import numpy as np
import pytest

from support.fakemodel import FakeModel
from support.live import LiveDevice
from uhd.device.client import DeviceClient
from uhd.device.messages import CODES
from uhd.errors import DeviceError
from uhd.image.yuyv import camera_to_network

MODEL = FakeModel()
RNG = np.random.default_rng(5)


class LivePort:
    """The device in memory as a port; each read that finds nothing lets the camera deliver one more picture."""

    name = "live"

    def __init__(self, loss: float = 0.0) -> None:
        self.device, self.loss = LiveDevice(MODEL), loss
        self.pictures: list[np.ndarray] = []
        self._random, self._waiting = random.Random(1), b""

    def write(self, data: bytes, timeout: float = 5.0) -> None:
        self._waiting += self.device.said(data)

    def read(self, timeout: float) -> bytes:
        if not self._waiting:
            picture = RNG.integers(0, 256, (96, 192), dtype=np.uint8)
            self.pictures.append(picture)
            self.device.clock(40_000 * len(self.pictures))
            self.device.picture(picture, 96, 96)
            self.device.watch()
            data = self.device.said()
            self._waiting = bytes(b for b in data if self._random.random() >= self.loss)
        data, self._waiting = self._waiting, b""
        return data

    def reset(self) -> None:
        self.device.close()
        self.device, self.pictures = LiveDevice(MODEL), []


def test_every_picture_arrives_with_its_boxes_and_tensors() -> None:
    port = LivePort()
    client = DeviceClient(port)
    client.hello()
    client.configure(score_threshold=0.2, stream=True, send_outputs=True, send_thumbnail=True)
    before = len(port.pictures)
    for number, found in enumerate(islice(client.results(), 20)):
        network = camera_to_network(port.pictures[before + number].tobytes(), 96, 96)
        np.testing.assert_array_equal(found.thumbnail, network)
        for name, values in MODEL.run(MODEL.input_of(network)).items():
            np.testing.assert_array_equal(found.outputs[name], values)
        assert found.frame_id & 0x7FFFFFFF == before + number + 1 and len(found.rows) > 0
    assert client.hello().camera is not None and client.hello().camera.width == 96


def test_damaged_results_are_left_out_and_the_others_are_right() -> None:
    port = LivePort()
    client = DeviceClient(port)
    client.hello()
    client.configure(stream=True, send_thumbnail=True)
    port.loss = 1e-4
    seen = set()
    for found in islice(client.results(), 40):
        number = (found.frame_id & 0x7FFFFFFF) - 1
        np.testing.assert_array_equal(found.thumbnail, camera_to_network(port.pictures[number].tobytes(), 96, 96))
        seen.add(number)
    assert len(seen) == 40 and len(port.pictures) > 40


def test_every_nth_picture_and_its_times() -> None:
    port = LivePort()
    client = DeviceClient(port)
    client.hello()
    client.configure(stream=True, results_every=4, thumbnail_every=3)
    results = client.results()
    for found in islice(results, 9):
        number = found.frame_id & 0x7FFFFFFF
        assert number % 4 == 0 and (found.thumbnail is not None) == (number % 12 == 0)
        assert found.timings.timestamp_us > 0 or found.timings.receive_us > 0
    client.configure(stream=True, send_timing=False)
    numbers = [found.frame_id for found in islice(results, 5)]  # the same iterator: it follows the new configuration
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    assert next(results).timings.receive_us == 0


def test_a_picture_of_the_host_is_not_taken_for_one_of_the_camera() -> None:
    port = LivePort()
    client = DeviceClient(port)
    client.hello()
    client.configure(stream=True, send_outputs=True)
    network = RNG.integers(0, 256, (64, 64, 2), dtype=np.uint8)
    for found in islice(client.results(), 3):
        assert found.frame_id >> 31 == 1
    own = client.infer_network(network)
    np.testing.assert_array_equal(own.outputs["box"], MODEL.run(MODEL.input_of(network))["box"])
    assert own.frame_id >> 31 == 0


def test_a_restart_is_survived() -> None:
    port = LivePort()
    client = DeviceClient(port)
    client.hello()
    client.configure(stream=True)
    results = client.results(timeout=0.5)
    next(results)
    port.reset()
    with pytest.raises(DeviceError, match="no picture of its camera"):
        next(results)  # the new start knows of no session and is silent
    client.hello()
    client.configure(stream=True)
    assert next(client.results(timeout=0.5)).frame_id & 0x7FFFFFFF >= 1


def test_faults_are_named() -> None:
    port = LivePort()
    port.device.fault(CODES["ErrorCode"]["CAMERA_MISSING"])
    port.device.fault(CODES["ErrorCode"]["LINK_STALLED"])
    info = DeviceClient(port).hello()
    assert info.faults == ("CAMERA_MISSING", "LINK_STALLED") and info.reset_reason == "BROWN_OUT"
