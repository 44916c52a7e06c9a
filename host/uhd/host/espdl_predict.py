"""``espdl predict``: time and memory of a .espdl file on a chip, before it is flashed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from uhd.host.ui import emit_json, human_bytes, print_table

EPILOG = """\b
Examples:
  python -m uhd.host espdl predict model.espdl
  python -m uhd.host espdl predict model.espdl --weights sram --top 10
  python -m uhd.host espdl predict model.espdl --json | jq .total_ms

Nothing here is measured: the rates are fitted to eleven published latencies on an ESP32-S3, or, with --rates, to a
board's profile of one model (docs/latency.md).
"""


@click.command("predict", epilog=EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", type=click.Choice(["esp32s3", "esp32p4"]), help="The chip. Default: what the file shows.")
@click.option("--weights", type=click.Choice(["psram", "sram", "flash"]), default="psram", show_default=True,
              help="Memory that the weights run from.")  # fmt: skip
@click.option("--activations", type=click.Choice(["psram", "sram"]), default="psram", show_default=True,
              help="Memory of the activations (counted, without effect on the time).")  # fmt: skip
@click.option("--rates", type=click.Path(path_type=Path), help="Rates that `profile` wrote. Default: built in.")
@click.option("--top", type=click.IntRange(min=1), help="Show only the slowest operators.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(
    model: Path,
    target: str | None,
    weights: str,
    activations: str,
    rates: Path | None,
    top: int | None,
    as_json: bool,
) -> None:
    """Predict milliseconds of each operator of MODEL, and the memory it needs."""
    from typing import cast

    from uhd.espdl.reader import read_espdl
    from uhd.predict.chips import chip_with
    from uhd.predict.latency import Memory, Placement, predict
    from uhd.predict.memory import memory_need
    from uhd.predict.placement import choices, fastest
    from uhd.predict.workload import workload

    read = read_espdl(model, target)
    name = target or (read.target if read.target != "c" else "esp32s3")
    where = Placement(cast(Memory, weights))
    prediction = predict(workload(read), chip_with(name, rates), where)
    need = memory_need(read, model, name, weights=where.weights, activations=cast(Memory, activations))
    places = choices(read, prediction.chip)
    ordered = sorted(prediction.ops, key=lambda time: -time.total_ms)[:top] if top else prediction.ops
    if as_json:
        emit_json({
            "predicted": True,
            "target": name,
            "fitted": prediction.chip.fitted,
            "basis": prediction.chip.basis,
            "total_ms": prediction.total_ms,
            "operators": [
                {"name": t.op.name, "kind": t.op.kind, "bits": t.op.bits, "ms": t.total_ms, "compute_ms": t.compute_ms,
                 "fetch_ms": t.fetch_ms, "requantize_ms": t.requantize_ms, "other_ms": t.other_ms}
                for t in ordered
            ],
            "memory": {"board": need.board.name, "fits": need.fits, "buffers": [asdict(b) for b in need.buffers]},
            "placements": [asdict(choice) for choice in places],
        })  # fmt: skip
        return
    rows = [
        (t.op.name, t.op.kind, t.op.bits, f"{t.compute_ms:.2f}", f"{t.fetch_ms:.2f}", f"{t.requantize_ms:.2f}",
         f"{t.other_ms:.2f}", f"{t.total_ms:.2f}", f"{t.total_ms / prediction.total_ms:.0%}")
        for t in ordered
    ]  # fmt: skip
    header = ("operator", "kind", "bits", "compute ms", "fetch ms", "requantize ms", "other ms", "ms", "")
    print_table(f"{model.name} on {name}, weights in {weights}: predicted ({prediction.chip.basis})", rows, header)
    click.echo(f"predicted time of an inference: {prediction.total_ms:.2f} ms")
    print_table(
        f"memory on {need.board.name}",
        [(b.name, b.memory, human_bytes(b.bytes)) for b in need.buffers],
        ("buffer", "memory", "bytes"),
    )
    click.echo("it fits" if need.fits else "it does not fit")
    click.echo("placements, predicted (in brackets: internal memory, activations included):")
    for choice in places:
        click.echo(f"  {choice}" + ("  <- fastest of those that fit" if choice is fastest(places) else ""))
