"""Boxes and labels on pictures, and contact sheets. All pictures are BGR uint8, as OpenCV writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

PALETTE: tuple[Colour, ...] = (
    (60, 60, 230),
    (60, 180, 60),
    (230, 140, 40),
    (40, 180, 230),
    (200, 60, 200),
    (180, 180, 40),
)
"""BGR colour of class 0, 1, ...; repeats."""
TRUTH: Colour = (255, 255, 255)
MIN_SIDE = 384
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def enlarge(bgr: Picture, min_side: int = MIN_SIDE) -> Picture:
    """A copy whose longest side has at least ``min_side`` pixels; enlarged by a whole factor, pixels stay visible."""
    factor = max(1, math.ceil(min_side / max(bgr.shape[:2])))
    return np.ascontiguousarray(bgr.repeat(factor, axis=0).repeat(factor, axis=1))


def _corners(box: NDArray[Any], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """cx, cy, w, h normalised -> pixel x0, y0, x1, y1, clipped to the picture."""
    height, width = shape[:2]
    cx, cy, w, h = (float(v) for v in box)
    edges = [(cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width - 1, (cy + h / 2) * height - 1]
    limits = [width - 1, height - 1] * 2
    x0, y0, x1, y1 = (round(min(max(edge, 0), limit)) for edge, limit in zip(edges, limits, strict=True))
    return x0, y0, x1, y1


def _label(canvas: Picture, text: str, x: int, y: int, colour: Colour, scale: float) -> None:
    """Text on a filled plate whose lower left corner is (x, y), moved so that it stays inside the picture."""
    stroke = max(1, round(1.3 * scale))
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, stroke)
    plate_width, plate_height = width + 4, height + baseline + 3
    x = max(0, min(x, canvas.shape[1] - plate_width))
    top = max(0, min(y - plate_height, canvas.shape[0] - plate_height))
    cv2.rectangle(canvas, (x, top), (x + plate_width - 1, top + plate_height - 1), colour, cv2.FILLED)
    light = sum(weight * part for weight, part in zip((0.114, 0.587, 0.299), colour, strict=True))
    ink = (0, 0, 0) if light > 140 else (255, 255, 255)
    cv2.putText(canvas, text, (x + 2, top + height + 1), _FONT, scale, ink, stroke, cv2.LINE_AA)


def draw_boxes(
    bgr: Picture,
    boxes: NDArray[Any],
    *,
    class_names: Sequence[str] = (),
    ground_truth: NDArray[Any] | None = None,
    min_side: int = MIN_SIDE,
) -> Picture:
    """A new picture with detections drawn, enlarged to ``min_side`` where it is small; ``bgr`` is left alone.

    ``boxes``: [n,6] rows score, class, cx, cy, w, h, normalised to the picture; drawn worst first, so the best is on
    top, each labelled with its score in percent and, with several ``class_names``, its class. ``ground_truth``: [m,5]
    rows class, cx, cy, w, h, drawn below them as thin white outlines. Parts outside the picture are cut.
    """
    canvas = enlarge(bgr, min_side)
    side = max(canvas.shape[:2])
    thickness = max(1, min(round(side / 256), 2 + side // 1280))  # thin on large pictures, too
    for row in np.asarray([] if ground_truth is None else ground_truth, dtype=np.float64).reshape(-1, 5):
        x0, y0, x1, y1 = _corners(row[1:], canvas.shape)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), TRUTH, 1)
    rows = np.asarray(boxes, dtype=np.float64).reshape(-1, 6)
    scale = max(0.4, min(side / 1000, 0.5 + side / 2500))
    for row in rows[np.argsort(rows[:, 0], kind="stable")]:
        label = int(row[1])
        colour = PALETTE[label % len(PALETTE)]
        x0, y0, x1, y1 = _corners(row[2:], canvas.shape)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), colour, thickness)
        name = f"{class_names[label]} " if len(class_names) > 1 and label < len(class_names) else ""
        _label(canvas, f"{name}{100 * row[0]:.0f}%", x0, y0, colour, scale)
    return canvas


def draw_labels(bgr: Picture, labels: NDArray[Any], *, min_side: int = MIN_SIDE) -> Picture:
    """A new picture with labelled objects outlined in the colour of their class; enlarged as by ``draw_boxes``.

    ``labels``: [n,5] rows class, cx, cy, w, h, normalised to the picture.
    """
    canvas = enlarge(bgr, min_side)
    thickness = max(1, round(max(canvas.shape[:2]) / 192))
    for row in np.asarray(labels, dtype=np.float64).reshape(-1, 5):
        x0, y0, x1, y1 = _corners(row[1:], canvas.shape)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), PALETTE[int(row[0]) % len(PALETTE)], thickness)
    return canvas


def contact_sheet(
    pictures: Sequence[Picture], *, columns: int = 4, cell: int = 256, gap: int = 4, background: Colour = (32, 32, 32)
) -> Picture:
    """Pictures side by side in square cells of ``cell`` pixels, scaled to fit and centred. At least one picture."""
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    across = min(columns, len(pictures))
    down = math.ceil(len(pictures) / across)
    sheet = np.empty((down * (cell + gap) + gap, across * (cell + gap) + gap, 3), dtype=np.uint8)
    sheet[:] = background
    for number, picture in enumerate(pictures):
        scale = cell / max(picture.shape[:2])
        width, height = (max(1, round(side * scale)) for side in (picture.shape[1], picture.shape[0]))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
        small = cv2.resize(picture, (width, height), interpolation=method)
        y = gap + number // across * (cell + gap) + (cell - height) // 2
        x = gap + number % across * (cell + gap) + (cell - width) // 2
        sheet[y : y + height, x : x + width] = small
    return sheet
