"""The drawings of an explanation: bars along the graph, and the spread of each layer's integers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from uhd.explain.tally import BINS, MOST_DB, Spread
from uhd.train.report.axes import Frame, Scale, legend, number, span

_WIDTH, _NAMES, _RIGHT, _TOP, _BOTTOM, _ROW = 620, 232, 14, 6, 40, 17
_SHORT = 36
_CELL, _HIGH, _DRAWN = 240, 64, 64


@dataclass(frozen=True)
class Bar:
    """One row: what it is called, its value (None: unknown), a second value beside it, and an error."""

    name: str
    value: float | None
    other: float | None = None
    error: float | None = None


def short_name(name: str) -> str:
    """A layer's name without what every name has: ``/depthwiseconv/towers/towers.0/dw/conv/Conv`` is ``towers.0/dw``.

    What is long keeps its end.
    """
    parts = [part for part in name.removeprefix("/depthwiseconv").split("/") if part]
    while len(parts) > 1 and parts[-1] in ("Conv", "conv"):
        parts.pop()
    following = [*parts[1:], ""]
    kept = [part for part, after in zip(parts, following, strict=False) if not after.startswith(f"{part}.")]
    short = "/".join(kept) or name
    return short if len(short) <= _SHORT else "…" + short[1 - _SHORT :]


def _frame(title: str, rows: Sequence[Bar], ends: tuple[float, float], x_label: str) -> Frame:
    """Rows with names at the left, a grid over ``ends``."""
    height = _TOP + _ROW * max(len(rows), 1) + _BOTTOM
    frame = Frame(
        title, Scale(*ends, _NAMES, _WIDTH - _RIGHT), Scale(0, 1, height - _BOTTOM, _TOP), width=_WIDTH, height=height
    )
    bottom = frame.y.start
    for value in frame.x.ticks(6):
        at = frame.x(value)
        frame.add('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>', at, at, float(_TOP), bottom)
        frame.add('<text class="tick mid" x="{}" y="{}">{}</text>', at, bottom + 15, number(value))
    frame.add('<text class="label mid" x="{}" y="{}">{}</text>', (_NAMES + _WIDTH - _RIGHT) / 2, height - 6, x_label)
    for place, row in enumerate(rows):
        text = '<text class="tick end" x="{}" y="{}">{}<title>{}</title></text>'
        frame.add(text, _NAMES - 6, _middle(place) + 4, short_name(row.name), row.name)
    return frame


def _middle(place: int) -> float:
    return _TOP + (place + 0.5) * _ROW


def _rect(frame: Frame, style: str, place: int, start: float, end: float, text: str) -> None:
    bar = '<rect class="bar {}" x="{}" y="{}" width="{}" height="{}" rx="1.5"><title>{}</title></rect>'
    left, right = sorted((frame.x(start), frame.x(end)))
    frame.add(bar, style, left, _middle(place) - 5, max(right - left, 0.8), 10.0, text)


def _unknown(frame: Frame, place: int, at: float) -> None:
    frame.add('<text class="tick" x="{}" y="{}">–</text>', frame.x(at) + 4, _middle(place) + 4)


def ratio_chart(rows: Sequence[Bar]) -> Markup:
    """Signal to quantization noise of every layer in dB, ``value`` as a bar and ``other`` as a dot."""
    known = [v for row in rows for v in (row.value, row.other) if v is not None and v < MOST_DB]
    low, high = span([*known, 0.0, 1.0], zero=True)
    frame = _frame("signal to quantization noise by layer", rows, (low, high), "dB, more is better")
    for place, row in enumerate(rows):
        if row.value is None:
            _unknown(frame, place, max(low, 0.0))
            continue
        _rect(frame, "s0", place, 0.0, row.value, f"{row.name}: {row.value:.1f} dB in the whole integer model")
        if row.other is not None:
            dot = '<circle class="dot s1" cx="{}" cy="{}" r="4"><title>{}</title></circle>'
            frame.add(dot, frame.x(row.other), _middle(place), f"{row.name}: {row.other:.1f} dB alone in integers")
    keys = [("s0", "in the whole integer model"), ("s1", "this layer alone in integers")]
    return legend(keys) + frame.svg()


def cost_chart(rows: Sequence[Bar]) -> Markup:
    """mAP that each layer costs, with a line of one standard error to both sides."""
    reach = [v + s * (row.error or 0.0) for row in rows if (v := row.value) is not None for s in (-1, 1)]
    low, high = span([*reach, 0.0, 1e-3], zero=True)
    frame = _frame("mAP that each layer costs", rows, (low, high), "mAP@0.5 lost, less is better")
    zero = frame.x(0.0)
    frame.add('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>', zero, zero, float(_TOP), frame.y.start)
    for place, row in enumerate(rows):
        if row.value is None:
            _unknown(frame, place, 0.0)
            continue
        error = "" if row.error is None else f" ± {row.error:.4f}"
        style = "s1" if row.value > 0 else "s2"
        _rect(frame, style, place, 0.0, row.value, f"{row.name}: {row.value:+.4f}{error}")
        if row.error:
            ends = frame.x(row.value - row.error), frame.x(row.value + row.error)
            frame.add('<line class="error" x1="{}" x2="{}" y1="{}" y2="{}"/>', *ends, _middle(place), _middle(place))
    return legend([("s1", "lost"), ("s2", "won"), ("whisker", "one standard error")]) + frame.svg()


def spread_chart(title: str, spread: Spread) -> Markup:
    """How often each integer comes, over the whole range of the type, on a logarithmic axis; the ends in red."""
    step = BINS // _DRAWN
    bins = [sum(spread.histogram[i : i + step]) for i in range(0, BINS, step)]
    top = math.log1p(max(bins))

    def height(count: float) -> float:
        return _HIGH * math.log1p(count) / top

    wide = _CELL / _DRAWN
    points = [f"M0 {_HIGH}"]
    for place, count in enumerate(bins):
        points.append(f"V{_HIGH - height(count):.1f}H{(place + 1) * wide:.4g}")
    parts = [Markup('<path class="bar s0" d="{}"/>').format("".join(points) + f"V{_HIGH}Z")]
    for share, left in ((spread.at_lowest, 0.0), (spread.at_highest, _CELL - 3.0)):
        if share:
            tall = height(share * spread.count)
            rect = Markup('<rect class="bar s6" x="{}" y="{}" width="3" height="{}"><title>{}</title></rect>')
            parts.append(rect.format(left, f"{_HIGH - tall:.1f}", f"{tall:.1f}", f"{share:.3%} at the end"))
    middle = Markup('<line class="grid" x1="{0}" x2="{0}" y1="0" y2="{1}"/>').format(_CELL / 2, _HIGH)
    axis = Markup('<line class="axis" x1="0" x2="{0}" y1="{1}" y2="{1}"/>').format(_CELL, _HIGH)
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(_CELL, _HIGH + 1, title)
    return head + middle + Markup("").join(parts) + axis + Markup("</svg>")
