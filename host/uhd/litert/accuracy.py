"""mAP of .tflite files on labelled photos, beside that of the ONNX file they were made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from uhd.data.yolo import Sample
from uhd.detect.coco import GroundTruth, MapResult, evaluate
from uhd.detect.nms import Rows
from uhd.errors import DataError
from uhd.export.outputs import find_boxes
from uhd.image.files import read_rgb
from uhd.litert.source import FloatModel
from uhd.quantize.calibration import network_input

FloatArray = NDArray[np.float32]

#: From pictures [N,C,H,W] to maps [N,C,H,W] by name.
Engine = Callable[[FloatArray], Mapping[str, FloatArray]]
Track = Callable[[Sequence[Sequence[Sample]]], Iterable[Sequence[Sample]]]

#: Photos that an engine gets at once: starting a program takes as long as a few hundred of them.
_AT_ONCE = 480


def measure(
    model: FloatModel,
    engines: Mapping[str, Engine],
    samples: Sequence[Sample],
    track: Track = lambda parts: parts,
) -> dict[str, MapResult]:
    """mAP of each of ``engines``, with every score counted, through the decoder and suppression of all engines here.

    Raises ``DataError`` for photos without any box.
    """
    if not any(len(sample.boxes) for sample in samples):
        raise DataError("no photo has a box, so there is no mAP", hint="give photos with labels beside them")
    classes = len(model.manifest.class_names)
    truth: list[GroundTruth] = []
    found: dict[str, list[Rows]] = {name: [] for name in engines}
    for part in track([samples[first : first + _AT_ONCE] for first in range(0, len(samples), _AT_ONCE)]):
        pictures = []
        for sample in part:
            rgb = read_rgb(sample.image)
            truth.append((rgb.shape[:2], sample.boxes))
            pictures.append(network_input(rgb, model.manifest))
        for name, engine in engines.items():
            rows = find_boxes(model.record, model.manifest, engine(np.stack(pictures)))
            found[name] += [one[one[:, 1] < classes] for one in rows]
    return {name: evaluate(truth, rows) for name, rows in found.items()}
