"""From a float model to checked .tflite files with their sidecars."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uhd import __version__
from uhd.data.yolo import Sample
from uhd.detect.coco import MapResult
from uhd.errors import ConfigError, ModelError
from uhd.export.litert_manifest import SUFFIXES, Kind, LiteRTFile, LiteRTManifest, LiteRTTensor, sidecar_path
from uhd.files import atomic_path, sha256_file, write_bytes
from uhd.litert import accuracy, compare
from uhd.litert.convert import CALIBRATED, convert
from uhd.litert.environment import Environment
from uhd.litert.source import FloatModel
from uhd.manifest import Accuracy
from uhd.quantize.calibration import Calibration, from_scenes, spread

FloatArray = NDArray[np.float32]
Note = Callable[[str], None]

#: Pictures that every file is run on beside the ONNX file.
COMPARED = 32


@dataclass(frozen=True)
class Made:
    """A file that was written. ``largest``, ``mean``: its worst differences, as ``compare.relative`` has them."""

    path: Path
    manifest: LiteRTManifest
    size: int
    largest: float
    mean: float


@dataclass(frozen=True)
class Report:
    """What was made. ``onnx``: mAP of the ONNX file, where photos to measure on were given."""

    files: list[Made]
    extra: list[Path]
    onnx: Accuracy | None


@dataclass(frozen=True)
class Photos:
    """``calibration`` (None: generated scenes to compare on, and no kind that is calibrated) and photos for mAP."""

    calibration: Calibration | None = None
    val: Sequence[Sample] = ()
    val_name: str = ""

    def pictures(self, model: FloatModel, kinds: Sequence[Kind]) -> Calibration:
        """What to convert and compare with. Raises ``ConfigError`` for kinds that need photos, without any."""
        calibrated = [kind for kind in kinds if kind in CALIBRATED]
        if self.calibration is None and calibrated:
            raise ConfigError(
                f"kind {calibrated[0]} is calibrated on photos, and there are none",
                hint="give --calibration DIR, or --kinds float32,float16,dynamic",
            )
        return self.calibration or from_scenes(model.manifest, COMPARED)


def make(
    environment: Environment,
    model: FloatModel,
    kinds: Sequence[Kind],
    output: Path,
    photos: Photos,
    note: Note = lambda text: None,
    track: accuracy.Track = lambda parts: parts,
) -> Report:
    """Convert ``model`` to the ``kinds`` and write them to the folder ``output``, with a manifest beside each.

    Every file is run on ``COMPARED`` pictures beside the ONNX file, and measured on ``photos.val``. Nothing is written
    until all that has been done. Raises ``ConfigError`` for kinds that need photos, without any, and for an output
    that is no folder; ``ModelError`` if the converter fails, a file does not run, or a float32 file differs by more
    than rounding.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output}: not a folder", hint="choose another --output")
    pictures = photos.pictures(model, kinds)
    with tempfile.TemporaryDirectory(prefix="uhd-litert-") as scratch:
        folder = Path(scratch)
        note("onnx2tf")
        converted = convert(environment, model, kinds, pictures.array, folder, note)
        compared = pictures.array[spread(len(pictures.array), COMPARED)]
        about = f"{len(compared)} of {pictures.description}"
        note(f"compare   {about}")
        checked = {
            kind: _compared(environment, model, kind, path, compared, folder) for kind, path in converted.items()
        }
        results = _measured(environment, model, checked, photos, folder, track)
        output.mkdir(parents=True, exist_ok=True)
        tools = environment.versions() | {"uhd": __version__}
        files = []
        for kind, one in checked.items():
            calibrated = kind in CALIBRATED
            entry = LiteRTFile(
                kind=kind,
                head=model.record.head,
                input=one.tensors[0],
                outputs=one.tensors[1],
                sha256=sha256_file(one.path),
                onnx_sha256=model.sha256,
                tools=tools,
                calibration=pictures.description if calibrated else None,
                calibration_sha256=pictures.sha256 if calibrated else None,
                compared=about,
                differences=one.differences[0],
                mean_differences=one.differences[1],
                accuracy=[_accuracy(results[kind], photos, "litert")] if kind in results else [],
            )
            manifest = LiteRTManifest.model_validate({**dict(model.manifest), "litert": entry})
            files.append(_write(output / f"{model.stem}{SUFFIXES[kind]}.tflite", one, manifest))
        extra = _write_pairs(output, model)
    onnx = _accuracy(results["onnx"], photos, "onnx") if results else None
    return Report(files, extra, onnx)


@dataclass(frozen=True)
class _Checked:
    path: Path
    names: list[str]
    tensors: tuple[LiteRTTensor, list[LiteRTTensor]]
    differences: tuple[dict[str, float], dict[str, float]]
    largest: float
    mean: float


def _compared(
    environment: Environment, model: FloatModel, kind: Kind, path: Path, pictures: FloatArray, folder: Path
) -> _Checked:
    expected = model.run(pictures)
    ran = compare.run_file(environment, path, pictures, folder)
    names = compare.match_maps(expected, ran.outputs, path.name)
    found = compare.differences(expected, dict(zip(names, ran.outputs, strict=True)))
    largest, mean = (compare.relative(expected, sizes) for sizes in found)
    if kind == "float32" and not largest <= compare.TOLERANCE:
        raise ModelError(
            f"{model.stem}: the float32 file differs from ONNX by {largest:.2g} of a map's range",
            hint="that is no rounding: onnx2tf does not suit this model",
        )
    return _Checked(path, names, compare.tensors(model, ran, names), found, largest, mean)


def _measured(
    environment: Environment, model: FloatModel, checked: Mapping[Kind, _Checked], photos: Photos, folder: Path,
    track: accuracy.Track,
) -> dict[str, MapResult]:  # fmt: skip
    """mAP by kind, and under ``onnx``; empty without photos."""
    if not photos.val:
        return {}

    def engine(one: _Checked) -> accuracy.Engine:
        return lambda pictures: dict(
            zip(one.names, compare.run_file(environment, one.path, pictures, folder).outputs, strict=True)
        )

    engines: dict[str, accuracy.Engine] = {"onnx": model.run}
    return accuracy.measure(model, engines | {kind: engine(one) for kind, one in checked.items()}, photos.val, track)


def _accuracy(result: MapResult, photos: Photos, engine: str) -> Accuracy:
    return Accuracy(
        data=photos.val_name, images=result.images, map50=result.map50, map50_95=result.map50_95, engine=engine
    )


def _write(path: Path, one: _Checked, manifest: LiteRTManifest) -> Made:
    data = one.path.read_bytes()
    write_bytes(path, data)
    manifest.save(sidecar_path(path))
    return Made(path, manifest, len(data), one.largest, one.mean)


def _write_pairs(output: Path, model: FloatModel) -> list[Path]:
    """Anchors and wh_scale [A,2] as arrays, under the names that published programs look for."""
    made = []
    for name in ("anchors", "wh_scale"):
        pairs = np.asarray(getattr(model.manifest, name), np.float32)
        if pairs.size:
            path = output / f"{model.stem}_{name}.npy"
            with atomic_path(path) as temporary:
                np.save(temporary, pairs, allow_pickle=False)
            made.append(path)
    return made
