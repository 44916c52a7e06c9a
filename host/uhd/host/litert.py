"""``litert``: a model as TFLite files, converted by onnx2tf, checked beside ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.ui import Steps, emit_json, human_bytes, print_table, track

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from uhd.data.yolo import Sample
    from uhd.export.litert_manifest import Kind
    from uhd.litert.make import Photos, Report
    from uhd.litert.source import FloatModel

EPILOG = """\b
Examples:
  python -m uhd.host litert --install
  python -m uhd.host litert R --output tflite/ --calibration photos/train
  python -m uhd.host litert best.safetensors --output tflite/ --kinds float32,float16
  python -m uhd.host litert R.onnx --output tflite/ --calibration photos/train --val photos/val --json

\b
Kinds:
  float32  weights and sums in single precision
  float16  weights in half precision
  dynamic  weights in int8, ranges of activations found while running
  int8     all in int8, input and outputs too; ranges from the photos of --calibration
  int16    weights in int8, activations in int16; ranges as for int8
"""


@click.command(epilog=EPILOG)
@click.argument("model", required=False)
@click.option("--output", type=click.Path(path_type=Path, file_okay=True), help="Folder for the files.")
@click.option("--calibration", type=click.Path(path_type=Path), help="Folder of photos like those to be seen.")
@click.option("--calib-steps", type=click.IntRange(min=1), default=256, show_default=True, help="Photos of it to use.")
@click.option("--kinds", default="float32,float16,dynamic,int8", show_default=True, help="Which files to make.")
@click.option("--val", type=click.Path(path_type=Path), help="Labelled photos: measure mAP of each file.")
@click.option("--classes", help="Class ids of the labels that the model detects, such as 0,2.  [default: 0,1,...]")
@click.option("--resize-mode", help="How photos are resized, for ONNX files that do not say it.")
@click.option(
    "--environment",
    type=click.Path(path_type=Path),
    help="Folder of onnx2tf's own environment.  [default: $UHD_LITERT, or uhd/litert in the cache folder]",
)
@click.option("--install", is_flag=True, help="Make that environment if it is not there (2.8 GB).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    model: str | None,
    output: Path | None,
    calibration: Path | None,
    calib_steps: int,
    kinds: str,
    val: Path | None,
    classes: str | None,
    resize_mode: str | None,
    environment: Path | None,
    install: bool,
    as_json: bool,
) -> None:
    """Write MODEL as .tflite files, with a manifest beside each.

    MODEL is an .onnx file of any flavour, a checkpoint (.safetensors, .pt), or the letter of a shipped variant.
    Nothing is written unless every file runs and the float32 one computes what the ONNX file computes.
    """
    from uhd.litert.environment import find_environment

    wanted = parse_kinds(kinds)
    steps = Steps((1 if install else 0) + (3 if model else 0), quiet=as_json)
    if model is None and not install:
        raise click.UsageError("name a model, or give --install")
    if model is not None and output is None:
        raise click.UsageError("give --output, the folder for the files")
    if install:
        made = _install(environment, steps)
        if model is None:
            if as_json:
                emit_json(made)
            return
    assert model is not None and output is not None
    place = find_environment(environment)
    from uhd.litert.make import make
    from uhd.litert.source import read_model

    steps.start(f"read      {model}")
    source = read_model(model, resize_mode)
    for note in source.notes:
        steps.note(note)
    steps.done(f"{source.manifest.name}, input {'x'.join(map(str, source.record.input.shape[1:]))}")
    steps.start("photos")
    photos = _photos(source, calibration, calib_steps, val, classes)
    pictures = photos.pictures(source, wanted)
    steps.done(f"{pictures.description}" + (f"; mAP on {len(photos.val)} of {photos.val_name}" if photos.val else ""))
    steps.start(f"convert   to {', '.join(wanted)}")

    def tracked(parts: Sequence[Sequence[Sample]]) -> Iterable[Sequence[Sample]]:
        return track(parts, "mAP, parts of the photos", quiet=as_json)

    report = make(place, source, wanted, output, photos, steps.note, tracked)
    steps.done(f"{len(report.files)} files in {output}")
    if as_json:
        emit_json(_summary(report))
    else:
        _print(source, report)


def parse_kinds(text: str) -> list[Kind]:
    """``float32,int8`` in the order of the table. Raises ``ConfigError`` for an unknown kind and for none."""
    from uhd.errors import ConfigError
    from uhd.export.litert_manifest import SUFFIXES

    named = {part.strip() for part in text.split(",")}
    for name in sorted(named - set(SUFFIXES)):
        raise ConfigError(f"unknown kind {name!r}", hint=f"choose from {', '.join(SUFFIXES)}")
    return [kind for kind in SUFFIXES if kind in named]


def _install(folder: Path | None, steps: Steps) -> dict[str, Any]:
    from uhd.litert.environment import REQUIREMENT, Environment, default_folder, folder_size, install

    place = folder or default_folder()
    steps.start(f"install   {REQUIREMENT} and what it pins (TensorFlow) into {place}")
    if Environment(place).complete:
        steps.note("it is there already")
    made = install(folder, steps.note)
    size = folder_size(made.folder)
    versions = made.versions()
    steps.done(f"{', '.join(f'{name} {version}' for name, version in versions.items())}; {size / 1e9:.1f} GB")
    return {"environment": str(made.folder), "bytes": size, "versions": versions}


def _photos(model: FloatModel, calibration: Path | None, count: int, val: Path | None, classes: str | None) -> Photos:
    from uhd.data.yolo import load_split
    from uhd.errors import ConfigError
    from uhd.litert.make import Photos
    from uhd.quantize.calibration import from_photos
    from uhd.train.config.texts import parse_class_ids

    try:
        ids = parse_class_ids(classes) if classes else tuple(range(len(model.manifest.class_names)))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return Photos(
        from_photos(calibration, model.manifest, count) if calibration is not None else None,
        load_split(val, class_ids=ids) if val is not None else (),
        val.resolve().name if val is not None else "",
    )


def _summary(report: Report) -> dict[str, Any]:
    return {
        "files": [
            {"path": str(made.path), "bytes": made.size, "relative": {"largest": made.largest, "mean": made.mean}}
            | made.manifest.litert.model_dump(mode="json")
            for made in report.files
        ],
        "extra_files": [str(path) for path in report.extra],
        "onnx": report.onnx.model_dump(mode="json") if report.onnx else None,
    }


def _print(model: FloatModel, report: Report) -> None:
    header = ["kind", "file", "size", "mean difference", "largest"]
    rows = [["onnx", "-", human_bytes(len(model.onnx)), "-", "-"]]
    for made in report.files:
        sizes = (f"{100 * size:.2g} %" for size in (made.mean, made.largest))
        rows.append([made.manifest.litert.kind, str(made.path), human_bytes(made.size), *sizes])
    if report.onnx:
        header += ["mAP@0.5", "mAP@0.5:0.95"]
        measured = [report.onnx, *(made.manifest.litert.accuracy[0] for made in report.files)]
        rows = [[*row, f"{a.map50:.4f}", f"{a.map50_95:.4f}"] for row, a in zip(rows, measured, strict=True)]
    print_table(model.manifest.name, rows, header)
    for path in report.extra:
        click.echo(f"also: {path}")
