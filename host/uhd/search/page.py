"""A search on one page that needs no other file, and its chart as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from uhd.device.parity_page import printable
from uhd.explain.page import data
from uhd.files import write_text
from uhd.search.inputs import Figures
from uhd.search.journal import Measured
from uhd.search.result import cross_check, loss_of
from uhd.search.search import Found
from uhd.train.report.axes import Frame, legend, number, span

#: What a candidate is, by its colour.
KINDS = (("s7", "int8, as calibrated"), ("s2", "int8, weights changed"), ("s0", "with int16"), ("s1", "the winner"))
_STYLE = (
    "text{font:11.5px sans-serif;fill:#59636e}.mid{text-anchor:middle}.end{text-anchor:end}.grid{stroke:#dfe3e8}"
    ".axis{stroke:#59636e}.iso{fill:none;stroke:#59636e;stroke-dasharray:4 4}.line{fill:none;stroke:#15191e}"
    ".s7{fill:#6b7280}.s2{fill:#0f9d6b}.s0{fill:#2563eb}.s1{fill:#e8590c}"
)


def kind_of(found: Found, measured: Measured) -> int:
    """Place in ``KINDS``."""
    if found.winner is measured:
        return 3
    if measured.candidate.int16:
        return 2
    base = measured.candidate.base
    return 0 if base == base.plain else 1


def pareto_chart(floating: Figures, found: Found) -> Frame:
    """mAP@0.5 against predicted milliseconds: a dot a candidate, the front, the float model and the budget."""
    shown = [m for m in found.measured if not m.refused]
    x = span([m.predicted_ms for m in shown] + [found.budget.max_ms])
    y = span([m.map50 for m in shown] + [floating.map50])
    frame = Frame.plot("mAP@0.5 against predicted milliseconds", x, y)
    frame.axes("predicted ms", "mAP@0.5")
    frame.add('<polyline class="iso" points="{}"/>', frame.path([(x[0], floating.map50), (x[1], floating.map50)]))
    frame.add('<text class="tick end" x="{}" y="{}">float</text>', frame.x(x[1]), frame.y(floating.map50) - 4)
    limit = found.budget.max_ms
    frame.add('<polyline class="iso" points="{}"/>', frame.path([(limit, y[0]), (limit, y[1])]))
    frame.add('<text class="tick end" x="{}" y="{}">budget</text>', frame.x(limit) - 4, frame.y(y[0]) - 4)
    steps: list[tuple[float, float]] = []
    for measured in found.front:
        steps += [(measured.predicted_ms, steps[-1][1])] if steps else []
        steps.append((measured.predicted_ms, measured.map50))
    frame.add('<polyline class="line s7" style="fill:none" points="{}"/>', frame.path(steps))
    for measured in sorted(shown, key=lambda m: kind_of(found, m)):
        kind = kind_of(found, measured)
        text = f"{measured.candidate.title}: {measured.map50:.4f}, {measured.predicted_ms:.2f} ms"
        dot = '<circle class="dot {}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>'
        frame.add(dot, KINDS[kind][0], frame.x(measured.predicted_ms), frame.y(measured.map50), 6 if kind == 3 else 3,
                  printable(text))  # fmt: skip
    return frame


def write_svg(path: Path, floating: Figures, found: Found) -> None:
    """The chart as a picture of its own."""
    drawn = str(pareto_chart(floating, found).svg())
    head = '<svg xmlns="http://www.w3.org/2000/svg" style="background:#fff" '
    body = drawn.replace("<svg ", head, 1).replace(">", f"><style>{_STYLE}</style>", 1)
    write_text(path, body + "\n")


def render(title: str, tags: Sequence[str], floating: Figures, found: Found, command: str) -> str:
    """The page as HTML text."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    packages = ("uhd.search", "uhd.explain", "uhd.train.report")
    loader = ChoiceLoader([PackageLoader(name) for name in packages])
    environment = Environment(
        loader=loader, undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"data": data, "safe_text": printable, "figure": number}
    style = "".join(loader.get_source(environment, name)[0] for name in ("report.css", "explain.css"))
    ordered = sorted((m for m in found.measured if not m.refused), key=lambda m: (-m.map50, m.predicted_ms))
    front = set(map(id, found.front))
    return environment.get_template("search.html.j2").render(
        style=Markup(style),  # noqa: S704 - our own files
        title=printable(title),
        tags=[printable(tag) for tag in tags],
        floating=floating,
        found=found,
        chart=legend(KINDS) + pareto_chart(floating, found).svg(),
        rows=[(m, *loss_of(floating, m), id(m) in front, found.budget.allows(m)) for m in ordered],
        refused=[m for m in found.measured if m.refused],
        check=cross_check(floating, found),
        winner_loss=loss_of(floating, found.winner) if found.winner else None,
        command=printable(command),
    )


def write_page(path: Path, title: str, tags: Sequence[str], floating: Figures, found: Found, command: str) -> None:
    """Write the page."""
    write_text(path, render(title, tags, floating, found, command))
