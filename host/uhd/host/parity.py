"""``parity``: the same photos through float model, host and device."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.loss import loss_options
from uhd.host.ui import emit_json, print_table, track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uhd.data.yolo import Sample
    from uhd.device.build import Component, Request
    from uhd.device.detectors import Settings
    from uhd.device.lossy import Loss
    from uhd.device.parity import ParityReport

EPILOG = """\b
Examples:
  python -m uhd.host parity --target qemu --photos val/
  python -m uhd.host parity --target qemu --photos val/ --limit 300 --engines onnx,oracle,twin,qemu
  python -m uhd.host parity --target qemu --photos val/ --inject camera
  python -m uhd.host parity --target esp32s3 --port /dev/ttyACM0 --photos val/
  python -m uhd.host parity --target esp32s3 --port /dev/ttyACM0 --photos val/ --resume
  python -m uhd.host parity --target qemu --photos val/ --limit 20 --drop-rate 1e-4 --flip-rate 1e-5
"""


@click.command(epilog=EPILOG)
@click.option(
    "--photos",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder (or list file) of photos, with YOLO labels for mAP.",
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
@click.option(
    "--inject",
    default="network",
    show_default=True,
    type=click.Choice(["network", "camera"]),
    help="Send the network input, or the photo as a camera frame that the device preprocesses.",
)
@click.option("--resume", is_flag=True, help="Go on where an earlier run with the same arguments has ended.")
@click.option(
    "--state", type=click.Path(path_type=Path), help="File that holds the run.  [default: in build/parity/, by content]"
)
@click.option(
    "--report", "page", type=click.Path(path_type=Path), help="Where the page goes.  [default: beside the state]"
)
@click.option(
    "--attempts", default=3, show_default=True, type=click.IntRange(1, 100), help="How often one photo is tried."
)
@click.option(
    "--wait",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds to wait for an unplugged device.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@loss_options
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
    inject: str,
    resume: bool,
    state: Path | None,
    page: Path | None,
    attempts: int,
    wait: float,
    as_json: bool,
    loss: Loss,
) -> int:
    """Compare float model, host twin and device on a folder of photos.

    What every engine says is kept as it comes, so that a run goes on with --resume after Ctrl-C, a crash or an
    unplugged device. A page with tables, charts and the worst photos is written at the end; it embeds those photos.

    Exit code 1 if the integer engines disagree in any integer or box, or if a photo did not get through.
    """
    from uhd.data.yolo import find_images, label_path, load_split
    from uhd.device import build
    from uhd.device.detectors import EVERY_SCORE, Settings, check_engines
    from uhd.device.frames import check_injection
    from uhd.device.parity_page import About, write_page
    from uhd.device.parity_state import Journal, key_digest
    from uhd.errors import ConfigError
    from uhd.paths import build_root

    if target != "qemu" and port is None:
        raise ConfigError(f"a device with {target} needs a port", hint="give --port, such as /dev/ttyACM0")
    names = check_engines((engines or f"onnx,twin,{'device' if port else 'qemu'}").split(","))
    labelled = any(label_path(image).exists() for image in find_images(photos))
    samples = load_split(photos, unlabelled_as_negative=not labelled)
    if limit is not None and limit < len(samples):
        samples = [samples[i * len(samples) // limit] for i in range(limit)]
    request = build.Request(variant.upper(), target, preset, checkpoint, calibration)
    component = build.prepare_component(request, folder=build_root() / request.name / "uhd_model")
    check_injection(inject, component.manifest)
    settings = Settings(EVERY_SCORE, component.manifest.nms_iou)
    key = _run_key(component, settings, names, samples, inject)
    state = state or build_root() / "parity" / f"{request.name}-{inject}-{key_digest(key)}.jsonl"
    page = page or state.with_suffix(".html")
    again = f"python -m uhd.host parity {_arguments()}"
    with Journal(state, key, resume=resume) as journal:
        known = sum(not record.lost for record in journal.records.values())
        if known and not as_json:
            click.echo(f"taken up: {known} of {len(samples)} photos are in {state}", err=True)
        try:
            report = _run(samples, component, settings, names, journal, inject, port, loss, attempts, wait, as_json)
        except BaseException:
            kept = sum(not record.lost for record in journal.records.values())
            if kept:
                click.echo(f"{kept} of {len(samples)} photos are kept; go on with: {again}", err=True)
            raise
        about = About(_tags(request, component, inject, len(samples)), str(state), journal.runs, again)
    write_page(page, report, component.manifest, about)
    if as_json:
        emit_json(report.as_dict() | {"state": str(state), "report": str(page), "runs": about.runs})
    else:
        frames = " as camera frames" if inject == "camera" else ""
        _print(report, f"{len(report.photos)} photos{frames}, {component.manifest.name}, preset {preset}")
        click.echo(f"report: {page}")
    return 0 if report.exact and report.complete else 1


def _run(
    samples: Sequence[Sample],
    component: Component,
    settings: Settings,
    names: Sequence[str],
    journal: Any,
    inject: str,
    port: str | None,
    loss: Loss,
    attempts: int,
    wait: float,
    quiet: bool,
) -> ParityReport:
    """Open the engines, send what the journal does not hold, and report on all."""
    from functools import partial

    from uhd.device.detectors import open_detector
    from uhd.device.parity import Progress, engine_names, parity_report, run_parity
    from uhd.device.parity_steady import SteadyDevice

    rows = engine_names(names, inject)
    if all(i in journal.records and not journal.records[i].lost for i in range(len(samples))):
        return parity_report(samples, journal.records, rows, inject, journal.stats)
    quantization = component.manifest.quantization
    exponents = {tensor.name: tensor.exponent for tensor in quantization.outputs} if quantization else {}
    with contextlib.ExitStack() as stack:
        detectors = []
        for name in names:
            connect = partial(
                open_detector,
                name,
                component,
                settings,
                want_outputs=True,
                want_input=inject == "camera",
                port=port,
                through=loss.wrap,
            )
            if name in ("qemu", "device"):
                steady: Any = SteadyDevice(name, connect, attempts=attempts, patience=wait, note=_note)
                detectors.append(stack.enter_context(steady))
            else:
                detectors.append(stack.enter_context(connect()))
        run_parity(
            samples,
            component.manifest,
            detectors,
            lambda items: track(list(items), "parity", quiet=quiet),
            inject=inject,
            exponents=exponents,
            progress=Progress(journal.records, journal.add),
        )
        for detector in detectors:
            if isinstance(detector, SteadyDevice) and (stats := detector.stats()):
                journal.add_stats(stats)
    return parity_report(samples, journal.records, rows, inject, journal.stats)


def _note(text: str) -> None:
    click.echo(f"parity: {text}", err=True)


def _run_key(
    component: Component, settings: Settings, names: Sequence[str], samples: Sequence[Sample], inject: str
) -> dict[str, Any]:
    """What the figures of a run depend on. Labels are left out: they may be corrected between two reports."""
    import hashlib
    from dataclasses import asdict

    from uhd.files import sha256_file

    photos = hashlib.sha256()
    for sample in samples:
        photos.update(bytes.fromhex(sha256_file(sample.image)))
    return {
        "model": component.espdl_sha256,
        "checkpoint": sha256_file(component.checkpoint),
        "engines": list(names),
        "settings": asdict(settings),
        "photos": photos.hexdigest(),
        "inject": inject,
    }


def _tags(request: Request, component: Component, inject: str, count: int) -> list[str]:
    return [
        f"variant {request.variant}",
        f"preset {request.preset}",
        f"target {request.target}",
        f"{count} photos as {'camera frames' if inject == 'camera' else 'network input'}",
        f"model {component.espdl_sha256[:16]}",
    ]


def _arguments() -> str:
    """The arguments of this call as a shell takes them, with ``--resume``."""
    import shlex

    context = click.get_current_context()
    words: list[str] = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.name in ("as_json", "resume") or value is None or value == parameter.get_default(context):
            continue
        words += [parameter.opts[0], str(value)]
    return shlex.join([*words, "--resume"])


def _print(report: ParityReport, title: str) -> None:
    figures = report.as_dict()
    rows = []
    for name, result in figures["engines"].items():
        if result is None:
            rows.append((name, "-", "-", "-", "-"))
            continue
        rows.append(
            (
                name,
                f"{result['map50']:.4f}",
                f"{result['map50_difference']:+.4f}",
                f"{result['map50_95']:.4f}",
                f"{result['map50_95_difference']:+.4f}",
            )
        )
    print_table(title, rows, ("engine", "mAP@0.5", "difference", "mAP@0.5:0.95", "difference"))
    if not report.labelled:
        click.echo("no labels beside the photos: mAP not measured")
    for pair in report.pairs:
        click.echo(
            f"{pair.first} and {pair.second}: {len(pair.integers)} photos with other integers, "
            f"{len(pair.boxes)} with other boxes"
        )
    camera = figures["camera"]
    if camera:
        others = camera["photos_with_other_network_input"].items()
        told = ", ".join(f"{name} {count}" for name, count in others)
        click.echo(f"photos whose frame became another network input than the contract's: {told or 'not asked'}")
        click.echo(
            f"frame against photo: {camera['other_luma_bytes']} other Y, {camera['other_chroma_bytes']} other U or V "
            f"in {camera['pixels_compared']} pixels (by {camera['chroma_difference_mean']:.2f} on average, "
            f"{camera['chroma_difference_most']} at most); {camera['pixels_picked_elsewhere']} picked elsewhere"
        )
    if figures["timings"]:
        link = figures["link"]
        click.echo(
            f"link: {link['sent_again']} photos sent again, {len(report.lost)} lost, {link['reconnects']} reconnects, "
            f"{link['restarts']} restarts, {link['retries']} messages sent again"
        )
    for path, reason in report.lost[:10]:
        click.echo(f"lost: {path.name}: {reason}", err=True)
