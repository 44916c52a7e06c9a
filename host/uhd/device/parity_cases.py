"""Where two engines disagree most, drawn: the photo twice, with the boxes of one and of the other."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from uhd.errors import DataError
from uhd.image.files import read_rgb

#: Cases shown, boxes drawn on one picture, and the longest side of an embedded photo, in pixels.
MOST_CASES = 32
_MOST_BOXES = 25
_SIDE = 320
_QUALITY = 80

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One photo of the gallery: how far the engines are apart, and two drawings of it."""

    name: str
    disagreement: float
    text: str
    first: Markup
    second: Markup


def overlaps(a: Rows, b: Rows) -> Rows:
    """IoU of each row of ``a`` with each of ``b`` (rows of ``Detection``), [len(a), len(b)]."""
    corners = [np.concatenate([r[:, 2:4] - r[:, 4:6] / 2, r[:, 2:4] + r[:, 4:6] / 2], axis=1) for r in (a, b)]
    low = np.maximum(corners[0][:, None, :2], corners[1][None, :, :2])
    high = np.minimum(corners[0][:, None, 2:], corners[1][None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [r[:, 4] * r[:, 5] for r in (a, b)]
    return np.asarray(common / np.maximum(areas[0][:, None] + areas[1][None, :] - common, 1e-12))


def disagreement(a: Rows, b: Rows, threshold: float) -> float:
    """How differently two engines see a photo: 0 for the same boxes.

    Boxes of a score from ``threshold`` are paired best score first with the best overlap of at least 0.5 in their
    class. A pair adds the difference of its scores and 1 - IoU, weighted with the score; a box alone adds its score.
    """
    first, second = (r[r[:, 0] >= threshold] for r in (a, b))
    iou = overlaps(first, second)
    iou[first[:, None, 1] != second[None, :, 1]] = 0
    free = np.ones(len(second), bool)
    total = 0.0
    for i in np.argsort(-first[:, 0], kind="stable"):
        choice = np.where(free, iou[i], 0)
        j = int(choice.argmax()) if len(choice) else -1
        if j < 0 or choice[j] < 0.5:
            total += float(first[i, 0])
            continue
        free[j] = False
        score = max(float(first[i, 0]), float(second[j, 0]))
        total += abs(float(first[i, 0] - second[j, 0])) + score * (1 - float(choice[j]))
    return total + float(second[free, 0].sum())


def worst(a: Sequence[Rows], b: Sequence[Rows], threshold: float, first: Sequence[int] = ()) -> list[tuple[int, float]]:
    """Places of the photos with the largest disagreement and how large, at most ``MOST_CASES``, worst first.

    Those in ``first`` come before all others, whatever their boxes; photos without disagreement are left out.
    """
    found = [(i, disagreement(x, y, threshold)) for i, (x, y) in enumerate(zip(a, b, strict=True))]
    ahead = set(first)
    found = [(i, value) for i, value in found if value > 0 or i in ahead]
    return sorted(found, key=lambda item: (item[0] not in ahead, -item[1], item[0]))[:MOST_CASES]


def draw_case(
    path: Path,
    place: int,
    value: float,
    name: str,
    rows: tuple[Rows, Rows],
    truth: NDArray[np.float32],
    threshold: float,
) -> Case:
    """The case of the photo at ``path``, which is embedded once; ``rows`` of the two engines, labels ``truth``."""
    (height, width), picture = _embedded(path)
    scale = _SIDE / max(height, width)
    size = width * scale, height * scale
    shown = [r[r[:, 0] >= threshold][:_MOST_BOXES] for r in rows]
    image = Markup('<image id="photo{}" href="{}" width="{:.0f}" height="{:.0f}" preserveAspectRatio="none"/>')
    source = (
        image.format(place, picture, *size) if picture else Markup('<rect class="blank" width="100%" height="100%"/>')
    )
    again = Markup('<use href="#photo{}"/>').format(place) if picture else source
    counts = " and ".join(f"{len(r)} box{'' if len(r) == 1 else 'es'}" for r in shown)
    return Case(
        name,
        value,
        counts,
        _drawing(source, size, shown[0], truth, "float"),
        _drawing(again, size, shown[1], truth, "hit"),
    )


def _embedded(path: Path) -> tuple[tuple[int, int], str]:
    """Height, width and JPEG data address of a photo; no address where it cannot be read any more."""
    try:
        rgb = read_rgb(path)
    except DataError:
        return (_SIDE * 3 // 4, _SIDE), ""
    scale = _SIDE / max(rgb.shape[:2])
    wanted = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    small = cv2.resize(rgb, wanted, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    data = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
    return rgb.shape[:2], f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _drawing(source: Markup, size: tuple[float, float], rows: Rows, truth: NDArray[np.float32], style: str) -> Markup:
    wide, tall = size
    parts = [Markup('<svg class="photo" viewBox="0 0 {:.0f} {:.0f}" role="img">').format(wide, tall), source]
    parts += [_box("truth", box[1:5], size, "label") for box in truth]
    for row in rows[::-1]:  # the best last, so that it lies on top
        parts.append(_box(style, row[2:6], size, f"{row[0]:.3f}"))
    for row in rows[::-1]:
        x = min(max((row[2] - row[4] / 2) * wide + 2, 2.0), wide - 26)
        y = min(max((row[3] - row[5] / 2) * tall - 3, 11.0), tall - 3)
        text = Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{:.2f}</text>')
        parts.append(text.format(style, float(x), float(y), float(row[0])))
    return Markup("").join([*parts, Markup("</svg>")])


def _box(style: str, box: NDArray[np.floating], size: tuple[float, float], tip: str) -> Markup:
    """A box, cut at the picture's edges, its line inside."""
    cx, cy, w, h = (float(v) for v in box)
    (x0, x1), (y0, y1) = (
        [min(max(v * side, 1.0), side - 1) for v in (middle - extent / 2, middle + extent / 2)]
        for middle, extent, side in ((cx, w, size[0]), (cy, h, size[1]))
    )
    rect = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
    return rect.format(style, x0, y0, x1 - x0, y1 - y0, tip)
