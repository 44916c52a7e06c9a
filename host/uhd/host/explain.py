"""``explain``: what integers do to a model, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.ui import emit_json, print_table, track

if TYPE_CHECKING:
    from uhd.explain.explanation import Explanation
    from uhd.explain.study import LayerStudy

EPILOG = """\b
Examples:
  python -m uhd.host explain host/uhd/zoo/ultratinyod_r_esp32s3_speed.espdl --photos val/
  python -m uhd.host explain model.espdl --photos val/ --float best.safetensors --report explain.html
  python -m uhd.host explain model.espdl --photos val/ --no-map --sort alone --top 10
  python -m uhd.host explain model.espdl --photos val/ --json | jq '.layers[] | [.name, .own_sqnr_db]'

\b
Columns: sqnr   signal to quantization noise of the layer's output, dB, all layers in integers
         alone  the same with this layer alone in integers: what it adds itself
         sums   that before the output is rounded: the noise of its filter
         maps   on the worst output map, this layer alone in integers
         cost   mAP@0.5 lost by this layer alone, and its standard error
         ends   share of the output on the ends of its type's range (saturated)
         room   bits left in the accumulator: for any input / reached on the photos

See docs/explain.md.
"""

#: What the table can be sorted by, worst first.
SORTS = ("sqnr", "alone", "cost", "ends", "room", "ms", "graph")


@click.command(epilog=EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--photos", required=True, type=click.Path(path_type=Path), help="Folder or list of photos.")
@click.option("--float", "float_path", type=click.Path(path_type=Path),
              help="Its float model, .onnx or checkpoint.  [default: shipped weights it was made from]")  # fmt: skip
@click.option("--target", type=click.Choice(["c", "esp32s3", "esp32p4"]), help="What it was quantized for, if unclear.")
@click.option("--limit", type=click.IntRange(min=1), default=64, show_default=True,
              help="Photos for ranges and ratios, evenly spread.")  # fmt: skip
@click.option("--map-photos", type=click.IntRange(min=1), default=200, show_default=True,
              help="Photos for the costs in mAP, evenly spread.")  # fmt: skip
@click.option("--no-map", is_flag=True, help="Leave the costs in mAP out.")
@click.option("--rates", type=click.Path(path_type=Path), help="Predict times with these rates (see `profile`).")
@click.option("--sort", type=click.Choice(SORTS), default="sqnr", show_default=True, help="Order of the table.")
@click.option("--top", type=click.IntRange(min=1), help="Show only so many layers.")
@click.option("--report", "page", type=click.Path(path_type=Path), help="Write a page with charts, .html.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(
    model: Path,
    photos: Path,
    float_path: Path | None,
    target: str | None,
    limit: int,
    map_photos: int,
    no_map: bool,
    rates: Path | None,
    sort: str,
    top: int | None,
    page: Path | None,
    as_json: bool,
) -> None:
    """Show what integers do to each layer of MODEL, a .espdl, on photos: noise, mAP, ranges, time.

    The float model is compared tensor by tensor. With YOLO labels beside the photos the cost of each layer in mAP is
    measured, too; that takes most of the time.
    """
    from uhd.explain.explanation import explain
    from uhd.explain.inputs import load_subject

    subject = load_subject(model, float_path, target)
    found = explain(
        model,
        subject,
        photos,
        limit=limit,
        map_photos=0 if no_map else map_photos,
        rates=rates,
        track=lambda items, title: track(items, title, quiet=as_json),
    )
    if page:
        from uhd.explain.page import write_page

        write_page(page, found, _again(model, photos, float_path, page))
    if as_json:
        emit_json(found.as_dict() | {"report": str(page) if page else None})
        return
    _print(found, sort, top)
    if page:
        click.echo(f"report: {page}")


def _again(model: Path, photos: Path, float_path: Path | None, page: Path) -> str:
    import shlex

    words = ["explain", str(model), "--photos", str(photos), "--report", str(page)]
    return "python -m uhd.host " + shlex.join(words + (["--float", str(float_path)] if float_path else []))


def ordered(layers: tuple[LayerStudy, ...], sort: str) -> list[tuple[int, LayerStudy]]:
    """Layers with their number in the graph, the worst by ``sort`` first; those without such a figure last."""
    keys: dict[str, Callable[[LayerStudy], float | None]] = {
        "sqnr": lambda s: s.sqnr,
        "alone": lambda s: s.own_sqnr,
        "cost": lambda s: -s.cost.map50 if s.cost else None,
        "ends": lambda s: -(s.spread.at_lowest + s.spread.at_highest),
        "room": lambda s: s.accumulator.reached_headroom if s.accumulator else None,
        "ms": lambda s: -s.time.total_ms if s.time else None,
        "graph": lambda s: 0.0,
    }
    known = [(keys[sort](item), number, item) for number, item in enumerate(layers, start=1)]
    return [(number, item) for _, number, item in sorted(known, key=lambda k: (k[0] is None, k[0] or 0.0, k[1]))]


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _row(number: int, item: LayerStudy) -> tuple[Any, ...]:
    layer, sums, cost, spread = item.layer, item.accumulator, item.cost, item.spread
    error = f" ± {cost.map50_error:.4f}" if cost and cost.map50_error is not None else ""
    return (
        number, layer.name, layer.op, f"{spread.used_bits} of {layer.bits}", _db(item.sqnr), _db(item.own_sqnr),
        _db(item.sums_sqnr), _db(item.maps_sqnr), f"{cost.map50:+.4f}{error}" if cost else "-",
        f"{spread.at_lowest + spread.at_highest:.2%}",
        f"{sums.bound_headroom:.1f} / {sums.reached_headroom:.1f}" if sums else "-",
        f"{item.time.total_ms:.2f}" if item.time else "-",
    )  # fmt: skip


def _print(found: Explanation, sort: str, top: int | None) -> None:
    model, costs = found.subject.model, found.costs
    header = ("", "layer", "op", "bits", "sqnr", "alone", "sums", "maps", "cost", "ends", "room", "ms")
    rows = [_row(number, item) for number, item in ordered(found.layers, sort)[:top]]
    print_table(f"{found.subject.manifest.name} on {model.target}, {found.photos} photos, by {sort}", rows, header)
    if found.subject.floating is None:
        click.echo("no float model: nothing to compare with; give it with --float")
    if costs and costs.floating and costs.integers and costs.whole:
        error = "" if costs.whole.map50_error is None else f" ± {costs.whole.map50_error:.4f}"
        click.echo(
            f"mAP@0.5 on {costs.pictures} photos: float {costs.floating.map50:.4f}, "
            f"all in integers {costs.integers.map50:.4f} (cost {costs.whole.map50:+.4f}{error})"
        )
    elif costs:
        click.echo("no boxes in labels beside the photos: mAP not measured")
    chip = found.prediction.chip
    click.echo(f"predicted: {found.prediction.total_ms:.2f} ms on {chip.name} ({chip.basis})")
    partnerless = [item.layer.name for item in found.layers if item.no_partner]
    if found.subject.floating and partnerless:
        click.echo(f"without a float partner: {', '.join(partnerless)}")
    for warning in found.warnings:
        click.echo(f"warning: {warning}")
