"""``quantize``: an ONNX file or checkpoint becomes a .espdl file for one chip."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.quantize_tuning import grid_option, tuning, tuning_options
from uhd.host.ui import Steps, emit_json, human_bytes, print_table

if TYPE_CHECKING:
    from uhd.manifest import ModelManifest
    from uhd.quantize.adapter import Report

EPILOG = """\b
Examples:
  python -m uhd.host quantize R.onnx --calibration photos/ --target esp32s3
  python -m uhd.host quantize R.safetensors --calibration photos/ --target esp32p4 --preset R-precision
  python -m uhd.host quantize R.onnx --calibration photos/ --target c --int16-op-pattern /box_out/Conv
  python -m uhd.host quantize R.onnx --calibration photos/ --target esp32s3 --output R.espdl --json
  python -m uhd.host quantize A.onnx --calibration photos/ --target esp32s3 --split-filters

Presets: int8, speed and precision (for a model whose manifest names its variant), or in full: R-precision, ...
"""


@click.command(epilog=EPILOG)
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("--onnx-model", type=click.Path(path_type=Path), help="Another way to name MODEL.")
@click.option(
    "--calibration", "--image-dir", type=click.Path(path_type=Path), required=True,
    help="Folder of photos like those the device will see.",
)  # fmt: skip
@click.option("--target", type=click.Choice(["c", "esp32s3", "esp32p4"]), required=True, help="Chip; c: host and QEMU.")
@click.option("--preset", help="Published list of int16 operators, for example R-precision.")
@click.option("--int16-op-pattern", multiple=True, metavar="RE", help="Operators in int16, by name. Repeatable.")
@click.option("--output", "--espdl-model", type=click.Path(path_type=Path), help="File to write (.espdl).")
@click.option("--dataset-type", type=click.Choice(["image", "yolo"]), default="image", show_default=True,
              help="All photos of the folder, or those with YOLO labels of --class-ids.")  # fmt: skip
@click.option("--list-path", type=click.Path(path_type=Path), help="List file of photos, relative to the folder.")
@click.option("--class-ids", default="0", show_default=True, help="yolo: classes that a photo must show one of.")
@click.option("--split", type=click.Choice(["train", "val", "all"]), default="all", show_default=True,
              help="yolo: which part of the photos.")  # fmt: skip
@click.option(
    "--val-split", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="yolo: part that is val."
)
@click.option("--calib-steps", default=256, show_default=True, help="Photos to calibrate on, spread over the folder.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Photos a step.")
@click.option(
    "--calib-algorithm", default="kl", show_default=True, help="Range of int8 values: kl, minmax, percentile or mse."
)
@click.option("--int16-calib-algorithm", default="minmax", show_default=True, help="Range of int16 values.")
@click.option("--auto-int16-depthwiseconv", is_flag=True, help="Depthwise convolutions in int16, by their names.")
@click.option("--expand-group-conv", is_flag=True, help="Write depthwise convolutions out as dense ones first.")
@click.option("--bits", "--num-of-bits", default=8, show_default=True, help="16: all that ESP-DL can run in int16.")
@click.option("--use-layerwise-equalization", is_flag=True, help="Balance consecutive layers first.")
@tuning_options
@grid_option
@click.option("--split-filters", is_flag=True,
              help="Split filters that outgrow the data cache; every integer stays (docs/rewrites.md).")  # fmt: skip
@click.option("--filter-limit", metavar="SIZE", help="Bytes of a filter with --split-filters.  [default: 48k]")
@click.option("--img-size", metavar="HxW", help="Size of the network input; it must be that of MODEL.")
@click.option("--resize-mode", help="How photos are resized, for files that do not say it.")
@click.option("--variant", help="Letter of the published size, for files that do not say it.")
@click.option("--manifest", "manifest_path", type=click.Path(path_type=Path), help="Manifest, if MODEL carries none.")
@click.option("--no-test-vectors", is_flag=True, help="Leave out the embedded test vector (about 11 KB).")
@click.option("--export-anchors", is_flag=True, help="Also write the anchors and wh_scale as .npy files.")
@click.option("--export-anchors-wh-scale-dir", type=click.Path(path_type=Path), help="The same, into this folder.")
@click.option("--device", default="cpu", show_default=True, help="Accepted: calibration always runs on the CPU.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    model: Path | None,
    onnx_model: Path | None,
    calibration: Path,
    target: str,
    preset: str | None,
    int16_op_pattern: tuple[str, ...],
    output: Path | None,
    dataset_type: str,
    list_path: Path | None,
    class_ids: str,
    split: Any,
    val_split: float,
    calib_steps: int,
    batch_size: int,
    calib_algorithm: str,
    int16_calib_algorithm: str,
    auto_int16_depthwiseconv: bool,
    expand_group_conv: bool,
    bits: int,
    use_layerwise_equalization: bool,
    split_filters: bool,
    filter_limit: str | None,
    img_size: str | None,
    resize_mode: str | None,
    variant: str | None,
    manifest_path: Path | None,
    no_test_vectors: bool,
    export_anchors: bool,
    export_anchors_wh_scale_dir: Path | None,
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Quantize an ONNX file or a checkpoint to MODEL_TARGET.espdl, with its manifest beside it.

    An ONNX file may be of any flavour: what lies behind the head's maps is left out.

    MODEL is never written to. Equal inputs give equal bytes.
    """
    import tempfile

    from uhd.errors import ConfigError
    from uhd.host.quantize_split import filter_limit as filter_limit_bytes
    from uhd.host.quantize_split import print_split, split_summary
    from uhd.quantize import child
    from uhd.quantize.adapter import quantize_with_report
    from uhd.quantize.calibration import chosen_photos, from_photos
    from uhd.quantize.depthwise import expand_groups, int16_patterns
    from uhd.quantize.presets import resolve_preset
    from uhd.quantize.rewrites.apply import PROOF_PICTURES, quantize_split
    from uhd.quantize.settings import Settings
    from uhd.variants import get_variant

    if (model is None) == (onnx_model is None):
        raise ConfigError("name one model", hint="give MODEL, an .onnx file or a checkpoint")
    path = model or onnx_model
    assert path is not None
    limit = filter_limit_bytes(filter_limit, split_filters)
    settings = Settings(
        target, int16_op_pattern, None, calib_algorithm, int16_calib_algorithm, bits, use_layerwise_equalization,
        not no_test_vectors, export_anchors or export_anchors_wh_scale_dir is not None,
        anchors_folder=export_anchors_wh_scale_dir, **tuning(**options),
    )  # fmt: skip
    settings.check()
    steps = Steps(3, quiet=as_json)
    if output is not None and output.with_suffix("") == path.with_suffix("") and path.with_suffix(".json").exists():
        raise ConfigError(
            f"{output}: its manifest would replace {path.with_suffix('.json')}", hint="choose another name"
        )
    with tempfile.TemporaryDirectory(prefix="uhd-export-") as folder, child.kept():
        steps.start(f"read      {path}")
        onnx, manifest = float_model(path, Path(folder), resize_mode, manifest_path)
        if img_size and _size(img_size) != (manifest.input_height, manifest.input_width):
            stated = f"{manifest.input_height}x{manifest.input_width}"
            raise ConfigError(f"{path}: its input is {stated}, not {img_size}", hint="export it with that size")
        if auto_int16_depthwiseconv:
            settings = _with(settings, patterns=(*settings.patterns, *int16_patterns(onnx)))
        if expand_group_conv:
            count = expand_groups(onnx, Path(folder) / "dense.onnx")
            onnx = Path(folder) / "dense.onnx"
            steps.note(f"{count} grouped convolutions written out as dense ones")
        if variant:
            manifest = manifest.model_copy(update={"variant": get_variant(variant).letter})
        chosen = resolve_preset(preset, manifest.variant) if preset else None
        steps.done(f"{manifest.name}, input {manifest.input_channels}x{manifest.input_height}x{manifest.input_width}")
        steps.start(f"photos    {calibration}")
        photos = chosen_photos(
            calibration, list_path=list_path, labelled=dataset_type == "yolo", class_ids=_numbers(class_ids),
            split=split, val_split=val_split,
        )  # fmt: skip
        pictures = from_photos(calibration, manifest, calib_steps * batch_size, photos=photos)
        steps.done(pictures.description)
        steps.start(f"quantize  for {target}" + (f", preset {chosen.name}" if chosen else ""))
        suffix = f"_{target}_{chosen.name.partition('-')[2] or chosen.name}" if chosen else f"_{target}"
        place = output or path.with_name(f"{path.stem}{suffix}.espdl")
        settings = _with(settings, preset=chosen, calibration_note=pictures.description)
        progress, outcome = _Progress(steps), None
        if limit:
            compared = pictures.array[:PROOF_PICTURES]
            if len(compared) < min(PROOF_PICTURES, len(photos)):
                compared = from_photos(calibration, manifest, PROOF_PICTURES, photos=photos).array
            outcome = quantize_split(
                onnx, place, pictures.array, manifest, settings, progress, limit=limit, pictures=compared
            )
            report = outcome.report
        else:
            report = quantize_with_report(onnx, place, pictures.array, manifest, settings, progress)
        steps.done(f"{report.espdl}  {human_bytes(report.size_bytes)}")
    if as_json:
        emit_json(_summary(report) | ({"split": split_summary(outcome, limit)} if outcome else {}))
    else:
        _print(report)
        if outcome:
            print_split(outcome)


