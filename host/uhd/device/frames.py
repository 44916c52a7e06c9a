"""Photos as the frames of a camera, and what a frame may change: the picks of ``docs/image-contract.md``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from uhd.device.messages import LIMITS
from uhd.errors import ConfigError
from uhd.image.resize import input_channels, network_input_u8, opencv_nearest_index
from uhd.image.yuyv import camera_to_network, rgb_to_yuyv
from uhd.manifest import ModelManifest

_MOST_BYTES = LIMITS["MAX_FRAME_BYTES"][0]
_MOST_SIDE = 0xFFFE


@dataclass(frozen=True)
class CameraFrame:
    """A YUYV picture as a camera gives it: uint8 [height, 2 * width], ``width`` even, no bytes between the rows."""

    data: NDArray[np.uint8]

    @property
    def width(self) -> int:
        """Pixels in a row."""
        return self.data.shape[1] // 2

    @property
    def height(self) -> int:
        """Rows."""
        return self.data.shape[0]

    @property
    def stride(self) -> int:
        """Bytes from one row to the next."""
        return self.data.shape[1]


@dataclass
class FrameChange:
    """How the network input of frames differs from that of their photos; sums over all pixels that both pick alike.

    ``pixels`` are compared, ``moved`` are left out: there OpenCV's rounding or a dropped last column picks another
    pixel. ``luma`` counts different Y bytes and is 0 by the contract. ``chroma`` counts different U and V bytes, which
    are those of the camera's own pair instead of two neighbours in the network input; ``chroma_sum`` and
    ``chroma_most`` tell by how much.
    """

    pixels: int = 0
    moved: int = 0
    luma: int = 0
    chroma: int = 0
    chroma_sum: int = 0
    chroma_most: int = 0

    def add(self, other: FrameChange) -> None:
        """Take another photo's figures in."""
        most = max(self.chroma_most, other.chroma_most)
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)
        self.chroma_most = most


@dataclass(frozen=True)
class Stimulus:
    """One photo as the engines get it. ``network``: what the network is to see, uint8 [H, W, C]; ``photo``: what
    it saw in training; both are the same unless there is a ``frame``, from which ``network`` is picked.
    """

    photo: NDArray[np.uint8]
    network: NDArray[np.uint8]
    frame: CameraFrame | None = None
    change: FrameChange | None = None


def camera_pixels(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The part of a photo that a camera frame can hold: width even, at most ``MAX_FRAME_BYTES``.

    An odd last column is dropped (a single one is doubled); a photo that is too large is halved until it fits.
    """
    while 2 * rgb.shape[0] * rgb.shape[1] > _MOST_BYTES or max(rgb.shape[:2]) > _MOST_SIDE:
        half = (max(1, rgb.shape[1] // 2), max(1, rgb.shape[0] // 2))
        rgb = np.asarray(cv2.resize(rgb, half, interpolation=cv2.INTER_AREA), np.uint8)
    if rgb.shape[1] == 1:
        return rgb.repeat(2, axis=1)
    return rgb[:, : rgb.shape[1] // 2 * 2]


def make_stimulus(rgb: NDArray[np.uint8], manifest: ModelManifest, inject: str = "network") -> Stimulus:
    """What the engines get of a photo, RGB uint8 [H, W, 3]. ``inject``: ``network`` or ``camera``.

    Raises ``ConfigError`` for a frame where the model does not take YUV 4:2:2.
    """
    size = (manifest.input_height, manifest.input_width)
    photo = network_input_u8(rgb, size, manifest.resize_mode)
    if inject == "network":
        return Stimulus(photo, photo)
    check_injection(inject, manifest)
    pixels = camera_pixels(rgb)
    frame = CameraFrame(rgb_to_yuyv(pixels))
    network = camera_to_network(frame.data, frame.width, frame.height, frame.stride, size)
    return Stimulus(photo, network, frame, _change(photo, network, rgb.shape, pixels.shape))


def check_injection(inject: str, manifest: ModelManifest) -> None:
    """Raise ``ConfigError`` unless pictures can be given to this model that way."""
    if inject not in ("network", "camera"):
        raise ConfigError(f"unknown injection {inject!r}", hint="choose network or camera")
    if inject == "camera" and input_channels(manifest.resize_mode) != 2:
        raise ConfigError(
            f"{manifest.name} takes {manifest.resize_mode}, which no camera frame gives", hint="use --inject network"
        )


def _change(photo: NDArray[np.uint8], network: NDArray[np.uint8], source: Any, frame: Any) -> FrameChange:
    alike = []
    for axis in (0, 1):
        target = network.shape[axis]
        camera = np.arange(target) * frame[axis] // target
        same = opencv_nearest_index(source[axis], target) == camera
        alike.append(same & (source[axis] - frame[axis] <= 1))  # a halved photo has other pixels throughout
    mask = alike[0][:, None] & alike[1][None, :]
    difference = np.abs(photo.astype(np.int64) - network)[mask]
    chroma = difference[:, 1]
    return FrameChange(
        pixels=int(mask.sum()),
        moved=int(mask.size - mask.sum()),
        luma=int(np.count_nonzero(difference[:, 0])),
        chroma=int(np.count_nonzero(chroma)),
        chroma_sum=int(chroma.sum()),
        chroma_most=int(chroma.max(initial=0)),
    )
