"""The summary as one PNG: mean difference of every pair as a map, times as bars, drawn with OpenCV."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from uhd.resizing.study import Study

Picture = NDArray[np.uint8]
_CELL, _LEFT, _TOP, _PAD, _BARS = 44, 230, 210, 24, 300
_INK, _SOFT, _PAPER, _BAR = (30, 30, 30), (120, 120, 120), (255, 255, 255), (235, 99, 37)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MOST = 25.0
"""Mean difference at which a cell is darkest."""


def summary_chart(found: Study) -> Picture:
    """BGR uint8. A cell: mean difference of bytes; ``=`` where the two are equal to the bit on all photos."""
    names = [way.name for way in found.ways]
    side = _CELL * len(names)
    width = _LEFT + side + _PAD + (_BARS + _PAD + 70 if found.times else 0)
    canvas = np.full((_TOP + side + _PAD, width, 3), _PAPER, np.uint8)
    height, across = found.size
    title = f"mean difference of bytes (0..255), {found.photos} photos to {across} x {height}"
    _text(canvas, title, (12, 28), 0.62, _INK)
    _text(canvas, "= equal to the bit", (12, 54), 0.5, _SOFT)
    for row, name in enumerate(names):
        y = _TOP + row * _CELL
        _text(canvas, name, (_LEFT - 8, y + _CELL // 2 + 5), 0.47, _INK, end=True)
        _upright(canvas, name, (_LEFT + row * _CELL + _CELL // 2, _TOP - 8))
        for column, other in enumerate(names):
            _cell(canvas, (_LEFT + column * _CELL, y), None if name == other else found.between(name, other))
        if found.times:
            _bar(canvas, (_LEFT + side + _PAD, y), found.times[name], max(found.times.values()))
    if found.times:
        text = f"ms a call, logarithmic, {found.timed_on[1]} x {found.timed_on[0]}"
        _text(canvas, text, (_LEFT + side + _PAD, _TOP - 10), 0.47, _SOFT)
    return canvas


def png(bgr: Picture) -> bytes:
    """The picture as the bytes of a PNG file."""
    return cv2.imencode(".png", bgr)[1].tobytes()


def shade(mean: float) -> tuple[int, int, int]:
    """BGR from white (no difference) to red, by the square root of the mean difference."""
    part = min(math.sqrt(mean / _MOST), 1.0)
    return (round(255 - 175 * part), round(255 - 175 * part), round(255 - 25 * part))


def _cell(canvas: Picture, corner: tuple[int, int], difference: Any) -> None:
    x, y = corner
    fill = (238, 241, 244) if difference is None else shade(difference.mean)
    cv2.rectangle(canvas, (x, y), (x + _CELL - 2, y + _CELL - 2), fill, cv2.FILLED)
    if difference is not None:
        mean = difference.mean
        text = "=" if difference.kind == "equal" else f"{mean:.1f}" if mean >= 0.95 else f"{mean:.2f}"
        offset = cv2.getTextSize(text, _FONT, 0.4, 1)[0][0] // 2
        _text(canvas, text, (x + _CELL // 2 - offset, y + _CELL // 2 + 4), 0.4, _INK)


def _bar(canvas: Picture, corner: tuple[int, int], value: float, most: float) -> None:
    low = 0.001
    x, y = corner
    length = round(_BARS * max(math.log(value / low), 0.01) / max(math.log(most / low), 0.01))
    cv2.rectangle(canvas, (x, y + 11), (x + length, y + _CELL - 13), _BAR, cv2.FILLED)
    _text(canvas, f"{value:.3g}", (x + length + 6, y + _CELL // 2 + 4), 0.42, _INK)


def _upright(canvas: Picture, text: str, foot: tuple[int, int]) -> None:
    """Text that reads upwards from ``foot``."""
    width = cv2.getTextSize(text, _FONT, 0.47, 1)[0][0] + 4
    strip = np.full((20, width, 3), _PAPER, np.uint8)
    cv2.putText(strip, text, (2, 15), _FONT, 0.47, _INK, 1, cv2.LINE_AA)
    turned = cv2.rotate(strip, cv2.ROTATE_90_COUNTERCLOCKWISE)
    canvas[foot[1] - width : foot[1], foot[0] - 10 : foot[0] + 10] = turned


def _text(
    canvas: Picture, text: str, at: tuple[int, int], scale: float, colour: tuple[int, int, int], *, end: bool = False
) -> None:
    left = at[0] - (cv2.getTextSize(text, _FONT, scale, 1)[0][0] if end else 0)
    cv2.putText(canvas, text, (left, at[1]), _FONT, scale, colour, 1, cv2.LINE_AA)
