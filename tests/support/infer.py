"""Pictures and comparisons for tests of inference."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np

from uhd.host.samples import sample_photos, sample_scene
from uhd.image.files import read_rgb


@functools.cache
def _pictures() -> tuple[np.ndarray, ...]:
    return (*(read_rgb(path) for _, path in sample_photos()), sample_scene())


def sample_pictures() -> list[np.ndarray]:
    """The sample photographs that are installed, and the generated scene; RGB uint8."""
    return list(_pictures())


def nearest(rows: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference between two lists of rows whose equal scores may come in any order."""
    if rows.shape != wanted.shape:
        return float("inf")
    if not len(rows):
        return 0.0
    far = np.abs(rows[:, None].astype(np.float64) - wanted[None]).max(-1)
    return float(max(far.min(0).max(), far.min(1).max()))


def write_clip(path: Path, frames: int, *, fps: float = 25.0, size: tuple[int, int] = (320, 240)) -> Path:
    """A film that pans over a sample picture; ``size`` is (width, height)."""
    picture = _pictures()[0][..., ::-1]
    big = cv2.resize(picture, (size[0] + 4 * frames, size[1]))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    for index in range(frames):
        writer.write(np.ascontiguousarray(big[:, 4 * index : 4 * index + size[0]]))
    writer.release()
    return path
