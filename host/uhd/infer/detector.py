"""``Detector``: a model file as a function from pictures to boxes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.detect.nms import Rows
from uhd.errors import ConfigError
from uhd.image.files import read_rgb
from uhd.infer.box import Box, boxes_of
from uhd.infer.engines import Engine, Settings
from uhd.infer.files import open_model
from uhd.infer.options import ModelOptions
from uhd.manifest import ModelManifest

Image = NDArray[np.uint8] | str | os.PathLike[str]
"""RGB uint8 [H,W,3], or the path of a picture file."""


class Detector:
    """Finds persons (or what the model was trained on) in pictures. For use from several threads.

    ``settings`` says what counts as found, and may be replaced at any time; ``manifest`` what the model is.
    """

    def __init__(self, engine: Engine, settings: Settings | None = None) -> None:
        """``settings``: None takes the model's own."""
        self.engine = engine
        m = engine.manifest
        self.settings = settings or Settings(m.score_threshold, m.nms_iou, m.top_k)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        threshold: float | None = None,
        nms_iou: float | None = None,
        nms: bool = True,
        limit: int | None = None,
        options: ModelOptions | None = None,
    ) -> Detector:
        """A detector of a model file: ONNX of any flavour, .tflite, .espdl, .safetensors, or a published .pt.

        ``threshold``: lowest score, 0..1; ``nms_iou``: overlap from which the weaker of two boxes is dropped, with
        ``nms``; ``limit``: boxes a picture. None takes the model's own. Raises as ``uhd.infer.files.open_model`` does.
        """
        detector = cls(open_model(Path(path), options))
        detector.choose(threshold=threshold, nms_iou=nms_iou, nms=nms, limit=limit)
        return detector

    def choose(
        self,
        *,
        threshold: float | None = None,
        nms_iou: float | None = None,
        nms: bool = True,
        limit: int | None = None,
        second_look: bool | None = None,
    ) -> None:
        """Replace those settings that are given. ``second_look``: where nothing is found, half the threshold counts.

        Raises ``ConfigError`` for values out of range.
        """
        for name, value in (("threshold", threshold), ("nms_iou", nms_iou)):
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{name} {value:g} is not in 0..1")
        if limit is not None and limit < 1:
            raise ConfigError(f"a limit of {limit} boxes leaves none")
        given: dict[str, Any] = {
            "threshold": threshold, "nms_iou": nms_iou, "limit": limit, "second_look": second_look,
        }  # fmt: skip
        self.settings = replace(self.settings, **{key: value for key, value in given.items() if value is not None})
        if not nms:
            self.settings = replace(self.settings, nms_iou=None)

    @property
    def manifest(self) -> ModelManifest:
        """What the model is, and how it is fed and read."""
        return self.engine.manifest

    def __call__(self, image: Image) -> list[Box]:
        """The boxes in one picture, best first. Raises ``DataError`` for a picture file that cannot be read,
        ``ValueError`` for an array that is no RGB picture."""
        return self.many([image])[0]

    def many(self, images: Sequence[Image]) -> list[list[Box]]:
        """The boxes in each of several pictures, which a model that takes batches computes together."""
        pictures = [image if isinstance(image, np.ndarray) else read_rgb(Path(image)) for image in images]
        names = self.manifest.class_names
        return [
            boxes_of(rows, picture.shape[1], picture.shape[0], names)
            for rows, picture in zip(self.rows(pictures), pictures, strict=True)
        ]

    def rows(self, pictures: Sequence[NDArray[Any]]) -> list[Rows]:
        """The same as rows [n,6] score, class, cx, cy, w, h, normalised to the picture and not cut at its edges."""
        settings = self.settings
        found = self.engine.run(
            [self.engine.prepare(picture) for picture in pictures], replace(settings, threshold=settings.least)
        )
        if not settings.looks_twice:
            return found
        # Suppression goes by score, so what is above a threshold does not depend on what is below.
        strong = [rows[rows[:, 0] >= settings.threshold] for rows in found]
        return [best if len(best) else rows for best, rows in zip(strong, found, strict=True)]
