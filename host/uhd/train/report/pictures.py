"""Sample pictures of a validation: photos with boxes found and boxes labelled, and a contact sheet of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from uhd.files import write_bytes
from uhd.image.draw import draw_boxes
from uhd.image.resize import input_channels, to_bytes

#: Pictures of one validation.
LIMIT = 10
SHEET = "sheet.png"

Rgb = NDArray[np.uint8]


def write_samples(
    folder: Path,
    photos: Sequence[Rgb],
    truth: Sequence[NDArray[Any]],
    rows: Sequence[NDArray[Any]],
    *,
    names: Sequence[str] | None = None,
    class_names: Sequence[str] = ("person",),
    inputs: Sequence[NDArray[Any]] | None = None,
    resize_mode: str = "",
    score_threshold: float = 0.15,
    limit: int = LIMIT,
) -> list[Path]:
    """Write ``NN_<name>.png`` of the first ``limit`` photos and ``sheet.png`` into ``folder``; returns their paths.

    ``photos``: RGB uint8 [H,W,3]; ``truth`` [m,5] class, cx, cy, w, h (white) and ``rows`` [n,6] score, class, cx, cy,
    w, h (coloured, with their score) per photo; rows below ``score_threshold`` are not drawn. ``inputs``: the network
    input of each photo, float [C,h,w] in 0..1 made in ``resize_mode``, drawn beside it (to be given where validation
    changes the photo before the network sees it; boxes are then those of the input, and so is the photo's).
    ``folder`` appears complete or not at all, and replaces one of the same name. Names lose their folder and ending.
    """
    count = min(limit, len(photos))
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        drawn = []
        for i in range(count):
            kept = np.asarray(rows[i]).reshape(-1, 6)
            kept = kept[kept[:, 0] >= score_threshold]
            picture = draw(photos[i], kept, truth[i], class_names)
            if inputs is not None:
                seen = input_picture(inputs[i], resize_mode)
                picture = side_by_side(picture, draw(seen, kept, truth[i], class_names))
            drawn.append(picture)
            name = Path(names[i]).stem if names is not None else f"{i:04d}"
            write_bytes(temporary / f"{i:02d}_{name}.png", _png(picture))
        if drawn:
            write_bytes(temporary / SHEET, _png(sheet(drawn, 4 if inputs is None else 2)))
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sorted(folder.glob("*.png"))


def draw(rgb: Rgb, rows: NDArray[Any], truth: NDArray[Any], class_names: Sequence[str]) -> Rgb:
    """The photo with its boxes, BGR, enlarged where it is small."""
    bgr = np.ascontiguousarray(rgb[:, :, ::-1])
    return draw_boxes(bgr, rows, class_names=class_names, ground_truth=truth)


def input_picture(values: NDArray[Any], resize_mode: str) -> Rgb:
    """A network input, float [C,h,w] in 0..1, as people can see it: RGB uint8 [h,w,3].

    Two channels (yuv422: Y, and U on even, V on odd columns) are turned back by OpenCV; luma becomes grey.
    """
    channels = input_channels(resize_mode)
    picture = np.ascontiguousarray(np.moveaxis(np.asarray(values, np.float32), 0, -1))
    if picture.ndim != 3 or picture.shape[2] != channels:
        raise ValueError(f"{resize_mode} has {channels} channels, got shape {np.shape(values)}")
    byte = to_bytes(picture + np.float32(0.5 / 255))  # to the nearest byte
    if channels == 2:
        return np.asarray(cv2.cvtColor(byte, cv2.COLOR_YUV2RGB_YUYV), np.uint8)
    return np.repeat(byte, 3, axis=2) if channels == 1 else byte


def side_by_side(left: Rgb, right: Rgb, gap: int = 6) -> Rgb:
    """Two pictures beside each other, the second scaled to the height of the first."""
    width = max(1, round(right.shape[1] * left.shape[0] / right.shape[0]))
    method = cv2.INTER_NEAREST if left.shape[0] >= right.shape[0] else cv2.INTER_AREA
    scaled = cv2.resize(right, (width, left.shape[0]), interpolation=method)
    between = np.full((left.shape[0], gap, 3), 32, np.uint8)
    return np.concatenate([left, between, np.asarray(scaled, np.uint8)], axis=1)


def sheet(pictures: Sequence[Rgb], columns: int, *, width: int = 1280, gap: int = 4) -> Rgb:
    """Pictures in rows of ``columns``, each scaled to the same width, rows as high as their highest; BGR."""
    cell = (width - gap) // min(columns, len(pictures)) - gap
    rows = []
    for first in range(0, len(pictures), columns):
        scaled = []
        for picture in pictures[first : first + columns]:
            height = max(1, round(picture.shape[0] * cell / picture.shape[1]))
            method = cv2.INTER_AREA if cell < picture.shape[1] else cv2.INTER_LINEAR
            scaled.append(cv2.resize(picture, (cell, height), interpolation=method))
        row = np.full((max(len(p) for p in scaled) + gap, width, 3), 32, np.uint8)
        for i, small in enumerate(scaled):
            left = gap + i * (cell + gap)
            row[gap : gap + len(small), left : left + cell] = small
        rows.append(row)
    return np.concatenate([*rows, np.full((gap, width, 3), 32, np.uint8)])


def prune_samples(folder: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` sample folders (``0005``, ``0010`` ...) in ``folder``."""
    numbered = sorted((p for p in folder.glob("*") if p.is_dir() and p.name.isdecimal()), key=lambda p: int(p.name))
    for path in numbered[: max(len(numbered) - keep, 0)]:
        shutil.rmtree(path, ignore_errors=True)


def blend(rgb: Rgb, colours: Rgb, share: float = 0.6) -> Rgb:
    """``share`` of ``colours`` over ``rgb``, equal sizes, rounded."""
    mixed = colours.astype(np.float32) * share + rgb.astype(np.float32) * (1 - share)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _png(bgr: Rgb) -> bytes:
    return cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 4])[1].tobytes()
