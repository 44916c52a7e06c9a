"""Small picture files for tests of data loading."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np


def random_rgb(seed: int, height: int = 40, width: int = 60) -> np.ndarray:
    """A smooth random picture, uint8 [H,W,3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def save_png(path: Path, rgb: np.ndarray) -> Path:
    """Write without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return path


def jpeg_with_orientation(rgb: np.ndarray, orientation: int) -> bytes:
    """A JPEG whose EXIF block holds just the orientation tag (0x0112)."""
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 100])
    assert ok
    plain = data.tobytes()
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<HHHIHH", 1, 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"
    body = b"Exif\0\0" + tiff
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
