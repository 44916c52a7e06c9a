"""What it costs in mAP that a model is fed by another way than it was trained with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd import zoo
from uhd.data.yolo import Sample
from uhd.detect.coco import GroundTruth
from uhd.device.build import float_onnx
from uhd.device.detectors import EVERY_SCORE, Settings, decode_float
from uhd.errors import DataError
from uhd.explain.accuracy import Cost, Judge
from uhd.image.colour import yuv422_u8
from uhd.image.files import read_rgb
from uhd.image.resize import INTEGER_MODES, input_channels, network_input_u8, network_values, resize_image
from uhd.manifest import ModelManifest, load_manifest
from uhd.resizing.colour import camera_python
from uhd.resizing.ways import WAYS, Size, Way, to_u8

Rgb = NDArray[np.uint8]
Feed = Callable[[Rgb], NDArray[np.float32]]
Track = Callable[[Sequence[Sample], str], Iterable[Sample]]
TRAINED = "as trained"


@dataclass(frozen=True)
class PathCost:
    """mAP of a model fed one way. ``cost``: against feeding it as trained, None for that itself."""

    way: str
    map50: float
    map50_95: float
    cost: Cost | None


@dataclass(frozen=True)
class ModelCosts:
    """One model on labelled photos."""

    model: str
    mode: str
    photos: int
    boxes: int
    paths: tuple[PathCost, ...]


def feed(way: Way, size: Size, mode: str) -> Feed:
    """The network input [h,w,c] of a picture that ``way`` makes smaller; colour as ``mode`` has it."""

    def run(rgb: Rgb) -> NDArray[np.float32]:
        real = way.real(rgb, size)
        if mode not in INTEGER_MODES:
            return np.asarray(np.clip(real / 255, 0, 1), np.float32)
        return network_values(mode)[network_input_u8(to_u8(real), size, mode)]

    return run


def packed_then_picked(rgb: Rgb, size: Size) -> NDArray[np.uint8]:
    """Packed YUV of the picture's own size, made smaller plane by plane: U and V go by the column of the picture."""
    planes = np.asarray(yuv422_u8(rgb[:, : max(2, rgb.shape[1] // 2 * 2)]), np.uint8)
    rows, columns = (np.arange(target) * source // target for source, target in zip(planes.shape, size, strict=False))
    return planes[rows][:, columns]


def feeds(size: Size, mode: str) -> dict[str, Feed]:
    """All ways to feed a model trained with ``mode``, how it was trained first."""
    found: dict[str, Feed] = {TRAINED: lambda rgb: resize_image(rgb, size, mode)}
    found |= {way.name: feed(way, size, mode) for way in WAYS if way.installed and way.library != "uhd"}
    if input_channels(mode) == 2:
        values = network_values(mode)
        found["camera frame"] = lambda rgb: values[camera_python(rgb, size)]
        found["resize of packed planes"] = lambda rgb: values[packed_then_picked(rgb, size)]
    return found


def measure(letter: str, samples: Sequence[Sample], track: Track = lambda items, title: items) -> ModelCosts:
    """mAP of the shipped float model of a variant, fed every way.

    Raises ``ModelError`` if the variant is not shipped, ``DataError`` for photos without any box.
    """
    path = zoo.checkpoint_path(letter)
    return measure_model(float_onnx(path), load_manifest(path.with_suffix(".json")), samples, track)


def measure_model(
    onnx: Path, manifest: ModelManifest, samples: Sequence[Sample], track: Track = lambda items, title: items
) -> ModelCosts:
    """The same for an ONNX file with an output for each map. Equal network inputs are computed once."""
    from uhd.export.verify import open_session

    boxes = sum(len(sample.boxes) for sample in samples)
    if not boxes:
        raise DataError("no photo has a box, so there is no mAP", hint="give photos with labels beside them")
    session = open_session(onnx.read_bytes(), str(onnx))
    names = [o.name for o in session.get_outputs() if o.name not in ("anchors", "wh_scale")]
    settings = Settings(EVERY_SCORE, manifest.nms_iou)
    ways = feeds((manifest.input_height, manifest.input_width), manifest.resize_mode)
    truth: list[GroundTruth] = []
    rows: dict[str, list[NDArray[Any]]] = {name: [] for name in ways}
    for sample in track(samples, f"mAP of {manifest.name}"):
        rgb = read_rgb(sample.image)
        truth.append(((rgb.shape[0], rgb.shape[1]), sample.boxes))
        known: dict[bytes, NDArray[Any]] = {}
        for name, run in ways.items():
            planes = np.ascontiguousarray(run(rgb).transpose(2, 0, 1)[None])
            key = planes.tobytes()
            if key not in known:
                maps = dict(zip(names, session.run(names, {session.get_inputs()[0].name: planes}), strict=True))
                known[key] = decode_float(maps, manifest, settings)
            rows[name].append(known[key])
    judge = Judge(truth, rows[TRAINED])
    paths = [PathCost(TRAINED, judge.floating.map50, judge.floating.map50_95, None)]
    for name in list(ways)[1:]:
        accuracy = judge.accuracy(rows[name])
        paths.append(PathCost(name, accuracy.map50, accuracy.map50_95, judge.cost(rows[name])))
    return ModelCosts(manifest.name, manifest.resize_mode, len(samples), boxes, tuple(paths))
