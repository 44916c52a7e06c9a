"""Pictures and comparisons for tests of inference."""

from __future__ import annotations

import functools

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
