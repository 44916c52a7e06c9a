"""The frame of an SVG chart: scales, ticks, grid and labels. Colours come from the page's style sheet by class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 14, 42


def number(value: float) -> str:
    """A number as people read it: four significant digits, no needless zeros, 12,345 from ten thousand on."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == int(value) and abs(value) < 1e15:
        text = f"{int(value):,}" if abs(value) >= 10000 else str(int(value))
    elif abs(value) >= 1000:
        text = f"{value:,.0f}"
    elif abs(value) < 1e-4:
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    else:
        text = f"{value:.4g}"
    return text.replace("-", "−")


@dataclass(frozen=True)
class Scale:
    """Data to pixels along one axis, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Pixel of ``value``; values beyond the ends stay on them."""
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        part = (at - low) / (high - low)
        return self.start + min(max(part, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values between the ends, about ``wanted`` of them."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            steps: tuple[float, ...] = (1.0,) if last - first >= 3 else (1.0, 2.0, 5.0)
            if self.high / self.low < 10:
                steps = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
            powers = range(first - 1, last + 1)
            found = [step * 10.0**p for p in powers for step in steps]
            found = [value for value in found if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]
            return found[:: math.ceil(len(found) / 8)] if found else [self.low, self.high]
        rough = (self.high - self.low) / wanted
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]


def span(values: Iterable[float], *, zero: bool = False, log: bool = False, whole: bool = False) -> tuple[float, float]:
    """Ends of an axis for the finite ``values``: round, never equal, with 0 if ``zero``; positive only if ``log``."""
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    if not finite:
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = min(finite), max(finite)
    if log:
        return (low / 1.15, high * 1.15) if high > low else (low / 2, high * 2)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    size = max(abs(low), abs(high))
    if high - low <= size * 1e-9:  # too close to draw, or for ticks between them
        margin = max(0.5, size * 1e-6) if whole else size * 0.1 + 1e-3
        low, high = low - margin, high + margin
        return (0.0, high) if zero and low < 0 <= high else (low, high)
    if whole:
        return low, high
    margin = (high - low) * 0.06
    return (low if zero and low == 0 else low - margin), (high if zero and high == 0 else high + margin)


@dataclass
class Frame:
    """Parts of one chart, joined by ``svg``."""

    title: str
    x: Scale
    y: Scale
    parts: list[Markup] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT

    @classmethod
    def plot(
        cls, title: str, x: tuple[float, float], y: tuple[float, float], *, log_x: bool = False, log_y: bool = False
    ) -> Frame:
        """A frame whose axes run over ``x`` and ``y``."""
        return cls(
            title,
            Scale(*x, LEFT, WIDTH - RIGHT, log_x),
            Scale(*y, HEIGHT - BOTTOM, TOP, log_y),
        )

    def add(self, text: str, *values: object) -> None:
        """Add SVG: ``text`` with ``{}`` places for values, which are escaped; floats get one decimal."""
        shown = [f"{v:.1f}" if isinstance(v, float) else v for v in values]
        self.parts.append(Markup(text).format(*shown))  # noqa: S704 - the format string is ours, values are escaped

    def path(self, points: Iterable[tuple[float, float]]) -> str:
        """Data points as the ``points`` of a polyline."""
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)

    def axes(
        self,
        x_label: str,
        y_label: str,
        *,
        x_ticks: Sequence[tuple[float, str]] | None = None,
        y_ticks: Sequence[tuple[float, str]] | None = None,
    ) -> None:
        """Grid, ticks and labels; ``x_ticks`` are (value, text) where they are not numbers of the scale."""
        bottom, left, right = self.y.start, self.x.start, self.x.end
        for value, text in [(v, number(v)) for v in self.y.ticks()] if y_ticks is None else y_ticks:
            at = self.y(value)
            self.add('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>', left, right, at, at)
            self.add('<text class="tick end" x="{}" y="{}">{}</text>', left - 6.0, at + 4.0, text)
        for value, text in [(v, number(v)) for v in self.x.ticks()] if x_ticks is None else x_ticks:
            self.add('<text class="tick mid" x="{}" y="{}">{}</text>', self.x(value), bottom + 16.0, text)
        self.add('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>', left, right, bottom, bottom)
        middle = (left + right) / 2
        self.add('<text class="label mid" x="{}" y="{}">{}</text>', middle, self.height - 6.0, x_label)
        up = (self.y.start + self.y.end) / 2
        self.add('<text class="label mid" transform="translate(11 {}) rotate(-90)">{}</text>', up, y_label)

    def svg(self) -> Markup:
        """The chart as one element with a title for screen readers."""
        head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            self.width, self.height, self.title
        )
        return head + Markup("").join(self.parts) + Markup("</svg>")


def legend(names: Sequence[tuple[str, str]]) -> Markup:
    """A line of (class, name) keys above a chart."""
    key = Markup('<span class="key"><i class="{}"></i>{}</span>')
    keys = [key.format(style, name) for style, name in names]
    return Markup('<div class="legend">') + Markup("").join(keys) + Markup("</div>")
