"""The drawings of a parity report: scores against scores, steps between integers and floats, times over a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from uhd.device.parity_record import MOST_STEPS
from uhd.train.report.axes import Frame, legend, number, span
from uhd.train.report.charts import COLOURS, thinned

#: Dots in one chart at most; the rest of a longer run is thinned out evenly.
_MOST_DOTS = 1500
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def score_chart(
    x_label: str, y_label: str, points: Sequence[tuple[float, float, str]], kinds: Sequence[int], names: Sequence[str]
) -> Markup:
    """Best score of each photo by two engines, with the line on which they agree.

    ``points``: score on x, score on y, what to call the photo; ``kinds``: place in ``names`` of each point.
    """
    frame = Frame.plot(f"best score of each photo, {y_label} over {x_label}", (0.0, 1.0), (0.0, 1.0))
    frame.axes(x_label, y_label)
    frame.add('<polyline class="iso" points="{}"/>', frame.path([(0, 0), (1, 1)]))
    step = max(1, -(-len(points) // _MOST_DOTS))
    for (x, y, name), kind in list(zip(points, kinds, strict=True))[::step]:
        text = f"{name}: {x_label} {x:.3f}, {y_label} {y:.3f}"
        dot = '<circle class="dot faint {}" cx="{}" cy="{}" r="3"><title>{}</title></circle>'
        frame.add(dot, f"s{kind}", frame.x(x), frame.y(y), text)
    return legend([(f"s{kind}", name) for kind, name in enumerate(names)]) + frame.svg()


def step_chart(title: str, counts: Mapping[str, Sequence[int]]) -> Markup:
    """Histograms over integer differences, one line a map, as shares of the map's integers on a logarithmic axis.

    Each histogram runs from -``MOST_STEPS`` to ``MOST_STEPS``; only the part that is not empty is drawn.
    """
    shares = {name: [count / max(sum(row), 1) for count in row] for name, row in counts.items()}
    filled = [(i - MOST_STEPS, share) for row in shares.values() for i, share in enumerate(row) if share]
    reach = max([2, *(abs(step) for step, _ in filled)])
    low = min([1e-2, *(share for _, share in filled)]) / 2
    frame = Frame.plot(title, (-reach - 0.5, reach + 0.5), (low, 1.6), log_y=True)
    ticks = [(float(v), number(v)) for v in frame.x.ticks(8) if v == int(v)]
    powers = [(10.0**p, "1" if p == 0 else f"10{str(p).translate(_RAISED)}") for p in range(-9, 1) if 10.0**p >= low]
    frame.axes("integer minus float, in steps of the integer", "share of the map", x_ticks=ticks, y_ticks=powers)
    for place, (name, row) in enumerate(shares.items()):
        style = f"s{place % COLOURS}"
        outline = []
        for i, share in list(enumerate(row))[MOST_STEPS - reach : MOST_STEPS + reach + 1]:
            at = i - MOST_STEPS
            outline += [(at - 0.5, max(share, low)), (at + 0.5, max(share, low))]
            if share and reach <= 24:  # wide enough to point at
                text = f"{name}: {at:+d}, {counts[name][i]:,} ({share:.3%})"
                dot = '<circle class="dot {}" cx="{}" cy="{}" r="2.4"><title>{}</title></circle>'
                frame.add(dot, style, frame.x(at), frame.y(share), text)
        frame.add('<polyline class="line {}" points="{}"/>', style, frame.path(outline))
    return legend([(f"s{place % COLOURS}", name) for place, name in enumerate(shares)]) + frame.svg()


def time_chart(values: Sequence[float], y_label: str) -> Markup:
    """One value a photo in the order of the run, so that drift and outliers are seen."""
    points = [(float(i + 1), value) for i, value in enumerate(values)]
    frame = Frame.plot(f"{y_label} over the run", span((x for x, _ in points), whole=True), span(values, zero=True))
    whole = [(x, number(x)) for x in frame.x.ticks(6) if x == int(x)]
    frame.axes("photo", y_label, x_ticks=whole)
    for x, y in thinned(points):
        frame.add('<circle class="dot s0" cx="{}" cy="{}" r="1.8"/>', frame.x(x), frame.y(y))
    return frame.svg()
