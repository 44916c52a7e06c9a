"""Parity: every photo through the float model, the host's integers and the device, compared to the bit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.data.yolo import Sample
from uhd.detect.coco import MapResult, evaluate
from uhd.device.detectors import Detection, Detector
from uhd.errors import DataError
from uhd.image.files import read_rgb
from uhd.image.resize import network_input_u8
from uhd.manifest import ModelManifest


@dataclass
class EngineRun:
    """All that one engine said, in the order of the photos."""

    name: str
    rows: list[NDArray[np.float64]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    result: MapResult | None = None


@dataclass(frozen=True)
class PairDifference:
    """Where two integer engines disagree: photo indices with other integers, and with other boxes."""

    first: str
    second: str
    integers: list[int]
    boxes: list[int]


@dataclass(frozen=True)
class ParityReport:
    """Photos, runs by engine name in the order asked for, and the differences of neighbouring integer engines."""

    photos: list[Path]
    labelled: bool
    runs: dict[str, EngineRun]
    pairs: list[PairDifference]

    @property
    def exact(self) -> bool:
        """True if all integer engines gave the same integers and, where they share the decoder, the same boxes."""
        return all(not pair.integers and not pair.boxes for pair in self.pairs)

    def as_dict(self) -> dict[str, Any]:
        """The report for ``--json``."""
        reference = next(iter(self.runs.values()))
        return {
            "photos": len(self.photos),
            "labelled": self.labelled,
            "engines": {
                name: None
                if run.result is None or reference.result is None
                else {
                    "map50": run.result.map50,
                    "map50_95": run.result.map50_95,
                    "map50_difference": run.result.map50 - reference.result.map50,
                    "map50_95_difference": run.result.map50_95 - reference.result.map50_95,
                }
                for name, run in self.runs.items()
            },
            "pairs": [
                {
                    "first": pair.first,
                    "second": pair.second,
                    "photos_with_other_integers": len(pair.integers),
                    "photos_with_other_boxes": len(pair.boxes),
                }
                for pair in self.pairs
            ],
            "exact": self.exact,
        }


def digest(outputs: dict[str, NDArray[Any]]) -> str:
    """A hash over named integer tensors that does not depend on their container type."""
    state = hashlib.sha256()
    for name in sorted(outputs):
        values = np.ascontiguousarray(np.asarray(outputs[name]).astype("<i4").reshape(-1))
        state.update(f"{name}:{values.size};".encode() + values.tobytes())
    return state.hexdigest()


def network_input(path: Path, manifest: ModelManifest) -> NDArray[np.uint8]:
    """The uint8 network input [H, W, C] of a photo, by the model's own resize mode."""
    size = (manifest.input_height, manifest.input_width)
    return network_input_u8(read_rgb(path), size, manifest.resize_mode)


def run_parity(
    samples: Sequence[Sample],
    manifest: ModelManifest,
    detectors: Sequence[Detector],
    track: Callable[[Sequence[Sample]], Iterable[Sample]] = lambda items: items,
) -> ParityReport:
    """Send every photo through every detector and compare. The first detector is the reference of the mAP column."""
    if not samples:
        raise DataError("no photos to compare", hint="give a folder that holds .jpg or .png files")
    runs = {detector.name: EngineRun(detector.name) for detector in detectors}
    sizes: list[tuple[int, int]] = []
    for sample in track(samples):
        photo = read_rgb(sample.image)
        sizes.append((photo.shape[0], photo.shape[1]))
        tensor = network_input_u8(photo, (manifest.input_height, manifest.input_width), manifest.resize_mode)
        for detector in detectors:
            _store(runs[detector.name], detector.detect(tensor))
    labelled = any(len(sample.boxes) for sample in samples)
    if labelled:
        truth = [(size, np.asarray(sample.boxes)) for size, sample in zip(sizes, samples, strict=True)]
        for run in runs.values():
            run.result = evaluate(truth, run.rows)
    return ParityReport([sample.image for sample in samples], labelled, runs, _pairs(list(runs.values())))


def _store(run: EngineRun, detection: Detection) -> None:
    run.rows.append(detection.rows)
    run.digests.append("" if run.name == "onnx" else digest(detection.outputs))


def _pairs(runs: Sequence[EngineRun]) -> list[PairDifference]:
    """Neighbours among the integer engines; boxes are compared where both decode with the device's integers."""
    integer = [run for run in runs if run.name != "onnx"]
    pairs = []
    for first, second in zip(integer, integer[1:], strict=False):
        integers = [i for i, (a, b) in enumerate(zip(first.digests, second.digests, strict=True)) if a != b]
        boxes: list[int] = []
        if "oracle" not in (first.name, second.name):
            rows = zip(first.rows, second.rows, strict=True)
            boxes = [i for i, (a, b) in enumerate(rows) if not np.array_equal(a, b)]
        pairs.append(PairDifference(first.name, second.name, integers, boxes))
    return pairs
