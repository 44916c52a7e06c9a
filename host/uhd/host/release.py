"""``release``: put a trained checkpoint into the package, with its .espdl for every target and preset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.quantize_tuning import tuning, tuning_options
from uhd.host.ui import Steps, emit_json, print_table, track

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from uhd.data.yolo import Sample
    from uhd.host.quantize_split import Forecast
    from uhd.manifest import ModelManifest

EPILOG = """\b
Example:
  python -m uhd.host release --variant R --checkpoint runs/r/best.safetensors \\
    --calibration photos/train --val photos/val --data-name "my photos, validation split"
  python -m uhd.host release --variant A --checkpoint runs/a/best.safetensors --calib-algorithm percentile \\
    --use-layerwise-equalization --tqt-steps 100 \\
    --calibration photos/train --val photos/val --data-name "my photos, validation split"
"""

#: Of the labelled calibration photos, each so many-th finds the score threshold.
THRESHOLD_EVERY = 8
TARGETS = ("c", "esp32s3", "esp32p4")
PRESETS = ("speed", "precision")
#: Filters are split where the model is predicted to become so many times as fast; elsewhere the plain file is shipped.
LEAST_GAIN = 1.2


@click.command(epilog=EPILOG)
@click.option("--variant", required=True, help="Letter of the variant.")
@click.option("--checkpoint", required=True, type=click.Path(path_type=Path), help="Trained weights.")
@click.option("--calibration", required=True, type=click.Path(path_type=Path), help="Folder of photos to calibrate on.")
@click.option("--calibration-images", default=256, show_default=True, help="How many of them to use.")
@click.option("--calib-algorithm", default="kl", show_default=True,
              help="Range of int8 values: kl, minmax, percentile or mse.")  # fmt: skip
@click.option("--use-layerwise-equalization", is_flag=True, help="Balance consecutive layers first.")
@tuning_options
@click.option("--val", required=True, type=click.Path(path_type=Path), help="Labelled photos to measure mAP on.")
@click.option("--data-name", required=True, help="What the validation photos are, in words; goes into the manifest.")
@click.option("--split-filters/--no-split-filters", default=True, show_default=True,
              help=f"Split filters beyond the cache where {LEAST_GAIN} times the speed is predicted.")  # fmt: skip
@click.option("--filter-limit", metavar="SIZE", help="Bytes of a filter that is not split.  [default: 48k]")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the files. Default: the package's own.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(
    variant: str,
    checkpoint: Path,
    calibration: Path,
    calibration_images: int,
    calib_algorithm: str,
    use_layerwise_equalization: bool,
    val: Path,
    data_name: str,
    split_filters: bool,
    filter_limit: str | None,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Ship a checkpoint: weights, .espdl for every target and preset, and the measured mAP of each.

    The float model is measured through ONNX Runtime, each .espdl through the host twin. The score threshold becomes
    that of the best F1 at IoU 0.5 on every 8th calibration photo, where these are labelled. Splitting filters
    changes no integer, which is checked; the predicted milliseconds go into the manifest.
    """
    from dataclasses import replace

    from uhd.data.yolo import load_split
    from uhd.device import build, detectors
    from uhd.device.detectors import EVERY_SCORE, OnnxDetector, TwinDetector
    from uhd.device.parity import run_parity
    from uhd.host.quantize_split import filter_limit as filter_limit_bytes
    from uhd.manifest import Accuracy
    from uhd.models.checkpoint import load_ultratinyod, save_checkpoint
    from uhd.paths import ZOO, build_root
    from uhd.quantize import child
    from uhd.quantize.adapter import quantize_with_report
    from uhd.quantize.calibration import from_photos
    from uhd.quantize.presets import resolve_preset
    from uhd.quantize.settings import Settings

    limit = filter_limit_bytes(filter_limit, split_filters)
    wanted = Settings(TARGETS[0], algorithm=calib_algorithm, equalize=use_layerwise_equalization, **tuning(**options))
    wanted.check()  # before anything is written
    samples = load_split(val)
    folder = output or ZOO
    letter = variant.upper()
    steps = Steps(1 + len(TARGETS) * len(PRESETS), quiet=as_json)
    table: list[tuple[str, str, float, float, Forecast | None]] = []

    def measure(detector: OnnxDetector | TwinDetector, manifest: ModelManifest) -> Accuracy:
        report = run_parity(samples, manifest, [detector], lambda items: track(list(items), "mAP", quiet=as_json))
        result = report.runs[detector.name].result
        assert result is not None, "labelled photos give a result"
        return Accuracy(
            data=data_name,
            images=len(samples),
            map50=round(result.map50, 6),
            map50_95=round(result.map50_95, 6),
            engine=detector.name,
        )

    steps.start(f"float    {checkpoint}")
    model, manifest = load_ultratinyod(checkpoint)
    settings = detectors.Settings(EVERY_SCORE, manifest.nms_iou)
    name = f"ultratinyod_{letter.lower()}"
    onnx = build.float_onnx(checkpoint)
    accuracy = measure(OnnxDetector(onnx, manifest, settings), manifest)
    manifest = _with_threshold(manifest, onnx, calibration, lambda items: track(items, "threshold", quiet=as_json))
    others = [entry for entry in manifest.accuracy if (entry.data, entry.engine) != (data_name, "onnx")]
    manifest = manifest.model_copy(update={"name": name, "variant": letter, "accuracy": [accuracy, *others]})
    manifest = save_checkpoint(folder / f"{name}.safetensors", model, manifest)
    onnx = build.float_onnx(folder / f"{name}.safetensors")
    table.append(("float", "", accuracy.map50, accuracy.map50_95, None))
    steps.done(f"mAP@0.5 {accuracy.map50:.4f}")

    images = from_photos(calibration, manifest, calibration_images)
    with child.kept():
        for target in TARGETS:
            for preset in PRESETS:
                steps.start(f"quantize {target} {preset}")
                path = folder / f"{name}_{target}_{preset}.espdl"
                chosen = replace(
                    wanted, target=target, preset=resolve_preset(preset, letter), calibration_note=images.description
                )
                quantized = quantize_with_report(onnx, path, images.array, manifest, chosen).manifest
                quantized, forecast = _split(path, quantized, images.array, limit if target != "c" else 0)
                request = build.Request(letter, "qemu" if target == "c" else target, preset)
                component = build.generate_component(
                    request, path, quantized, checkpoint, build_root() / "release" / f"{target}-{preset}" / "uhd_model"
                )
                accuracy = measure(TwinDetector(component, settings), quantized)
                assert quantized.quantization is not None
                quantization = quantized.quantization.model_copy(update={"accuracy": [accuracy]})
                quantized.model_copy(update={"quantization": quantization}).save(path.with_suffix(".json"))
                table.append((target, preset, accuracy.map50, accuracy.map50_95, forecast))
                steps.done(f"{path.name}  mAP@0.5 {accuracy.map50:.4f}" + (f", {_told(forecast)}" if forecast else ""))
    if as_json:
        emit_json([
            {"target": target, "preset": preset, "map50": a, "map50_95": b, "predicted": vars(found) if found else None}
            for target, preset, a, b, found in table
        ])  # fmt: skip
        return
    rows = [
        (target, preset, f"{a:.4f}", f"{b:.4f}", _told(found) if found else "") for target, preset, a, b, found in table
    ]
    header = ("target", "preset", "mAP@0.5", "mAP@0.5:0.95", "filters split, predicted")
    print_table(f"{name}: {len(samples)} photos", rows, header)


