"""mAP of an exported file on labelled photos, beside that of the checkpoint it was made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from uhd.data.yolo import Sample
from uhd.detect.coco import GroundTruth, evaluate
from uhd.detect.heads import decode_head, suppression_iou
from uhd.detect.nms import Rows, detections, top_k_rows
from uhd.errors import DataError, ModelError
from uhd.export.flavours import frozen
from uhd.export.metadata import read_manifest
from uhd.export.outputs import find_boxes, suppress
from uhd.export.record import ExportRecord, read_record
from uhd.export.verify import open_session
from uhd.image.files import read_rgb
from uhd.image.resize import resize_image
from uhd.manifest import ModelManifest
from uhd.models.detector import Detector

#: Largest difference in mAP that is taken for rounding.
MAP_TOLERANCE = 1e-4

#: Suppression and limit of the COCO protocol as used here; every score counts.
NMS_IOU = 0.5
LIMIT = 100

Track = Callable[[Sequence[Sample]], Iterable[Sample]]


@dataclass(frozen=True)
class Figures:
    """mAP at IoU 0.50, and at 0.50 to 0.95."""

    map50: float
    map50_95: float


@dataclass(frozen=True)
class Validation:
    """``torch``: the checkpoint, ``onnx``: the file, both fed with photos resized as in training. ``own_size``: the
    file fed with the photos as they are, where it resizes by itself."""

    images: int
    boxes: int
    torch: Figures
    onnx: Figures
    own_size: Figures | None = None

    @property
    def difference(self) -> float:
        """The larger of the two differences in mAP."""
        return max(
            abs(self.onnx.map50 - self.torch.map50),
            abs(self.onnx.map50_95 - self.torch.map50_95),
        )


def validate(
    path: Path, model: Detector, samples: Sequence[Sample], track: Track = lambda samples: samples
) -> Validation:
    """Measure the file at ``path`` and the ``model`` that it was made from on labelled photos.

    Flavours with rows keep ``top_k`` candidates before suppression; the model's are cut in the same way. Attributes
    are left out. Raises ``ModelError`` if mAP differs by more than ``MAP_TOLERANCE``, and for a file that is not of
    ours; ``DataError`` for photos without any box.
    """
    if not any(len(sample.boxes) for sample in samples):
        raise DataError("no photo has a box, so there is no mAP", hint="give photos with labels beside them")
    data = path.read_bytes()
    stored = onnx.load_from_string(data)
    record, manifest = read_record(stored, str(path)), read_manifest(stored, str(path))
    if record is None or manifest is None:
        raise ModelError(f"{path}: carries no export record", hint="export it with `python -m uhd.host export`")
    session = open_session(data, str(path))
    model = frozen(model)
    size = manifest.input_height, manifest.input_width
    classes = model.config.class_count or 1

    def run(images: NDArray[np.float32]) -> Rows:
        """What the file finds in the one picture [C,H,W]."""
        batch = np.repeat(images[None], record.input.shape[0], 0)
        outputs = dict(zip(names, session.run(names, {record.input.name: batch}), strict=True))
        rows = find_boxes(record, manifest, outputs, iou=NMS_IOU, limit=None)[0]
        return rows[rows[:, 1] < classes][:LIMIT]

    names = [port.name for port in record.outputs]
    truth: list[GroundTruth] = []
    found: dict[str, list[Rows]] = {"torch": [], "onnx": [], "own": []}
    for sample in track(samples):
        rgb = read_rgb(sample.image)
        truth.append((rgb.shape[:2], sample.boxes))
        image = _planes(resize_image(rgb, size, manifest.resize_mode))
        found["torch"].append(_expected(model, image, record, classes))
        found["onnx"].append(run(image))
        if record.dynamic_resize:
            found["own"].append(run(_own_size(rgb, manifest)))
    results = {name: evaluate(truth, rows) for name, rows in found.items() if rows}
    figures = {name: Figures(result.map50, result.map50_95) for name, result in results.items()}
    boxes = results["torch"].boxes
    result = Validation(len(samples), boxes, figures["torch"], figures["onnx"], figures.get("own"))
    if not result.difference <= MAP_TOLERANCE:
        raise ModelError(
            f"the exported file reaches mAP {result.onnx.map50:.5f} and {result.onnx.map50_95:.5f} on {len(samples)} "
            f"photos, the checkpoint {result.torch.map50:.5f} and {result.torch.map50_95:.5f}",
            hint=f"a difference above {MAP_TOLERANCE:g} is no rounding: report the model's options",
        )
    return result


@torch.no_grad()
def _expected(model: Detector, image: NDArray[np.float32], record: ExportRecord, classes: int) -> Rows:
    """What the model finds in a picture [C,H,W], by the decoder of training and validation."""
    config = model.config
    maps = model.maps(torch.from_numpy(image[None]))

    def decoded(maps: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return decode_head(
            config.head,
            maps,
            anchors=model.anchors,
            wh_scale=model.wh_scale,
            score_mode=config.resolved_score_mode,
            quality_power=config.quality_power,
        )

    scores, boxes = decoded(maps)
    iou = suppression_iou(config.head, NMS_IOU)
    if not record.rows:
        return detections(scores, boxes, iou_threshold=iou, top_k=LIMIT)[0]
    several = record.multi_label != "none"
    if record.multi_label == "separate":
        scores = torch.cat((scores, decoded(maps | {"cls": maps["attr"]})[0]), -1)
    assert record.top_k is not None
    rows = top_k_rows(scores, boxes, k=record.top_k, score_threshold=record.conf_thresh, multi_label=several)[0]
    rows = suppress(rows, 0.0, iou, None)
    return rows[rows[:, 1] < classes][:LIMIT]


def _own_size(rgb: NDArray[np.uint8], manifest: ModelManifest) -> NDArray[np.float32]:
    """A photo as the caller of a resizing file hands it over: colour converted, its own size (packed YUV: even)."""
    if manifest.input_channels == 2:
        rgb = rgb[:, : max(2, rgb.shape[1] // 2 * 2)]
    mode: Any = manifest.resize_mode if manifest.input_channels < 3 else "torch_nearest"
    return _planes(resize_image(rgb, (rgb.shape[0], rgb.shape[1]), mode))


def _planes(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(picture.transpose(2, 0, 1))
