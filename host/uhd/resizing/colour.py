"""Our colour modes and the camera's path, against OpenCV's own conversions and the device's C++."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from uhd.device.frames import camera_pixels
from uhd.errors import ToolMissingError
from uhd.image.resize import RESIZE_MODES, input_channels, network_values, resize_image
from uhd.image.yuyv import camera_to_network, rgb_to_yuyv
from uhd.resizing.study import Difference
from uhd.resizing.ways import Size

Rgb = NDArray[np.uint8]
Bytes = Callable[[Rgb, Size], NDArray[np.uint8]]
MODES = tuple(mode for mode in RESIZE_MODES if input_channels(mode) < 3)


def opencv_colour(rgb: Rgb, size: Size, mode: str) -> NDArray[np.float32]:
    """A luma or YUV mode by OpenCV's functions alone, [h,w,c] in 0..1."""
    small = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_NEAREST)
    if input_channels(mode) == 2:
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2YUV_YUYV).astype(np.float32) / np.float32(255))
    return network_values(mode)[cv2.cvtColor(small, cv2.COLOR_RGB2YUV)[..., :1]]


def camera_python(rgb: Rgb, size: Size) -> NDArray[np.uint8]:
    """The photo as a YUYV frame, and what the image contract picks from it."""
    frame = camera_pixels(rgb)
    return camera_to_network(rgb_to_yuyv(frame), frame.shape[1], frame.shape[0], out=size)


def camera_device() -> tuple[Bytes | None, str]:
    """The device's own C++ for the same, compiled for this machine; None, and why, where there is no compiler."""
    from uhd.device.twin import Twin
    from uhd.paths import committed_component

    try:
        twin = Twin(committed_component("esp32s3"))
    except ToolMissingError as error:
        return None, str(error)

    def run(rgb: Rgb, size: Size) -> NDArray[np.uint8]:
        pixels = camera_pixels(rgb)
        height, width = pixels.shape[:2]
        return twin.camera_to_network(rgb_to_yuyv(pixels), width, height, 2 * width, size)

    return run, ""


def colour_study(pictures: Iterable[Rgb], size: Size, device: Bytes | None) -> dict[str, Difference | None]:
    """Differences in bytes by what is compared; None for the device's C++ where there is no compiler.

    For an odd width of ``size`` there is no packed YUV, and nothing is said of it.
    """
    modes = [mode for mode in MODES if input_channels(mode) == 1 or size[1] % 2 == 0]
    found: dict[str, Difference | None] = {f"{mode} / OpenCV": Difference() for mode in modes}
    packed = size[1] % 2 == 0
    if packed:
        found |= {f"camera frame / photo, {part}": Difference() for part in ("Y", "U and V")}
        found["camera frame, C++ / Python"] = Difference() if device else None
    for rgb in pictures:
        for mode in modes:
            _add(found, f"{mode} / OpenCV", 255 * resize_image(rgb, size, mode), 255 * opencv_colour(rgb, size, mode))
        if packed:
            camera = camera_python(rgb, size)
            photo = np.rint(255 * resize_image(rgb, size, "opencv_inter_nearest_yuv422"))
            for channel, part in enumerate(("Y", "U and V")):
                _add(found, f"camera frame / photo, {part}", camera[..., channel], photo[..., channel])
            if device:
                _add(found, "camera frame, C++ / Python", device(rgb, size), camera)
    return found


def _add(found: dict[str, Difference | None], name: str, first: NDArray[Any], second: NDArray[Any]) -> None:
    difference = found[name]
    assert difference is not None
    real = float(np.abs(first.astype(np.float64) - second).max())
    difference.add(np.rint(first), np.rint(second).astype(np.int64), real)
