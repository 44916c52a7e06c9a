"""An explanation on one page that needs no other file, no network and no script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from uhd.device.parity_page import printable
from uhd.explain.charts import Bar, cost_chart, ratio_chart, short_name, spread_chart
from uhd.explain.explanation import Explanation
from uhd.explain.study import LayerStudy
from uhd.files import write_text
from uhd.train.report.axes import number

#: Share of integers at an end of the range from which a layer is marked.
MARKED_SHARE = 0.001


@dataclass(frozen=True)
class Tile:
    """A figure that stands out and the layer it is of."""

    name: str
    figure: Markup
    under: str
    first: bool = False


def write_page(path: Path, explanation: Explanation, command: str = "") -> None:
    """Write the page; ``command`` is shown as the way to write it again."""
    write_text(path, render(explanation, command))


def render(explanation: Explanation, command: str = "") -> str:
    """The page as HTML text."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loader = ChoiceLoader([PackageLoader("uhd.explain"), PackageLoader("uhd.train.report")])
    environment = Environment(
        loader=loader, undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"data": data, "short": lambda name: short_name(printable(name)), "safe_text": printable}
    style = "".join(loader.get_source(environment, name)[0] for name in ("report.css", "explain.css"))
    figures = explanation.as_dict()
    layers = explanation.layers
    names = [printable(item.layer.name) for item in layers]
    ratios = [Bar(name, item.sqnr, item.own_sqnr) for name, item in zip(names, layers, strict=True)]
    costs = [
        Bar(name, item.cost.map50 if item.cost else None, None, item.cost.map50_error if item.cost else None)
        for name, item in zip(names, layers, strict=True)
    ]
    return environment.get_template("explain.html.j2").render(
        style=Markup(style),  # noqa: S704 - our own files
        title=printable(figures["model"]),
        figures=figures,
        tags=_tags(explanation),
        tiles=tiles(explanation),
        ratio_chart=ratio_chart(ratios) if any(item.sqnr is not None for item in layers) else None,
        cost_chart=cost_chart(costs) if any(item.cost for item in layers) else None,
        spreads=[spread_chart(name, item.spread) for name, item in zip(names, layers, strict=True)],
        marked=MARKED_SHARE,
        command=printable(command),
    )


def data(value: float | None, form: str = "") -> Markup:
    """A figure as HTML: for people by ``form`` (such as ``%.1f``), whole for programs."""
    if value is None:
        return Markup('<data value="">–</data>')
    shown = form % value if form else number(value)
    if form and float(shown) == 0:
        shown = form % 0.0  # not "-0.0"
    shown = shown.replace("-", "−")
    return Markup('<data value="{}">{}</data>').format(repr(value), shown)


def _tags(explanation: Explanation) -> list[str]:
    subject = explanation.subject
    source = subject.float_source
    tags = [f"target {subject.model.target}", f"model {subject.model.sha256[:16]}", f"{explanation.photos} photos"]
    if explanation.costs:
        tags.append(f"mAP on {explanation.costs.pictures} photos, {explanation.costs.boxes} boxes")
    return [printable(tag) for tag in [*tags, f"float model {source.name}" if source else "no float model"]]


def tiles(explanation: Explanation) -> list[Tile]:
    """What stands out: whole figures first, then the worst layer of every kind."""
    found = []
    costs = explanation.costs
    if costs and costs.floating and costs.integers and costs.whole:
        under = f"float {costs.floating.map50:.4f}, {-costs.whole.map50:+.4f}".replace("-", "−")
        if costs.whole.map50_error is not None:
            under += f" ± {costs.whole.map50_error:.4f}"
        found.append(Tile("mAP@0.5, all in integers", data(costs.integers.map50, "%.4f"), under, True))
    worst: list[tuple[str, Callable[[LayerStudy], float | None], Callable[[Any], Markup]]] = [
        ("Noisiest alone", lambda s: s.own_sqnr, lambda v: data(v, "%.1f") + " dB"),
        ("Noisiest in the whole", lambda s: s.sqnr, lambda v: data(v, "%.1f") + " dB"),
        ("Dearest in mAP@0.5", lambda s: -s.cost.map50 if s.cost else None, lambda v: data(-v, "%+.4f")),
        ("Most at an end", lambda s: -_ends(s), lambda v: data(-v * 100, "%.2f") + " %"),
        ("Least head-room", lambda s: s.accumulator.reached_headroom if s.accumulator else None,
         lambda v: data(v, "%.1f") + " bits"),
        ("Slowest, predicted", lambda s: -s.time.total_ms if s.time else None, lambda v: data(-v, "%.2f") + " ms"),
    ]  # fmt: skip
    for name, key, shown in worst:
        values = [(value, item) for item in explanation.layers if (value := key(item)) is not None]
        if values:
            value, item = min(values, key=lambda pair: pair[0])
            found.append(Tile(name, shown(value), short_name(printable(item.layer.name))))
    return found


def _ends(item: LayerStudy) -> float:
    return item.spread.at_lowest + item.spread.at_highest
