"""What a device must answer, by the hash of its model: a shipped model, or the made-up one of the tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from support.fakemodel import FakeModel
from support.twinlib import library
from uhd import zoo
from uhd.device.build import Component, Request, prepare_component
from uhd.device.detectors import OracleDetector, Settings
from uhd.device.results import rows_from_q16
from uhd.device.twin import Twin
from uhd.files import sha256_file
from uhd.paths import build_root

Outputs = dict[str, NDArray[Any]]
Rows = NDArray[np.float64]

#: What the shipped files are quantized for, and the build that takes them.
_BUILDS = {"c": "qemu", "esp32s3": "esp32s3", "esp32p4": "esp32p4"}


class Known(Protocol):
    """A model whose integers and boxes are known. Pictures are uint8 [H, W, C]."""

    def oracle(self, picture: NDArray[np.uint8]) -> Outputs:
        """Integers by the slow way that shares no code with the device."""
        ...

    def expected(self, picture: NDArray[np.uint8], settings: Settings) -> tuple[Rows, Outputs]:
        """Boxes and integers, as the device must send them."""
        ...


class KnownFake:
    """The made-up model."""

    def __init__(self) -> None:
        self._model = FakeModel()

    def oracle(self, picture: NDArray[np.uint8]) -> Outputs:
        return self._model.run(self._model.input_of(picture))

    def expected(self, picture: NDArray[np.uint8], settings: Settings) -> tuple[Rows, Outputs]:
        outputs = self.oracle(picture)
        thresholds = round(settings.score_threshold * 65535), round(settings.nms_iou * 65535)
        rows, _ = library(self._model).sent(outputs, *thresholds, settings.top_k)
        return rows_from_q16(rows[: settings.limit]), outputs


@dataclass
class KnownShipped:
    """A shipped model: NumPy's oracle, and the device's own code compiled for this machine."""

    component: Component

    def __post_init__(self) -> None:
        self._twin = Twin(self.component.folder)
        self._oracle = OracleDetector(self.component, Settings(0.5))

    def oracle(self, picture: NDArray[np.uint8]) -> Outputs:
        return self._oracle.detect(picture).outputs

    def expected(self, picture: NDArray[np.uint8], settings: Settings) -> tuple[Rows, Outputs]:
        s = settings
        return self._twin.detect(picture, s.score_threshold, s.nms_iou, s.top_k, s.limit)


_found: dict[str, Known | None] = {}


def known_by(model_hash: str) -> Known | None:
    """The model with that SHA-256 (hexadecimal), or None for one that is not of this release."""
    if model_hash not in _found:
        _found[model_hash] = _look_for(model_hash)
    return _found[model_hash]


def _look_for(model_hash: str) -> Known | None:
    if model_hash == FakeModel().hash.hex():
        return KnownFake()
    for letter in zoo.shipped_variants():
        for target, build in _BUILDS.items():
            for preset in ("speed", "precision"):
                shipped = zoo.shipped_espdl(letter, target, preset)
                if shipped is not None and sha256_file(shipped.path) == model_hash:
                    request = Request(letter, build, preset)
                    return KnownShipped(prepare_component(request, folder=build_root() / request.name / "uhd_model"))
    return None
