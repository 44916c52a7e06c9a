"""``release``: put a trained checkpoint into the package, with its .espdl for every target and preset."""

from __future__ import annotations

from pathlib import Path

import click

from uhd.host.ui import Steps, emit_json, print_table, track

EPILOG = """\b
Example:
  python -m uhd.host release --variant R --checkpoint runs/r/best.safetensors \\
    --calibration photos/train --val photos/val --data-name "my photos, validation split"
"""

TARGETS = ("c", "esp32s3", "esp32p4")
PRESETS = ("speed", "precision")


@click.command(epilog=EPILOG)
@click.option("--variant", required=True, help="Letter of the variant.")
@click.option("--checkpoint", required=True, type=click.Path(path_type=Path), help="Trained weights.")
@click.option("--calibration", required=True, type=click.Path(path_type=Path), help="Folder of photos to calibrate on.")
@click.option("--calibration-images", default=256, show_default=True, help="How many of them to use.")
@click.option("--val", required=True, type=click.Path(path_type=Path), help="Labelled photos to measure mAP on.")
@click.option("--data-name", required=True, help="What the validation photos are, in words; goes into the manifest.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the files. Default: the package's own.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(
    variant: str,
    checkpoint: Path,
    calibration: Path,
    calibration_images: int,
    val: Path,
    data_name: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Ship a checkpoint: weights, .espdl for every target and preset, and the measured mAP of each.

    The float model is measured through ONNX Runtime, each .espdl through the host twin.
    """
    from uhd.data.yolo import load_split
    from uhd.device import build
    from uhd.device.detectors import EVERY_SCORE, OnnxDetector, Settings, TwinDetector
    from uhd.device.parity import run_parity
    from uhd.manifest import Accuracy, ModelManifest
    from uhd.models.checkpoint import load_ultratinyod, save_checkpoint
    from uhd.paths import ZOO, build_root
    from uhd.quantize.adapter import quantize_onnx
    from uhd.quantize.calibration import from_photos

    samples = load_split(val)
    folder = output or ZOO
    letter = variant.upper()
    steps = Steps(1 + len(TARGETS) * len(PRESETS), quiet=as_json)
    table: list[tuple[str, str, float, float]] = []

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
    settings = Settings(EVERY_SCORE, manifest.nms_iou)
    name = f"ultratinyod_{letter.lower()}"
    onnx = build.float_onnx(checkpoint)
    accuracy = measure(OnnxDetector(onnx, manifest, settings), manifest)
    others = [entry for entry in manifest.accuracy if (entry.data, entry.engine) != (data_name, "onnx")]
    manifest = manifest.model_copy(update={"name": name, "variant": letter, "accuracy": [accuracy, *others]})
    manifest = save_checkpoint(folder / f"{name}.safetensors", model, manifest)
    onnx = build.float_onnx(folder / f"{name}.safetensors")
    table.append(("float", "", accuracy.map50, accuracy.map50_95))
    steps.done(f"mAP@0.5 {accuracy.map50:.4f}")

    images = from_photos(calibration, manifest, calibration_images)
    for target in TARGETS:
        for preset in PRESETS:
            steps.start(f"quantize {target} {preset}")
            path = folder / f"{name}_{target}_{preset}.espdl"
            quantized = quantize_onnx(
                onnx,
                path,
                target=target,
                calibration=images.array,
                calibration_note=images.description,
                preset=preset,
                manifest=manifest,
            )
            request = build.Request(letter, "qemu" if target == "c" else target, preset)
            component = build.generate_component(
                request, path, quantized, checkpoint, build_root() / "release" / f"{target}-{preset}" / "uhd_model"
            )
            accuracy = measure(TwinDetector(component, settings), quantized)
            assert quantized.quantization is not None
            quantization = quantized.quantization.model_copy(update={"accuracy": [accuracy]})
            quantized.model_copy(update={"quantization": quantization}).save(path.with_suffix(".json"))
            table.append((target, preset, accuracy.map50, accuracy.map50_95))
            steps.done(f"{path.name}  mAP@0.5 {accuracy.map50:.4f}")
    if as_json:
        emit_json([dict(zip(("target", "preset", "map50", "map50_95"), row, strict=True)) for row in table])
        return
    rows = [(target, preset, f"{a:.4f}", f"{b:.4f}") for target, preset, a, b in table]
    print_table(f"{name}: {len(samples)} photos", rows, ("target", "preset", "mAP@0.5", "mAP@0.5:0.95"))
