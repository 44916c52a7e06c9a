"""The worst photos of an evaluation as figures: picture, boxes and detections in one SVG each."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from uhd.train.report.evaluation import THUMBNAIL, Evaluation, is_missed

#: Detections drawn in one photo at most, best first.
MOST_DRAWN = 25


@dataclass(frozen=True)
class Figure:
    """One photo of the gallery."""

    name: str
    loss: float
    boxes: int
    missed: int
    alarms: int
    svg: Markup


def figures(evaluation: Evaluation) -> list[Figure]:
    """The worst photos, worst first; without the picture itself where it was not kept."""
    return [_figure(evaluation, number) for number in evaluation.worst]


def data_uri(data: bytes, kind: str = "jpeg") -> str:
    """The bytes of a picture as an address that needs no file."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _figure(evaluation: Evaluation, number: int) -> Figure:
    (height, width), boxes = evaluation.truth[number]
    rows, finders = evaluation.rows[number], evaluation.matches.finders[number]
    threshold = evaluation.threshold
    missed = is_missed(rows, finders, threshold)
    shown = np.flatnonzero((rows[:, 0] >= threshold) & evaluation.matches.counted[number])
    shown = shown[np.argsort(-rows[shown, 0], kind="stable")]
    hits = evaluation.matches.hits[number]
    scale = THUMBNAIL / max(height, width, 1)
    wide, tall = width * scale, height * scale
    name = evaluation.names[number]
    parts = [
        Markup('<svg class="photo" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">').format(wide, tall, name)
    ]
    if number in evaluation.pictures:
        image = Markup('<image href="{}" width="{:.0f}" height="{:.0f}" preserveAspectRatio="none"/>')
        parts.append(image.format(data_uri(evaluation.pictures[number]), wide, tall))
    else:
        parts.append(Markup('<rect class="blank" width="{:.0f}" height="{:.0f}"/>').format(wide, tall))
    for box, gone in zip(boxes, missed, strict=True):
        style, tip = ("missed", "missed") if gone else ("truth", "found")
        parts.append(_rect(style, box[1:], wide, tall, f"{_class(evaluation, box[0])}, {tip}"))
    drawn = shown[:MOST_DRAWN][::-1]  # the best last, so that it lies on top
    for row in drawn:
        style, tip = ("hit", "right") if hits[row] else ("alarm", "false alarm")
        text = f"{_class(evaluation, rows[row, 1])} {rows[row, 0]:.3f}, {tip}"
        parts.append(_rect(style, rows[row, 2:], wide, tall, text))
    for row in drawn:
        style = "hit" if hits[row] else "alarm"
        cx, cy, w, h = (float(v) for v in rows[row, 2:])
        x = min(max((cx - w / 2) * wide + 2, 2.0), wide - 26)
        y = min(max((cy - h / 2) * tall - 3, 11.0), tall - 3)
        label = Markup('<text class="score {}" x="{:.1f}" y="{:.1f}">{:.2f}</text>')
        parts.append(label.format(style, x, y, float(rows[row, 0])))
    return Figure(
        name=name,
        loss=float(evaluation.losses[number]),
        boxes=len(boxes),
        missed=int(missed.sum()),
        alarms=int((~hits[shown]).sum()),
        svg=Markup("").join([*parts, Markup("</svg>")]),
    )


def _class(evaluation: Evaluation, label: float) -> str:
    number = int(label)
    return evaluation.class_names[number] if 0 <= number < len(evaluation.class_names) else f"class {number}"


def _rect(style: str, box: NDArray[Any], wide: float, tall: float, tip: str) -> Markup:
    """A box, cut at the picture's edges, half a pixel inside so that its line is seen there."""
    cx, cy, w, h = (float(v) for v in box)
    x0, x1 = (min(max(v * wide, 1.0), wide - 1) for v in (cx - w / 2, cx + w / 2))
    y0, y1 = (min(max(v * tall, 1.0), tall - 1) for v in (cy - h / 2, cy + h / 2))
    rect = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
    return rect.format(style, x0, y0, x1 - x0, y1 - y0, tip)
