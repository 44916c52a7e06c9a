"""The charts of the report as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from uhd.train.report.axes import Frame, legend, number, span

Points = Sequence[tuple[float, float]]
#: Colours that the style sheet holds.
COLOURS = 8
#: Points a line keeps at most; more cannot be seen.
_MAX_POINTS = 600


def _runs(points: Points, log: bool) -> list[list[tuple[float, float]]]:
    """Pieces of a line between points that cannot be drawn (not finite, or not positive on a log axis)."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if math.isfinite(y) and math.isfinite(x) and (y > 0 or not log):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def thinned(points: Points) -> Points:
    """At most about ``_MAX_POINTS`` of the points, evenly chosen, first and last included."""
    if len(points) <= _MAX_POINTS:
        return points
    chosen = np.unique(np.linspace(0, len(points) - 1, _MAX_POINTS).round().astype(int))
    return [points[i] for i in chosen]


def line_chart(
    title: str,
    lines: Mapping[str, Points],
    *,
    x_label: str = "epoch",
    y_label: str = "",
    zero: bool = False,
    log_y: bool = False,
) -> Markup:
    """Lines over epochs, with a legend where there is more than one; points are dots where they are few."""
    everything = [point for points in lines.values() for point in points]
    frame = Frame.plot(
        title,
        span((x for x, _ in everything), whole=True),
        span((y for _, y in everything), zero=zero, log=log_y),
        log_y=log_y,
    )
    whole = [(x, number(x)) for x in frame.x.ticks(6) if x == int(x)]
    frame.axes(x_label, y_label, x_ticks=whole)
    for place, (name, points) in enumerate(lines.items()):
        style = f"s{place % COLOURS}"
        for run in _runs(points, log_y):
            drawn = thinned(run)
            if len(drawn) > 1:
                frame.add('<polyline class="line {}" points="{}"/>', style, frame.path(drawn))
            if len(points) <= 60 or len(run) == 1:
                for x, y in drawn:
                    text = f"{name}, {x_label} {number(x)}: {number(y)}"
                    dot = '<circle class="dot {}" cx="{}" cy="{}" r="2.4"><title>{}</title></circle>'
                    frame.add(dot, style, frame.x(x), frame.y(y), text)
    keys = [(f"s{place % COLOURS}", name) for place, name in enumerate(lines)]
    return (legend(keys) if len(keys) > 1 else Markup("")) + frame.svg()


def pr_chart(precision: NDArray[Any], recall: NDArray[Any], best: int | None, threshold: float, f1: float) -> Markup:
    """Precision over recall with the point of the best F1 and lines of equal F1 behind it."""
    frame = Frame.plot("precision over recall at IoU 0.5", (0.0, 1.0), (0.0, 1.0))
    frame.axes("recall", "precision")
    for level in (0.2, 0.4, 0.6, 0.8):
        across = np.linspace(level / (2 - level), 1, 40)
        points = [(float(r), float(level * r / (2 * r - level))) for r in across]
        frame.add('<polyline class="iso" points="{}"/>', frame.path(points))
        frame.add('<text class="iso" x="{}" y="{}">F1 {}</text>', frame.x(1.0) - 32, frame.y(points[-1][1]) - 3, level)
    drawn = thinned(list(zip(recall.tolist(), precision.tolist(), strict=True)))
    if len(drawn):
        frame.add('<polyline class="line s0" points="{}"/>', frame.path(drawn))
    if best is not None:
        x, y = frame.x(float(recall[best])), frame.y(float(precision[best]))
        frame.add('<circle class="best" cx="{}" cy="{}" r="5"/>', x, y)
        left = x > frame.x(0.62)
        frame.add(
            '<text class="note {}" x="{}" y="{}">best F1 {} at score {}</text>',
            "end" if left else "",
            x - 9 if left else x + 9,
            max(y - 9, 26.0),
            f"{f1:.3f}",
            f"{threshold:.3f}",
        )
    return frame.svg()


