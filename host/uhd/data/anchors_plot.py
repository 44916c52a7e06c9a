"""A picture of the sizes of a data set's boxes with the anchors among them (``--auto-anchors-plot``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from uhd.files import write_bytes

Picture = NDArray[np.uint8]

_PANEL, _LEFT, _BOTTOM, _TOP, _RIGHT = 440, 64, 56, 40, 16
_HEAD = 44
_INK, _SOFT, _PAPER, _ANCHOR = (30, 30, 30), (120, 120, 120), (255, 255, 255), (40, 60, 235)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LINEAR = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
_LOG = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]


def plot_path(base: Path, algorithm: str, bias: float | None = None) -> Path:
    """``<base>_<algorithm>.png``, or ``<base>_<algorithm>_bias0.20.png``; ``base`` may end in .png already."""
    stem = base.with_suffix("") if base.suffix.lower() == ".png" else base
    extra = "" if bias is None else f"_bias{bias:.2f}"
    return stem.with_name(f"{stem.name}_{algorithm}{extra}.png")


def write_anchor_plot(
    base: Path, wh: NDArray[Any], anchors: NDArray[Any], algorithm: str, *, bias: float = 0.2
) -> Path:
    """Write the plot beside ``base`` and return its path; the bias is in the name where the algorithm uses it."""
    path = plot_path(base, algorithm, bias if algorithm == "stratified_large" else None)
    told = f", bias {bias:.2f}" if algorithm == "stratified_large" else ""
    picture = anchor_plot(wh, anchors, f"{len(anchors)} anchors by {algorithm}{told}")
    write_bytes(path, cv2.imencode(".png", picture)[1].tobytes())
    return path


def anchor_plot(wh: NDArray[Any], anchors: NDArray[Any], title: str = "") -> Picture:
    """2-d histograms of box widths and heights with the anchors as rings, BGR uint8.

    ``wh`` [n,2] and ``anchors`` [k,2]: width and height as fractions of the photo. Two rows with 32 and 64 bins a side,
    two columns with linear and logarithmic axes; colour is the logarithm of the count. Boxes without a finite, positive
    size are left out.
    """
    sizes = np.asarray(wh, np.float64).reshape(-1, 2)
    sizes = sizes[(np.isfinite(sizes) & (sizes > 0)).all(axis=1)]
    rings = np.asarray(anchors, np.float64).reshape(-1, 2)
    rows = [np.concatenate([_panel(sizes, rings, bins, log) for log in (False, True)], axis=1) for bins in (32, 64)]
    head = np.full((_HEAD, rows[0].shape[1], 3), 255, np.uint8)
    _text(head, f"{title}{', ' if title else ''}{len(sizes)} boxes", _LEFT, 30, 0.62, _INK)
    return np.concatenate([head, *rows], axis=0)


def _panel(sizes: NDArray[np.float64], anchors: NDArray[np.float64], bins: int, log: bool) -> Picture:
    """One histogram with its axes."""
    both = np.concatenate([sizes, anchors[(anchors > 0).all(axis=1)]])
    high = max(1.0, float(both.max(initial=0)))
    low = min(0.01, float(both.min(initial=1))) if log else 0.0

    def place(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fraction of the axis, 0..1."""
        part = np.log(np.maximum(values, low) / low) / np.log(high / low) if log else values / high
        return np.clip(part, 0, 1)

    edges = np.linspace(0, 1, bins + 1)
    across, up = place(sizes[:, 0]), place(sizes[:, 1])
    counts = np.histogram2d(across, up, bins=[edges, edges])[0] if len(sizes) else np.zeros((bins, bins))
    shade = np.log1p(counts) / np.log1p(max(counts.max(), 1))
    colours = cv2.applyColorMap(np.rint(shade * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    colours[counts == 0] = _PAPER
    plot = np.transpose(colours, (1, 0, 2))[::-1]  # width to the right, height upwards
    canvas = np.full((_TOP + _PANEL + _BOTTOM, _LEFT + _PANEL + _RIGHT, 3), 255, np.uint8)
    canvas[_TOP : _TOP + _PANEL, _LEFT : _LEFT + _PANEL] = cv2.resize(
        np.ascontiguousarray(plot), (_PANEL, _PANEL), interpolation=cv2.INTER_NEAREST
    )
    cv2.rectangle(canvas, (_LEFT, _TOP), (_LEFT + _PANEL, _TOP + _PANEL), _SOFT, 1)
    for value in _LOG if log else _LINEAR:
        if low <= value <= high:
            at = round(float(place(np.array([value]))[0]) * _PANEL)
            _text(canvas, f"{value:g}", _LEFT + at, _TOP + _PANEL + 18, 0.42, _SOFT, "middle")
            _text(canvas, f"{value:g}", _LEFT - 8, _TOP + _PANEL - at + 5, 0.42, _SOFT, "end")
            cv2.line(canvas, (_LEFT + at, _TOP + _PANEL), (_LEFT + at, _TOP + _PANEL + 4), _SOFT, 1)
            cv2.line(canvas, (_LEFT - 4, _TOP + _PANEL - at), (_LEFT, _TOP + _PANEL - at), _SOFT, 1)
    _text(canvas, "width", _LEFT + _PANEL // 2, _TOP + _PANEL + 42, 0.48, _INK, "middle")
    _text(canvas, "height", 4, _TOP - 10, 0.48, _INK)
    kind = "logarithmic" if log else "linear"
    _text(canvas, f"{kind} axes, {bins} bins", _LEFT + _PANEL, _TOP - 10, 0.48, _INK, "end")
    for w, h in place(anchors):
        centre = (_LEFT + round(w * _PANEL), _TOP + _PANEL - round(h * _PANEL))
        cv2.circle(canvas, centre, 7, _PAPER, 4, cv2.LINE_AA)
        cv2.circle(canvas, centre, 7, _ANCHOR, 2, cv2.LINE_AA)
    return canvas


def _text(
    canvas: Picture, text: str, x: int, y: int, scale: float, colour: tuple[int, int, int], anchor: str = "start"
) -> None:
    width = cv2.getTextSize(text, _FONT, scale, 1)[0][0]
    left = x - (width // 2 if anchor == "middle" else width if anchor == "end" else 0)
    cv2.putText(canvas, text, (left, y), _FONT, scale, colour, 1, cv2.LINE_AA)