def _size(text: str) -> tuple[int, int]:
    """``64`` or ``64x48`` (height x width)."""
    from uhd.errors import ConfigError

    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--img-size {text}", hint="write 64 or 64x48 (height x width)")
    return int(parts[0]), int(parts[-1])


def _numbers(text: str) -> tuple[int, ...]:
    from uhd.errors import ConfigError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--class-ids {text}", hint="write numbers, such as 0,1")
    return tuple(int(part) for part in parts)


def _with(settings: Any, **changes: object) -> Any:
    from dataclasses import replace

    return replace(settings, **changes)


def float_model(
    path: Path, folder: Path, resize_mode: str | None, manifest_path: Path | None
) -> tuple[Path, ModelManifest]:
    """The ONNX file to quantize (exported into ``folder`` if ``path`` is a checkpoint) and its manifest."""
    from uhd.errors import ConfigError, ModelError
    from uhd.manifest import load_manifest
    from uhd.quantize.source import manifest_of, read_source

    if not path.exists():
        raise ModelError(f"{path}: no such file", hint="give an .onnx file or a checkpoint")
    if path.suffix == ".onnx":
        if manifest_path is not None:
            return path, load_manifest(manifest_path)
        return path, manifest_of(read_source(path), resize_mode)
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise ConfigError(f"{path}: neither an .onnx file nor a checkpoint (.safetensors, .pt)")
    from uhd.export.onnx_export import export_onnx
    from uhd.image.deploy import check_mode
    from uhd.models.checkpoint import load_ultratinyod

    network, manifest = load_ultratinyod(path)
    check_mode(manifest.resize_mode, resize_mode, str(path))
    onnx = folder / f"{path.stem}.onnx"
    export_onnx(network, manifest, onnx, flavour="parts")
    return onnx, manifest