def _split(
    espdl: Path, manifest: ModelManifest, pictures: NDArray[np.float32], limit: int
) -> tuple[ModelManifest, Forecast | None]:
    """Split the filters of a .espdl file in place, if that is worth it, and check both forms on ``pictures``; the
    manifest of what is there then, and the forecast of the split form (None: the file is as it was)."""
    from uhd.host.quantize_split import forecast
    from uhd.quantize.adapter import write_files
    from uhd.quantize.rewrites.apply import PROOF_PICTURES, Options, rewrite, rewritten_manifest
    from uhd.quantize.settings import Settings

    quantization = manifest.quantization
    if not limit or quantization is None:
        return manifest, None
    data, options = espdl.read_bytes(), Options(filter_limit=limit)
    tried = rewrite(data, quantization.target, options, pictures[:1])
    found = forecast(tried) if tried.splits else None
    if found is None or found.gain < LEAST_GAIN:
        return manifest, None
    complete = rewritten_manifest(manifest, rewrite(data, quantization.target, options, pictures[:PROOF_PICTURES]))
    assert complete.quantization is not None
    lines = [*complete.quantization.rewrites, f"predicted on {found.target}, weights in PSRAM: {_told(found)}"]
    complete = complete.model_copy(
        update={"quantization": complete.quantization.model_copy(update={"rewrites": lines})}
    )
    write_files(espdl, tried.data, complete, Settings(quantization.target))
    return complete, found


def _told(found: Forecast) -> str:
    return f"{found.before_ms:.1f} ms before, {found.after_ms:.1f} ms after"


def _with_threshold(
    manifest: ModelManifest, onnx: Path, photos: Path, progress: Callable[[Sequence[Sample]], Iterable[Sample]]
) -> ModelManifest:
    """``manifest`` with the score threshold of the best F1 on labelled ``photos``; unchanged without labels or hits."""
    from uhd.data.yolo import label_path, load_split
    from uhd.detect.coco_curve import best_threshold
    from uhd.device.detectors import EVERY_SCORE, OnnxDetector, Settings
    from uhd.device.parity import run_parity
    from uhd.image.files import list_images

    images = list_images(photos) if photos.is_dir() else []
    if not images or not all(label_path(image).exists() for image in images):
        return manifest
    samples = load_split(photos, problems=[])[::THRESHOLD_EVERY]
    report = run_parity(
        samples, manifest, [OnnxDetector(onnx, manifest, Settings(EVERY_SCORE, manifest.nms_iou))], progress
    )
    (run,) = report.runs.values()
    truth = [((1000, 1000), sample.boxes) for sample in samples]  # IoU does not depend on the size of the photo
    found = best_threshold(truth, run.rows)
    if found is None:
        return manifest
    note = f"best F1 at IoU 0.5 on {len(samples)} photos of {photos.name}"
    training = {**manifest.training, "score_threshold_from": note}
    return manifest.model_copy(update={"score_threshold": round(found, 2), "training": training})
