"""What an explanation starts from: the .espdl, its manifest, its float model, and photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from uhd import zoo
from uhd.data.yolo import Sample, find_images, label_path, load_split
from uhd.detect.coco import GroundTruth
from uhd.device.build import float_onnx
from uhd.device.detectors import quantize_input_table
from uhd.device.frames import make_stimulus
from uhd.errors import ModelError
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.explain.floating import FloatModel
from uhd.explain.study import Picture
from uhd.image.files import read_rgb
from uhd.image.resize import network_values
from uhd.manifest import ModelManifest, load_manifest
from uhd.quantize.calibration import spread
from uhd.quantize.source import agreed_manifest, manifest_of, read_source

#: Ratio (dB) of a filter of the .espdl to the float one below which the two are not taken for the same filter.
_SAME_FILTER_DB = 6.0


@dataclass(frozen=True)
class Subject:
    """A model to explain. ``float_source``: the file behind ``floating``; ``warnings``: one line each."""

    model: EspdlModel
    manifest: ModelManifest
    floating: FloatModel | None
    float_source: Path | None
    warnings: tuple[str, ...]


def load_subject(path: Path, float_path: Path | None, target: str | None = None) -> Subject:
    """The .espdl at ``path`` with its float model: ``float_path`` (.onnx or checkpoint), else the shipped weights that
    its manifest names.

    Raises ``ModelError`` where a file is unfit, or none says how a photo becomes this model's input.
    """
    model = read_espdl(path, target)
    if len(model.inputs) != 1:
        raise ModelError(f"{path}: {len(model.inputs)} inputs, but one picture is expected")
    beside = path.with_suffix(".json")
    manifest = load_manifest(beside) if beside.exists() else None
    if manifest and manifest.quantization and manifest.quantization.espdl_sha256 not in ("", model.sha256):
        if float_path is None:
            raise ModelError(
                f"{beside}: describes another .espdl than {path.name}", hint="give the float model: --float"
            )
        manifest = None
    source = float_path or (_shipped(manifest.weights_sha256) if manifest else None)
    if source is None:
        if manifest is None:
            raise ModelError(
                f"{path}: no manifest {beside.name} beside it",
                hint="give its float model with --float: an .onnx file or a checkpoint",
            )
        return Subject(model, manifest, None, None, ())
    read = read_source(source if source.suffix.lower() == ".onnx" else float_onnx(source))
    manifest = agreed_manifest(read, manifest or manifest_of(read))
    floating = FloatModel(onnx.load_from_string(read.onnx), model)
    return Subject(model, manifest, floating, source, tuple(_doubts(floating, model, source)))


def _shipped(weights_sha256: str) -> Path | None:
    """The shipped checkpoint with these weights."""
    for letter in zoo.shipped_variants():
        path = zoo.checkpoint_path(letter)
        if weights_sha256 and load_manifest(path.with_suffix(".json")).weights_sha256 == weights_sha256:
            return path
    return None


def _doubts(floating: FloatModel, model: EspdlModel, source: Path) -> list[str]:
    from uhd.explain.tally import Noise

    others, convolutions = [], [node for node in model.nodes if node.op == "Conv"]
    for node in convolutions:
        pair = floating.filters(node)
        noise = Noise()
        if pair:
            noise.add(*pair)
            if (noise.db or 0.0) < _SAME_FILTER_DB:
                others.append(node.name)
    if not others:
        return []
    return [
        f"{len(others)} of {len(convolutions)} filters are not those of {source.name} (first {others[0]}): "
        "another model, or its layers were balanced; ratios and costs there mean little"
    ]


def choose(photos: Path, manifest: ModelManifest) -> tuple[list[Sample], bool]:
    """All photos of a folder or list file, and whether any has labels beside it.

    Raises ``DataError`` if there are none, or for labels that are none.
    """
    labelled = any(label_path(image).exists() for image in find_images(photos))
    classes = tuple(range(len(manifest.class_names)))
    return load_split(photos, class_ids=classes, unlabelled_as_negative=not labelled), labelled


def evenly(samples: Sequence[Sample], wanted: int) -> list[Sample]:
    """At most ``wanted`` of them, evenly spread."""
    return [samples[index] for index in spread(len(samples), wanted)]


def picture(sample: Sample, subject: Subject) -> tuple[Picture, GroundTruth]:
    """A photo as both models see it, and its labels. Raises ``DataError`` if it cannot be read."""
    tensor = subject.model.tensors[subject.model.inputs[0]]
    rgb = read_rgb(sample.image)
    network = make_stimulus(rgb, subject.manifest).network
    mode = subject.manifest.resize_mode
    if network.shape != tensor.shape[1:]:
        raise ModelError(
            f"the model takes {list(tensor.shape[1:])}, its manifest describes {list(network.shape)}",
            hint="give the float model it was quantized from: --float",
        )
    integers = quantize_input_table(mode, tensor.exponent, tensor.dtype)[network][None]
    planes = np.ascontiguousarray(network_values(mode)[network].transpose(2, 0, 1)[None], np.float32)
    return Picture(integers, planes), ((rgb.shape[0], rgb.shape[1]), sample.boxes)
