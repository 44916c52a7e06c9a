"""What every candidate is measured on, prepared once and kept in a file for all processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.data.yolo import Sample
from uhd.detect.coco import GroundTruth, evaluate
from uhd.device.detectors import EVERY_SCORE, OnnxDetector, Settings
from uhd.device.frames import make_stimulus
from uhd.errors import DataError
from uhd.explain.accuracy import GROUPS
from uhd.files import atomic_path, sha256_file
from uhd.image.files import read_rgb
from uhd.manifest import ModelManifest, parse_manifest

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Inputs:
    """``onnx``: the float model. ``calibration``: float32 [N, C, H, W] in 0..1. ``networks``: uint8 [P, H, W, C], the
    validation photos as network inputs; ``truth``: their boxes; ``maps``: the float model's, [P, C, h, w] by name.
    ``rates``: a board's own, to predict times with."""

    onnx: Path
    manifest: ModelManifest
    target: str
    calibration: NDArray[np.float32]
    calibration_note: str
    networks: NDArray[np.uint8]
    truth: tuple[GroundTruth, ...]
    maps: dict[str, NDArray[np.float32]]
    rates: Path | None = None

    @property
    def settings(self) -> Settings:
        """Decode settings under which mAP is measured, here as in ``parity``."""
        return Settings(EVERY_SCORE, self.manifest.nms_iou)

    def digest(self) -> dict[str, str]:
        """What measurements depend on, besides the candidate."""
        photos = hashlib.sha256(self.networks.tobytes())
        for size, boxes in self.truth:
            photos.update(repr(size).encode() + np.asarray(boxes, np.float64).tobytes())
        rates = {"rates_sha256": sha256_file(self.rates)} if self.rates else {}
        return rates | {
            "float_sha256": sha256_file(self.onnx),
            "manifest_sha256": hashlib.sha256(self.manifest.dumps().encode()).hexdigest(),
            "target": self.target,
            "calibration_sha256": hashlib.sha256(self.calibration.tobytes()).hexdigest(),
            "validation_sha256": photos.hexdigest(),
        }

    def save(self, path: Path) -> None:
        """Write everything to one .npz file."""
        boxes = [np.asarray(boxes, np.float64).reshape(-1, 5) for _, boxes in self.truth]
        text = {"onnx": str(self.onnx), "manifest": self.manifest.dumps(), "target": self.target}
        text |= {"calibration_note": self.calibration_note, "rates": str(self.rates or "")}
        arrays: dict[str, Any] = {f"map_{name}": values for name, values in self.maps.items()}
        arrays |= {key: np.array(value) for key, value in text.items()}
        with atomic_path(path) as temporary:
            np.savez(
                temporary, calibration=self.calibration, networks=self.networks, boxes=np.concatenate(boxes),
                counts=[len(rows) for rows in boxes], sizes=[size for size, _ in self.truth],
                **arrays,
            )  # fmt: skip


def load_inputs(path: Path) -> Inputs:
    """What ``save`` has written."""
    with np.load(path, allow_pickle=False) as file:
        boxes = np.split(file["boxes"], np.cumsum(file["counts"])[:-1])
        return Inputs(
            Path(str(file["onnx"])),
            parse_manifest(str(file["manifest"]), str(path)),
            str(file["target"]),
            file["calibration"],
            str(file["calibration_note"]),
            file["networks"],
            tuple(((int(h), int(w)), rows) for (h, w), rows in zip(file["sizes"], boxes, strict=True)),
            {name.removeprefix("map_"): file[name] for name in file.files if name.startswith("map_")},
            Path(str(file["rates"])) if str(file["rates"]) else None,
        )


def prepare(
    onnx: Path, manifest: ModelManifest, target: str, calibration: NDArray[np.float32], note: str,
    samples: Sequence[Sample], progress: Callable[[str, int, int], None],
) -> tuple[Inputs, Figures]:  # fmt: skip
    """Inputs from labelled photos, and the float model's figures on them.

    Raises ``DataError`` for photos without any box.
    """
    if not any(len(sample.boxes) for sample in samples):
        raise DataError("no boxes in the labels of the validation photos", hint="mAP needs labelled photos")
    networks, truth, rows = [], [], []
    maps: dict[str, list[NDArray[np.float32]]] = {}
    inputs = Inputs(onnx, manifest, target, calibration, note, np.empty(0, np.uint8), (), {})
    floating = OnnxDetector(onnx, manifest, inputs.settings)
    for place, sample in enumerate(samples):
        rgb = read_rgb(sample.image)
        networks.append(make_stimulus(rgb, manifest).network)
        truth.append(((rgb.shape[0], rgb.shape[1]), np.asarray(sample.boxes)))
        found = floating.detect(networks[-1])
        rows.append(found.rows)
        for name, values in found.outputs.items():
            maps.setdefault(name, []).append(np.asarray(values[0], np.float32))
        progress("photos", place + 1, len(samples))
    inputs = replace(
        inputs,
        networks=np.stack(networks),
        truth=tuple(truth),
        maps={name: np.stack(values) for name, values in maps.items()},
    )
    return inputs, figures(inputs.truth, rows)


@dataclass(frozen=True)
class Figures:
    """mAP on all photos, without each of ``GROUPS`` groups of them, and on the even and the odd ones."""

    map50: float
    map50_95: float
    left_out: tuple[float, ...]
    halves: tuple[float, float]


def figures(truth: Sequence[GroundTruth], rows: Sequence[Rows]) -> Figures:
    """The mAP of rows [score, class, cx, cy, w, h] of each photo."""

    def on(places: Sequence[int]) -> float:
        return evaluate([truth[i] for i in places], [rows[i] for i in places]).map50

    every = range(len(truth))
    whole = evaluate(truth, rows)
    groups = range(GROUPS) if len(truth) >= 2 * GROUPS else ()
    return Figures(
        whole.map50,
        whole.map50_95,
        tuple(on([i for i in every if i % GROUPS != group]) for group in groups),
        (on(every[0::2]), on(every[1::2])),
    )
