"""The firmware's program with a camera: pictures in a file, and what the network must make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from support.fakemodel import FakeModel
from support.twinlib import library
from uhd.image.yuyv import camera_to_network

WIDTH, HEIGHT = 96, 64


class CameraFile:
    """``count`` random YUYV pictures, and the boxes of each as the device must send them."""

    def __init__(self, folder: Path, model: FakeModel, count: int = 5, rate: int = 50) -> None:
        rng = np.random.default_rng(11)
        self.pictures = rng.integers(0, 256, (count, HEIGHT, 2 * WIDTH), dtype=np.uint8)
        self.path = folder / "pictures.yuyv"
        self.path.write_bytes(self.pictures.tobytes())
        self.environment = {
            "UHD_CAMERA_FILE": str(self.path),
            "UHD_CAMERA_FORMAT": f"yuyv:{WIDTH}x{HEIGHT}@{rate}",
        }
        self._model = model
        self.networks = [self._network(picture) for picture in self.pictures]
        self.rows = [self.rows_of(network) for network in self.networks]

    def _network(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        left = (WIDTH - HEIGHT) // 2  # the square in the middle
        return camera_to_network(picture[:, 2 * left : 2 * (left + HEIGHT)].tobytes(), HEIGHT, HEIGHT)

    def rows_of(self, network: NDArray[np.uint8], threshold: int = 9830) -> list[list[int]]:
        outputs = self._model.run(self._model.input_of(network))
        return library(self._model).sent(outputs, threshold, 32768, 100)[0].tolist()
