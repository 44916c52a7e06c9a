"""What runs a model: a float network on batches, or whatever computes as the device does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uhd.detect.nms import Rows
from uhd.device import detectors as device
from uhd.errors import ModelError
from uhd.export.outputs import find_boxes
from uhd.export.record import ExportRecord
from uhd.image.resize import INTEGER_MODES, network_input_u8, resize_image
from uhd.manifest import ModelManifest

Network = NDArray[Any]
"""The network input of one picture."""

#: Scores below are noise, whatever the picture. The reference's value.
LEAST_THRESHOLD = 0.05


@dataclass(frozen=True)
class Settings:
    """What counts as found: scores from ``threshold`` (0..1) on; ``nms_iou``: of two boxes of a class that overlap so
    much the weaker is dropped (None: none is); at most ``limit`` boxes a picture. ``second_look``: where nothing is
    found, half the threshold counts, though not less than ``LEAST_THRESHOLD``."""

    threshold: float
    nms_iou: float | None = 0.5
    limit: int = 100
    second_look: bool = False

    @property
    def least(self) -> float:
        """The lowest score that may count."""
        return max(LEAST_THRESHOLD, self.threshold / 2) if self.looks_twice else self.threshold

    @property
    def looks_twice(self) -> bool:
        """Whether a second look could find more."""
        return self.second_look and self.threshold > LEAST_THRESHOLD


class Engine(Protocol):
    """Runs a model. All methods may be called from several threads at once."""

    manifest: ModelManifest
    what: str
    """The kind of model in words: ``ONNX, parts``."""

    def prepare(self, rgb: NDArray[np.uint8]) -> Network:
        """The network input of a picture, RGB uint8 [H,W,3]."""

    def run(self, inputs: Sequence[Network], settings: Settings) -> list[Rows]:
        """Rows [n,6] score, class, cx, cy, w, h (normalised) of each picture, best first."""

    def close(self) -> None:
        """Let go of what is held open."""


class Batched(Protocol):
    """A float network. ``batch``: pictures it takes at once, None: any number."""

    batch: int | None

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Outputs by the record's names, for images [B,C,H,W]."""


class FloatEngine:
    """A float network whose outputs ``record`` describes, decoded as ``manifest`` says."""

    def __init__(self, network: Batched, record: ExportRecord, manifest: ModelManifest, what: str) -> None:
        self._network, self._record = network, record
        self.manifest, self.what = manifest, what

    def prepare(self, rgb: NDArray[np.uint8]) -> Network:
        manifest = self.manifest
        picture = resize_image(rgb, (manifest.input_height, manifest.input_width), manifest.resize_mode)
        return np.ascontiguousarray(picture.transpose(2, 0, 1))

    def run(self, inputs: Sequence[Network], settings: Settings) -> list[Rows]:
        if not inputs:
            return []
        parts = [self._network(images) for images in self._batches(inputs)]
        constant = {name for name in parts[0] if name in ("anchors", "wh_scale")}
        outputs = {
            name: value if name in constant or len(parts) == 1 else np.concatenate([part[name] for part in parts])
            for name, value in parts[0].items()
        }
        rows = find_boxes(
            self._record,
            self.manifest,
            outputs,
            score_threshold=settings.threshold,
            iou=settings.nms_iou,
            limit=settings.limit,
        )
        return rows[: len(inputs)]

    def _batches(self, inputs: Sequence[Network]) -> list[NDArray[np.float32]]:
        """The inputs in batches that the network takes; the last is filled up with its last picture."""
        size = self._network.batch or len(inputs)
        groups = [list(inputs[start : start + size]) for start in range(0, len(inputs), size)]
        groups[-1] += [groups[-1][-1]] * (size - len(groups[-1]))
        return [np.stack(group) for group in groups]

    def close(self) -> None:
        pass


class DeviceEngine:
    """The device's integers: its code on this machine, the integer oracle, or an emulator. One picture at a time."""

    def __init__(self, make: Callable[[device.Settings], device.Detector], manifest: ModelManifest, what: str) -> None:
        """``make`` gives a detector of the same model for other settings."""
        if manifest.resize_mode not in INTEGER_MODES:
            raise ModelError(f"{manifest.name}: resize mode {manifest.resize_mode} has no integers to run on")
        self._make = make
        self._lock = threading.Lock()
        self._settings: Settings | None = None
        self._detector: device.Detector
        self.manifest, self.what = manifest, what

    def prepare(self, rgb: NDArray[np.uint8]) -> Network:
        manifest = self.manifest
        return network_input_u8(rgb, (manifest.input_height, manifest.input_width), manifest.resize_mode)

    def run(self, inputs: Sequence[Network], settings: Settings) -> list[Rows]:
        with self._lock:
            if settings != self._settings:
                threshold = max(device.EVERY_SCORE, settings.threshold)
                iou = 1.0 if settings.nms_iou is None else settings.nms_iou
                self._detector = self._make(device.Settings(threshold, iou, limit=settings.limit))
                self._settings = settings
            return [self._detector.detect(network).rows.astype(np.float32) for network in inputs]

    def close(self) -> None:
        pass
