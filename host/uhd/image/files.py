"""Reading pictures from disk."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from uhd.errors import ConfigError, DataError
from uhd.files import atomic_path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Lower-case file name endings that folders of photos are searched for."""

if "OPENCV_LOG_LEVEL" not in os.environ:  # broken pictures are reported once, by our own message
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def is_image_name(path: Path) -> bool:
    """True where the file name ends as a picture's does (upper and lower case alike)."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def list_images(folder: Path) -> list[Path]:
    """The pictures directly in ``folder``, sorted by name. Raises ``DataError`` for a folder that is not there."""
    try:
        return sorted(path for path in folder.iterdir() if is_image_name(path) and path.is_file())
    except OSError as error:
        raise DataError(f"{folder}: cannot list the folder ({error.strerror})") from None


def read_file(path: Path) -> bytes:
    """The bytes of a picture file. Raises ``DataError`` where there is none."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the picture ({error.strerror})") from None


def _cut_off(data: bytes) -> bool:
    """True for a JPEG or PNG without its end: decoders may fill the missing part with grey and not say so."""
    if data.startswith(b"\xff\xd8\xff"):
        scan = data.rfind(b"\xff\xda")
        return data.find(b"\xff\xd9", max(scan, 0)) < 0
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data[-1024:]
    return False


def decode_rgb(data: bytes, source: str) -> NDArray[np.uint8]:
    """Decode a picture to RGB uint8 [H,W,3]; ``source`` names it in errors.

    The orientation recorded in the file (EXIF) is applied, as viewers and label tools do, so boxes drawn on the shown
    picture fit. Grey becomes three equal channels, 16 bits become 8, transparency is dropped.
    Raises ``DataError`` for empty, cut-off, damaged and unknown files.
    """
    if not data:
        raise DataError(f"{source}: the picture file is empty", hint="remove it or fetch it again")
    if _cut_off(data):
        raise DataError(f"{source}: the picture is cut off, its end is missing", hint="remove it or fetch it again")
    try:
        bgr = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        reason = " ".join(str(error.err or "").split())
        raise DataError(f"{source}: the picture cannot be decoded ({reason})", hint="remove or convert it") from None
    if bgr is None:
        raise DataError(
            f"{source}: not a picture, or damaged", hint="remove it, or convert it to JPEG, PNG, BMP or WebP"
        )
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read a picture file as RGB uint8 [H,W,3]; see ``decode_rgb``. Raises ``DataError`` naming the file."""
    return decode_rgb(read_file(path), str(path))


def write_picture(path: Path, bgr: NDArray[np.uint8]) -> None:
    """Write a BGR picture in the format of its name's ending, whole or not at all; folders are made.

    Raises ``ConfigError`` for an ending that is no picture's.
    """
    if not is_image_name(path):
        raise ConfigError(f"{path}: no picture format", hint=f"end the name in {' '.join(IMAGE_SUFFIXES)}")
    _, data = cv2.imencode(path.suffix.lower(), bgr)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())
