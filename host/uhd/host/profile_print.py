"""What ``profile`` prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from uhd.host.ui import emit_json, human_bytes, print_table, track

if TYPE_CHECKING:
    from uhd.predict.latency import Prediction
    from uhd.predict.refit import Errors
    from uhd.profile.calibrate import Calibration
    from uhd.profile.cost import LayerCost, ModelCost


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "-"


def print_cost(cost: ModelCost, top: int | None, as_json: bool, prediction: Prediction | None = None) -> None:
    """The table of a model's layers in their order, or of the ``top`` most expensive by time or, without it, FLOPs."""
    if as_json:
        found = cost.as_dict()
        if prediction:
            chip, where = prediction.chip, prediction.placement.weights
            told = {"target": chip.name, "fitted": chip.fitted, "basis": chip.basis, "weights_in": where}
            found["predicted"] = told | {"ms": prediction.total_ms}
        emit_json(found)
        return

    def weight(layer: LayerCost) -> float:
        return layer.flops if layer.milliseconds is None else layer.milliseconds

    layers = sorted(cost.layers, key=weight, reverse=True)[:top] if top else list(cost.layers)
    per_ms = prediction.chip.clock_hz / 1000 if prediction else 0.0
    rows = [
        [layer.name, layer.kind, _shape(layer.output_shape), f"{layer.parameters:,}", f"{layer.macs:,}",
         f"{layer.flops:,}", f"{layer.output_bytes:,}"]
        + ([] if layer.milliseconds is None else [f"{layer.milliseconds * per_ms:,.0f}", f"{layer.milliseconds:.3f}"])
        for layer in layers
    ]  # fmt: skip
    header = ["layer", "kind", "output", "params", "MACs", "FLOPs", "bytes out"]
    print_table(cost.source, rows, header + (["predicted cycles", "ms"] if prediction else []))
    click.echo(f"parameters   {cost.parameters:,} ({human_bytes(cost.weight_bytes)})")
    click.echo(f"MACs         {cost.macs:,}")
    click.echo(f"FLOPs        {cost.flops:,} ({cost.flops / 1e9:.4f} G)")
    click.echo(f"activations  {human_bytes(cost.peak_activation_bytes)} at most at once")
    if prediction:
        chip, where = prediction.chip, prediction.placement.weights
        click.echo(f"predicted    {prediction.total_ms:.2f} ms on {chip.name}, weights in {where} ({chip.basis})")


def print_tables(as_json: bool) -> int:
    """Every published variant beside what is counted here; 1 if a cell contradicts."""
    from uhd.profile.published import LEFT_OUT, TABLES, compare
    from uhd.profile.speed import published_speed

    cells = [cell for family in track(list(TABLES), "count", quiet=as_json) for cell in compare((family,))]
    off = [cell for cell in cells if cell.off]
    speeds = published_speed()
    if as_json:
        emit_json({
            "cells": [asdict(cell) | {"agrees": cell.agrees, "off": cell.off} for cell in cells],
            "left_out": LEFT_OUT,
            "latency": [asdict(speed) for speed in speeds],
            "off": len(off),
        })  # fmt: skip
        return bool(off)
    rows = []
    for params, flops in zip(cells[::2], cells[1::2], strict=True):
        verdict = "yes" if params.agrees and flops.agrees else "NO" if params.off or flops.off else "see below"
        rows.append((params.family, params.letter, params.width, f"{params.counted:.4f}", f"{params.published:.2f}",
                     f"{flops.counted:.4f}", f"{flops.published:.2f}", verdict))  # fmt: skip
    header = ("table", "variant", "width", "params M", "published", "FLOPs G", "published", "agrees")
    print_table("published tables: parameters and FLOPs, counted from shapes", rows, header)
    good = sum(cell.agrees for cell in cells)
    click.echo(f"{good} of {len(cells)} cells agree to their two decimals")
    for cell in cells:
        if not cell.agrees:
            what = f"{cell.family} {cell.letter} {cell.column}: published {cell.published}, counted {cell.counted:.4f}"
            click.echo(f"  {what}: {cell.reason or 'CONTRADICTS'}")
    for column, reason in LEFT_OUT.items():
        click.echo(f"  not compared: {column} ({reason})")
    print_table(
        "published latency on an ESP32-S3 beside the predicted one (fitted to these figures; the last column is not)",
        [
            (s.variant, s.preset, f"{s.published_ms:.2f}", f"{s.predicted_ms:.2f}", f"{s.left_out_ms:.2f}")
            for s in speeds
        ],
        ("variant", "preset", "published ms", "predicted ms", "fitted without it"),
    )
    return bool(off)