class _Progress:
    """A line below the running step whenever the quantizer starts something new."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._last = ""

    def __call__(self, step: str, done: int, total: int) -> None:
        if step != self._last:
            self._last = step
            self._steps.note(f"{step} ({total} steps)" if total > 1 else step)


def _summary(report: Report) -> dict[str, object]:
    quantization = report.manifest.quantization
    assert quantization is not None
    return {
        "espdl": str(report.espdl),
        "manifest": str(report.espdl.with_suffix(".json")),
        "size_bytes": report.size_bytes,
        "seconds": round(report.seconds, 2),
        **quantization.model_dump(mode="json"),
        "test_vector_integers": report.vectors,
        "test_vector_mismatches": report.mismatches,
        "notes": list(report.notes),
        "findings": [vars(finding) for finding in report.findings],
        "extra_files": [str(path) for path in report.extra_files],
    }


def _print(report: Report) -> None:
    quantization = report.manifest.quantization
    assert quantization is not None
    tensors = [("input", t) for t in quantization.inputs] + [("output", t) for t in quantization.outputs]
    oracle = f"{report.mismatches} of {report.vectors} integers differ" if report.vectors else "not compared"
    rows = [
        ("file", str(report.espdl)),
        ("size", human_bytes(report.size_bytes)),
        ("sha256", quantization.espdl_sha256),
        ("target", quantization.target),
        ("preset", quantization.preset or "-"),
        ("int16 operators", str(len(quantization.int16_operators))),
        ("calibration", f"{quantization.calibration}; {quantization.calibration_algorithm}"),
        ("oracle", f"{oracle} from esp-ppq's simulation"),
        *((kind, f"{t.name} {t.dtype} {'x'.join(map(str, t.shape))}, 2^{t.exponent}") for kind, t in tensors),
        *(("also", str(path)) for path in report.extra_files),
    ]
    print_table(report.manifest.name, rows)
    for name in quantization.int16_operators:
        click.echo(f"  int16  {name}")
    for note in report.notes:
        click.echo(f"note: {note}")
    for finding in report.findings:
        if finding.severity != "note":
            click.echo(str(finding))
    _print_notes(report)


def _print_notes(report: Report) -> None:
    """Notes come in numbers: the first of each rule, and how many more there are."""
    notes = [finding for finding in report.findings if finding.severity == "note"]
    counts = Counter(finding.rule for finding in notes)
    for rule, count in counts.items():
        first = next(finding for finding in notes if finding.rule == rule)
        more = f" (and {count - 1} more operators, see --json)" if count > 1 else ""
        click.echo(f"{first}{more}")
