"""``bench search``: what measuring one candidate of a search costs, beside esp-ppq's executor."""

from __future__ import annotations

from pathlib import Path

import click

from uhd.host.ui import Steps, emit_json, print_table

EPILOG = """\b
Examples:
  python -m uhd.host bench search --val photos/val
  python -m uhd.host bench search --variant Z --val photos/val --json
"""


@click.command("search", epilog=EPILOG)
@click.option("--variant", default="R", show_default=True, help="Letter of a shipped variant, int8.")
@click.option("--val", required=True, type=click.Path(path_type=Path), help="Labelled photos.")
@click.option("--images", type=click.IntRange(1, 10000), default=20, show_default=True, help="Runs of the executor.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(variant: str, val: Path, images: int, as_json: bool) -> None:
    """Time the host twin on all photos (inference, decoding, NMS), the mAP, and esp-ppq's executor on a few.

    One thread each, on this machine; the executor's part is its inference alone. Both from the median of a photo, which
    other programs on the machine disturb least.
    """
    import tempfile
    import time

    from uhd import zoo
    from uhd.codegen import generate
    from uhd.data.yolo import load_split
    from uhd.detect.coco import evaluate
    from uhd.device.build import float_onnx
    from uhd.device.detectors import EVERY_SCORE
    from uhd.device.frames import make_stimulus
    from uhd.device.runtime_bench import images_per_second, time_executor
    from uhd.device.twin import Twin
    from uhd.errors import ModelError
    from uhd.espdl.reader import read_espdl
    from uhd.image.files import read_rgb

    shipped = zoo.shipped_espdl(variant.upper(), "esp32s3", "speed")
    if shipped is None:
        raise ModelError(f"no .espdl of variant {variant} is shipped", hint="choose another variant")
    manifest, steps = shipped.manifest, Steps(4, quiet=as_json)
    steps.start(f"photos    {val}")
    samples = load_split(val)
    pictures = [read_rgb(sample.image) for sample in samples]
    truth = [((rgb.shape[0], rgb.shape[1]), sample.boxes) for rgb, sample in zip(pictures, samples, strict=True)]
    networks = [make_stimulus(rgb, manifest).network for rgb in pictures]
    steps.done(f"{len(networks)} photos")
    steps.start("compile the twin")
    with tempfile.TemporaryDirectory() as folder:
        component = Path(folder) / "uhd_model"
        generate(read_espdl(shipped.path), shipped.path.read_bytes(), manifest, component)
        twin = Twin(component)
    steps.done(shipped.path.name)
    steps.start("run it on all photos")
    rows, taken = [], []
    for network in networks:
        started = time.perf_counter()
        rows.append(twin.detect(network, EVERY_SCORE, manifest.nms_iou, 1024, 100)[0])
        taken.append(time.perf_counter() - started)
    started = time.process_time()
    result = evaluate(truth, rows)
    map_seconds = time.process_time() - started
    steps.done(f"mAP@0.5 {result.map50:.4f}")
    steps.start("time esp-ppq's executor")
    rate = images_per_second(time_executor(float_onnx(zoo.checkpoint_path(variant)), "esp32s3", images))
    steps.done(f"{rate:.1f} images/s")
    twin_seconds = len(networks) / images_per_second(taken)
    figures = {
        "model": shipped.path.name,
        "photos": len(networks),
        "map50": result.map50,
        "twin_seconds": round(twin_seconds, 3),
        "twin_seconds_elapsed": round(sum(taken), 3),
        "map_seconds": round(map_seconds, 3),
        "executor_seconds": round(len(networks) / rate, 1),
        "executor_times_twin": round(len(networks) / rate / twin_seconds, 1),
    }
    if as_json:
        emit_json(figures)
        return
    rows_shown = [
        ("host twin with decoding and NMS", f"{figures['twin_seconds']:.2f} s"),
        ("mAP", f"{figures['map_seconds']:.2f} s"),
        (f"esp-ppq's executor, from {images} photos", f"{figures['executor_seconds']:.1f} s"),
        ("executor / twin", f"{figures['executor_times_twin']:.0f}x"),
    ]
    print_table(f"{shipped.path.name}, {len(networks)} photos, one thread", rows_shown)