def print_calibration(
    path: Path,
    text: str,
    target: str | None,
    weights: str | None,
    rates: Path | None,
    output: Path | None,
    fit: bool,
    top: int | None,
    as_json: bool,
) -> None:
    """A board's times beside predicted ones; writes the refitted rates."""
    from uhd.espdl.reader import read_espdl
    from uhd.predict.chips import chip_with
    from uhd.predict.latency import Memory
    from uhd.predict.rates import save_rates
    from uhd.profile.board_log import parse
    from uhd.profile.calibrate import calibrate

    model = read_espdl(path, target)
    name = target or (model.target if model.target != "c" else "esp32s3")
    chip = chip_with(name, rates)
    found = calibrate(model, path, parse(text), chip, cast("Memory | None", weights), fit)
    written = None
    if found.rates:
        written = output or Path(f"latency_{name}.json")
        save_rates(written, found.rates)
    if as_json:
        emit_json(_as_dict(found, written))
        return
    after = {time.op.name: time.total_ms for time in found.refitted}
    rows = [
        (time.op.name, time.op.kind, f"{ms:.3f}", f"{time.total_ms:.3f}", f"{time.total_ms - ms:+.3f}")
        + ((f"{after[time.op.name]:.3f}",) if after else ())
        for time in sorted(found.predicted, key=lambda t: -found.measured.ms[t.op.name])[:top]
        for ms in (found.measured.ms[time.op.name],)
    ]
    header = ("operator", "kind", "measured ms", "predicted ms", "difference") + (("refitted ms",) if after else ())
    title = f"{path.name} on {name}, weights in {found.placement.weights}: a board's times beside predicted ones"
    print_table(title, rows, header)
    _print_measured(found)
    click.echo(f"before  {_errors(found.errors)}  ({chip.basis})")
    if found.rates:
        click.echo(f"after   {_errors(found.rates.after)}  (the fit itself)")
        click.echo(f"held    {_errors(found.rates.left_out)}  (each operator by a fit to the others)")
        if found.rates.kept:
            click.echo(f"as they were, for this model says nothing of them: {', '.join(found.rates.kept)}")
        click.echo(f"rates: {written}; use them with `espdl predict`, `explain` or `profile` and --rates {written}")
    elif found.why_not:
        click.echo(f"not fitted: {found.why_not}")


def _print_measured(found: Calibration) -> None:
    measured = found.measured
    click.echo(
        f"measured {measured.total_ms:.2f} ms, {len(measured.ms)} operators joined by {measured.by}, "
        f"{measured.runs} profile(s), {measured.whole_runs} whole"
    )
    if not measured.whole_runs:
        click.echo("warning: no table is whole; rows are lost, and the sum is too low")
    if measured.missing:
        click.echo(f"without a time: {', '.join(measured.missing)}")
    if measured.unknown:
        click.echo(f"not in the file: {', '.join(measured.unknown)}")


def _errors(errors: Errors) -> str:
    return f"whole {errors.total:+.1%}, operators differ by {errors.operators:.1%} of it"


def _as_dict(found: Calibration, written: Path | None) -> dict[str, Any]:
    measured = found.measured
    after = {time.op.name: time.total_ms for time in found.refitted}
    return {
        "target": found.chip.name,
        "basis": found.chip.basis,
        "weights_in": found.placement.weights,
        "measured_ms": measured.total_ms,
        "profiles": measured.runs,
        "whole_profiles": measured.whole_runs,
        "joined_by": measured.by,
        "missing": measured.missing,
        "unknown": measured.unknown,
        "operators": [
            {"name": time.op.name, "kind": time.op.kind, "measured_ms": measured.ms[time.op.name],
             "predicted_ms": time.total_ms, "refitted_ms": after.get(time.op.name)}
            for time in found.predicted
        ],
        "before": asdict(found.errors),
        "after": asdict(found.rates.after) if found.rates else None,
        "left_out": asdict(found.rates.left_out) if found.rates else None,
        "rates": str(written) if written else None,
        "not_fitted": found.why_not or None,
    }  # fmt: skip
