"""Engines and links for parity tests: a made-up model on both sides, and a plug that can be pulled."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support.camera import slow_camera_to_network
from support.fakemodel import FakeModel
from support.twinlib import CppDevice, library
from uhd.device.client import DeviceClient
from uhd.device.detectors import Detection, DeviceDetector, Settings
from uhd.device.frames import CameraFrame
from uhd.device.ports import Port
from uhd.device.results import rows_from_q16

MODEL = FakeModel()
SETTINGS = Settings(0.15, 0.5, 100, 20)


class FakeTwin:
    """What the made-up model must answer, by NumPy and the C++ decoder."""

    name = "twin"

    def detect(self, network_input: NDArray[np.uint8]) -> Detection:
        outputs = MODEL.run(MODEL.input_of(network_input))
        rows, _ = library(MODEL).sent(outputs, 9830, 32768, SETTINGS.top_k)
        return Detection(rows_from_q16(rows[: SETTINGS.limit]), outputs)

    def detect_frame(self, frame: CameraFrame) -> Detection:
        network = slow_camera_to_network(frame.data.tobytes(), frame.width, frame.height, frame.stride, (64, 64))
        found = self.detect(network)
        return Detection(found.rows, found.outputs, network)


@contextlib.contextmanager
def fake_device(port: Port, **client: Any) -> Iterator[DeviceDetector]:
    """The made-up model on the C++ device behind ``port``."""
    talk = DeviceClient(port, **{"timeout": 0.02, "retries": 2, "patience": 20.0, **client})
    talk.hello(expect_hash=MODEL.hash.hex())
    yield DeviceDetector(talk, "device", SETTINGS, want_outputs=True, want_input=True)


class MoodyDevice(CppDevice):
    """A device that hears nothing for as long as ``mood`` says so, which is asked for every write."""

    def __init__(self) -> None:
        super().__init__(library(MODEL))
        self.mood: Callable[[bytes], bool] = lambda data: False

    def to_device(self, data: bytes) -> bytes:
        return b"" if self.mood(data) else data


class Plug:
    """A TCP port in front of a device, as a context manager. It is pulled once, after ``after`` bytes from the host:
    the connection breaks off in the middle of whatever it carries, and for ``absent`` seconds nobody answers.
    """

    def __init__(self, device: Port, *, after: int, absent: float = 0.5) -> None:
        self._device, self._after, self._absent = device, after, absent
        self.pulled = 0
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Plug:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self._listener.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            if not select.select([self._listener], [], [], 0.05)[0]:
                continue
            connection, _ = self._listener.accept()
            with connection:
                self._carry(connection)
            if self.pulled == 1 and self._after:
                self._after = 0
                address = self._listener.getsockname()
                self._listener.close()
                self._stop.wait(self._absent)
                self._listener = socket.create_server(address)

    def _carry(self, connection: socket.socket) -> None:
        heard = 0
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                connection.sendall(self._device.read(0.005))
            if not select.select([connection], [], [], 0)[0]:
                continue
            try:
                data = connection.recv(4096)
            except OSError:
                return
            if not data:
                return
            heard += len(data)
            if self._after and heard >= self._after:
                self._device.write(data[: len(data) // 2])
                self.pulled += 1
                return
            self._device.write(data)
