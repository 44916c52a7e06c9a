"""``parity``: the same photos through float model, host and device."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from uhd.host.ui import emit_json, print_table, track

EPILOG = """\b
Examples:
  python -m uhd.host parity --target qemu --photos val/
  python -m uhd.host parity --target qemu --photos val/ --limit 300 --engines onnx,oracle,twin,qemu
  python -m uhd.host parity --target qemu --photos val/ --preset precision --json
  python -m uhd.host parity --target esp32s3 --port /dev/ttyACM0 --photos val/
"""


@click.command(epilog=EPILOG)
@click.option(
    "--photos", required=True, type=click.Path(path_type=Path), help="Folder (or list file) of photos with YOLO labels."
)
@click.option(
    "--target", default="qemu", show_default=True, type=click.Choice(["qemu", "esp32s3", "esp32p4"]), help="The device."
)
@click.option("--port", help="Where the device is; without it an emulator is booted.")
@click.option("--variant", default="R", show_default=True, help="Letter of the variant.")
@click.option("--preset", default="speed", show_default=True, help="Precision preset.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Own weights instead of the shipped.")
@click.option("--calibration", type=click.Path(path_type=Path), help="Quantize afresh on this folder of photos.")
@click.option("--engines", help="What to compare, in order; also: oracle.  [default: onnx,twin and qemu or device]")
@click.option("--limit", type=click.IntRange(min=1), help="Use only this many photos, evenly spread.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    photos: Path,
    target: str,
    port: str | None,
    variant: str,
    preset: str,
    checkpoint: Path | None,
    calibration: Path | None,
    engines: str | None,
    limit: int | None,
    as_json: bool,
) -> int:
    """Compare float model, host twin and device on a folder of photos.

    Exit code 1 if the integer engines disagree in any integer or box.
    """
    from uhd.data.yolo import load_split
    from uhd.device import build
    from uhd.device.detectors import EVERY_SCORE, Settings, check_engines, open_detector
    from uhd.device.parity import run_parity
    from uhd.errors import ConfigError
    from uhd.paths import build_root

    if target != "qemu" and port is None:
        raise ConfigError(f"a device with {target} needs a port", hint="give --port, such as /dev/ttyACM0")
    names = check_engines((engines or f"onnx,twin,{'device' if port else 'qemu'}").split(","))
    samples = load_split(photos)
    if limit is not None and limit < len(samples):
        samples = [samples[i * len(samples) // limit] for i in range(limit)]
    request = build.Request(variant.upper(), target, preset, checkpoint, calibration)
    component = build.prepare_component(request, folder=build_root() / request.name / "uhd_model")
    settings = Settings(EVERY_SCORE, component.manifest.nms_iou)
    with contextlib.ExitStack() as stack:
        detectors = [
            stack.enter_context(open_detector(name, component, settings, want_outputs=True, port=port))
            for name in names
        ]
        report = run_parity(
            samples, component.manifest, detectors, lambda items: track(list(items), "parity", quiet=as_json)
        )
    if as_json:
        emit_json(report.as_dict())
        return 0 if report.exact else 1
    reference = next(iter(report.runs.values()))
    rows = []
    for run in report.runs.values():
        if run.result is None or reference.result is None:
            rows.append((run.name, "-", "-", "-", "-"))
            continue
        rows.append(
            (
                run.name,
                f"{run.result.map50:.4f}",
                f"{run.result.map50 - reference.result.map50:+.4f}",
                f"{run.result.map50_95:.4f}",
                f"{run.result.map50_95 - reference.result.map50_95:+.4f}",
            )
        )
    header = ("engine", "mAP@0.5", "difference", "mAP@0.5:0.95", "difference")
    print_table(f"{len(report.photos)} photos, {component.manifest.name}, preset {preset}", rows, header)
    if not report.labelled:
        click.echo("no labels beside the photos: mAP not measured")
    for pair in report.pairs:
        click.echo(
            f"{pair.first} and {pair.second}: {len(pair.integers)} photos with other integers, "
            f"{len(pair.boxes)} with other boxes"
        )
    return 0 if report.exact else 1