def bar_chart(title: str, groups: Sequence[tuple[str, Sequence[float]]], names: Sequence[str], y_label: str) -> Markup:
    """Groups of bars side by side, each with its value; negative or non-finite values (undefined) are "none"."""
    values = [value for _, group in groups for value in group if math.isfinite(value) and value >= 0]
    frame = Frame.plot(title, (0.0, float(max(len(groups), 1))), span([*values, 0.0, 1e-3], zero=True))
    frame.axes("", y_label, x_ticks=[])
    for place, (label, group) in enumerate(groups):
        width = 0.76 / len(names)
        for k, value in enumerate(group):
            left, right = frame.x(place + 0.12 + k * width), frame.x(place + 0.12 + (k + 1) * width) - 1.5
            middle = (left + right) / 2
            if not math.isfinite(value) or value < 0:
                frame.add('<text class="value mid none" x="{}" y="{}">–</text>', middle, frame.y.start - 4)
                continue
            top = frame.y(value)
            bar = '<rect class="bar s{}" x="{}" y="{}" width="{}" height="{}" rx="2"><title>{}</title></rect>'
            text = f"{label}, {names[k]}: {number(value)}"
            frame.add(bar, k, left, top, right - left, max(frame.y.start - top, 0.5), text)
            frame.add('<text class="value mid" x="{}" y="{}">{}</text>', middle, top - 4, f"{value:.2f}".lstrip("0"))
        frame.add('<text class="tick mid" x="{}" y="{}">{}</text>', frame.x(place + 0.5), frame.y.start + 16, label)
    return legend([(f"s{k}", name) for k, name in enumerate(names)]) + frame.svg()


def histogram(
    title: str, edges: NDArray[Any], counts: Mapping[str, NDArray[Any]], *, x_label: str, mark: float | None = None
) -> Markup:
    """Counts a bin, the kinds side by side, on a logarithmic axis; ``mark`` is a threshold to draw."""
    high = float(max([1, *(part.max(initial=0) for part in counts.values())]))
    frame = Frame.plot(title, (float(edges[0]), float(edges[-1])), (0.7, high * 1.3), log_y=True)
    frame.axes(x_label, "detections (log scale)")
    for place, (name, part) in enumerate(counts.items()):
        for low, up, count in zip(edges, edges[1:], part, strict=False):
            if not count:
                continue
            wide = (frame.x(float(up)) - frame.x(float(low)) - 1) / len(counts)
            top = frame.y(float(count))
            text = f"{name}, score {low:.2f} to {up:.2f}: {int(count):,}"
            bar = '<rect class="bar s{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
            frame.add(bar, place, frame.x(float(low)) + 0.5 + place * wide, top, wide, frame.y.start - top, text)
    if mark is not None:
        at = frame.x(mark)
        frame.add('<line class="mark" x1="{}" x2="{}" y1="{}" y2="{}"/>', at, at, frame.y.start, frame.y.end)
        left = at > frame.x(0.7)
        text = '<text class="note {}" x="{}" y="{}">best F1</text>'
        frame.add(text, "end" if left else "", at - 5 if left else at + 5, frame.y.end + 10)
    return legend([(f"s{place}", name) for place, name in enumerate(counts)]) + frame.svg()


def size_chart(sizes: NDArray[Any], anchors: NDArray[Any]) -> Markup:
    """Anchors over a 2-d histogram of box widths and heights (fractions of the photo), both axes logarithmic."""
    kept = sizes[(sizes > 0).all(axis=1)]
    low = float(min([0.02, *anchors.ravel()[anchors.ravel() > 0].tolist(), *kept.ravel().tolist()]))
    high = float(max([1.0, *anchors.ravel().tolist()]))
    ends = (low / 1.1, high * 1.1)
    frame = Frame.plot("box sizes and anchors", ends, ends, log_x=True, log_y=True)
    edges = np.geomspace(*ends, 33)
    counts = np.histogram2d(kept[:, 0], kept[:, 1], bins=[edges, edges])[0] if len(kept) else np.zeros((32, 32))
    top = max(counts.max(), 1)
    for i, j in np.argwhere(counts > 0):
        x0, x1, y0, y1 = frame.x(edges[i]), frame.x(edges[i + 1]), frame.y(edges[j + 1]), frame.y(edges[j])
        strength = 0.12 + 0.88 * math.log1p(counts[i, j]) / math.log1p(top)
        cell = '<rect class="cell" fill-opacity="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
        frame.add(cell, f"{strength:.2f}", x0, y0, x1 - x0, y1 - y0, f"{int(counts[i, j])} boxes")
    frame.axes("width, fraction of the photo", "height")
    for place, (w, h) in enumerate(anchors.tolist(), start=1):
        text = f"anchor {place}: {w:.3f} × {h:.3f}"
        ring = '<circle class="anchor" cx="{}" cy="{}" r="5"><title>{}</title></circle>'
        frame.add(ring, frame.x(w), frame.y(h), text)
    keys = [("cell", f"{len(kept):,} validation boxes")] + [("anchor", f"{len(anchors)} anchors")] * bool(len(anchors))
    return legend(keys) + frame.svg()
