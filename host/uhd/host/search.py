"""``search``: the quantization of a model that keeps the most mAP under a budget of predicted time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.ui import Steps, emit_json, print_table

if TYPE_CHECKING:
    from uhd.search.inputs import Figures
    from uhd.search.search import Found

EPILOG = """\b
Examples:
  python -m uhd.host search --variant Z --target esp32s3 --photos train/ --val val/ --output runs/search_z
  python -m uhd.host search --checkpoint best.safetensors --target esp32s3 --photos train/ --val val/ \\
    --output runs/mine --max-ms 40 --max-sram 100k
  python -m uhd.host search --checkpoint model.onnx --target esp32p4 --photos train/ --val val/ --output runs/p4

Kill it at any time: the same command goes on where it was.
"""


@click.command(epilog=EPILOG)
@click.option("--variant", help="Letter of a shipped variant.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Own weights, or a parts ONNX file, instead.")
@click.option("--target", required=True, type=click.Choice(["esp32s3", "esp32p4"]), help="Chip.")
@click.option("--photos", required=True, type=click.Path(path_type=Path), help="Folder of photos to calibrate on.")
@click.option("--val", required=True, type=click.Path(path_type=Path), help="Labelled photos to measure mAP on.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder for everything.")
@click.option("--max-ms", type=click.FloatRange(0, min_open=True),
              help="Most predicted milliseconds.  [default: 1.3 times the best int8 model's]")  # fmt: skip
@click.option("--max-sram", metavar="SIZE", help="Most bytes of SRAM for activations.  [default: what the board has]")
@click.option("--rates", type=click.Path(path_type=Path), help="Predict times with these rates (see `profile`).")
@click.option("--calib-steps", default=256, show_default=True, help="Photos to calibrate on, spread over the folder.")
@click.option("--tqt-steps", default=100, show_default=True, metavar="N", help="Steps of TQT where it is tried; 0: no.")
@click.option("--algorithms", default="kl,minmax,percentile,mse", show_default=True, help="Calibrations to try.")
@click.option("--candidates", default=120, show_default=True, type=click.IntRange(min=1),
              help="About how many to measure; all base settings and single operators come first.")  # fmt: skip
@click.option("--processes", default=2, show_default=True, type=click.IntRange(1, 64), help="How many at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print search.json.")
def command(
    variant: str | None,
    checkpoint: Path | None,
    target: str,
    photos: Path,
    val: Path,
    output: Path,
    max_ms: float | None,
    max_sram: str | None,
    rates: Path | None,
    calib_steps: int,
    tqt_steps: int,
    algorithms: str,
    candidates: int,
    processes: int,
    as_json: bool,
) -> None:
    """Find calibration, weight changes and int16 operators that keep the most mAP@0.5 under a budget.

    Every candidate is quantized, compiled for this machine and run on all validation photos. Time and memory are
    predicted. Writes search.json, search.html, pareto.svg and the winner's .espdl with its manifest.
    """
    import json
    import shlex
    import shutil
    from dataclasses import replace

    from uhd import zoo
    from uhd.data.yolo import load_split
    from uhd.errors import ConfigError
    from uhd.files import write_text
    from uhd.host.quantize import float_model
    from uhd.predict.chips import chip_with
    from uhd.predict.memory import BOARDS
    from uhd.quantize.calibration import from_photos
    from uhd.quantize.settings import Settings
    from uhd.quantize.trained import trained_of
    from uhd.search import crew as crews
    from uhd.search import result
    from uhd.search.finish import Source, write_winner
    from uhd.search.inputs import prepare
    from uhd.search.journal import Journal
    from uhd.search.page import write_page, write_svg
    from uhd.search.search import Plan, search

    if (variant is None) == (checkpoint is None):
        raise ConfigError("name one model", hint="give --variant or --checkpoint")
    model = checkpoint or zoo.checkpoint_path(str(variant))
    plan_sram = _bytes(max_sram) if max_sram else BOARDS[target].sram
    tried = tuple(name.strip() for name in algorithms.split(","))
    for name in tried:
        Settings(target, algorithm=name, tqt_steps=tqt_steps).check()
    chip_with(target, rates)  # before anything is computed
    steps = Steps(4, quiet=as_json)
    work, known = output / "work", output / "candidates.jsonl"
    if not known.exists():
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    steps.start(f"read      {model}")
    onnx, manifest = float_model(model, work, None, None)
    record = trained_of(manifest)
    trained = record is not None and not record.obstacle(Settings(target))
    pictures = from_photos(photos, manifest, calib_steps)
    steps.done(f"{manifest.name}, calibration on {pictures.description}")
    steps.start(f"photos    {val}")
    inputs, floating = prepare(
        onnx, manifest, target, pictures.array, pictures.description, load_split(val), lambda what, done, total: None
    )
    inputs = replace(inputs, rates=rates.resolve() if rates else None)
    inputs.save(work / crews.INPUTS)
    journal = Journal(known, inputs.digest() | {"tqt_steps": tqt_steps})
    steps.done(f"{len(inputs.networks)} photos, float mAP@0.5 {floating.map50:.4f}")
    steps.start(f"search    {len(journal.known)} candidates known")
    with crews.open_crew(work, processes) as crew:
        plan = Plan(tqt_steps, trained, max_ms, plan_sram, candidates, tried)
        found = search(plan, crew, journal, _Tell(steps))
    steps.done(f"{len(found.measured)} candidates")
    steps.start("winner")
    words: tuple[str, ...] = ()
    if found.winner:
        source = Source(model, photos, calib_steps, f"{len(inputs.networks)} photos of {val.name}", record is not None)
        winner = write_winner(inputs, work, found.winner, output, source, lambda *progress: None)
        words = winner.command
    line = "python -m uhd.host " + shlex.join(words) if words else ""
    content = result.as_dict(floating, found, words, len(inputs.networks))
    tags = [f"target {target}", f"{len(inputs.networks)} photos", f"calibrated on {pictures.description}"]
    write_svg(output / "pareto.svg", floating, found)
    write_page(output / "search.html", manifest.name, tags, floating, found, line)
    write_text(output / "search.json", json.dumps(content, indent=1, sort_keys=True) + "\n")
    shutil.rmtree(work)
    steps.done(str(output / "search.html"))
    if as_json:
        emit_json(content)
    else:
        _print(manifest.name, floating, found, line)


def _bytes(text: str) -> int:
    """``300k`` or ``307200``."""
    from uhd.errors import ConfigError

    number, unit = (text[:-1], 1024) if text.lower().endswith("k") else (text, 1)
    if not number.isdecimal() or int(number) == 0:
        raise ConfigError(f"--max-sram {text}", hint="write bytes, or KB such as 300k")
    return int(number) * unit


class _Tell:
    """A line at the start of each part of the search, then one every ten seconds."""

    def __init__(self, steps: Steps) -> None:
        self._steps, self._what, self._last = steps, "", 0.0

    def __call__(self, what: str, done: int, total: int, left: float) -> None:
        import time

        now = time.monotonic()
        if what == self._what and done < total and now - self._last < 10:
            return
        self._what, self._last = what, now
        self._steps.note(f"{what}: {done} of {total}" + (f", {left:.0f} s left" if left else ""))


def _print(name: str, floating: Figures, found: Found, line: str) -> None:
    from uhd.search import result

    rows: list[tuple[Any, ...]] = [*result.table(floating, found)]
    budget = f"{found.budget.max_ms:.1f} ms predicted, {found.budget.max_sram:,} B of SRAM"
    print_table(f"{name}: {len(found.measured)} candidates, budget {budget}", rows, result.HEADER)
    if found.int16_refused:
        click.echo(f"no int16 operators were tried: {found.int16_refused}")
    check = result.cross_check(floating, found)
    if check is None or found.winner is None:
        click.echo("nothing is within the budget: the front says what there is")
        return
    loss, error = result.loss_of(floating, found.winner)
    click.echo(
        f"lost by the winner: {loss:+.4f}" + ("" if error is None else f" ± {error:.4f}") + " on the photos that chose"
        f" it; chosen on one half and measured on the other: {check.loss:+.4f}"
    )
    click.echo(f"the same bytes: {line}")
