"""The outputs of an exported file as detections, whatever its flavour. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.detect.heads import decode_head, suppression_iou
from uhd.detect.nms import Rows, detections, greedy_nms
from uhd.errors import ModelError
from uhd.export.record import ROWS, ExportRecord
from uhd.manifest import ModelManifest

Outputs = Mapping[str, NDArray[Any]]


def find_boxes(
    record: ExportRecord,
    manifest: ModelManifest,
    outputs: Outputs,
    *,
    score_threshold: float = 0.0,
    iou: float | None = 0.5,
    limit: int | None = 100,
) -> list[Rows]:
    """Detections of each picture of a batch, [n,6] rows score, class, cx, cy, w, h, best first.

    ``outputs`` by name, as the file gives them. ``iou``: that of suppression, for heads that it suits. At most
    ``limit`` a picture. Raises ``ModelError`` where the outputs are not those of the record.
    """
    missing = [port.name for port in record.outputs if port.name not in outputs]
    if missing:
        raise ModelError(f"{manifest.name}: output {missing[0]} is missing", hint="run all outputs of the file")
    iou = suppression_iou(record.head, iou)
    if record.rows:
        return [suppress(rows, score_threshold, iou, limit) for rows in np.asarray(outputs[ROWS], np.float32)]
    scores, boxes = _candidates(record, manifest, outputs)
    return detections(scores, boxes, score_threshold=score_threshold, iou_threshold=iou, top_k=limit)


def suppress(rows: Rows, score_threshold: float, iou: float | None, limit: int | None) -> Rows:
    """Those of ``rows``, best first, that have a score and survive suppression."""
    rows = rows[(rows[:, 0] >= score_threshold) & (rows[:, 0] > 0)]
    return rows[:limit] if iou is None else rows[greedy_nms(rows[:, 2:], rows[:, 1], iou, limit)]


def _candidates(record: ExportRecord, manifest: ModelManifest, outputs: Outputs) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scores [B,N,classes] and boxes [B,N,4] of all candidates."""
    if record.flavour == "primitive":
        base = outputs["score"]
        boxes = np.stack([outputs[name] for name in ("cx", "cy", "bw", "bh")], -1).reshape(len(base), -1, 4)
        scores = base[..., None] * outputs["cls_scores"] if "cls_scores" in outputs else base[..., None]
        return scores.reshape(*boxes.shape[:2], -1), boxes
    maps = {name: outputs[name] for name in record.fields} if record.flavour == "parts" else _split(record, outputs)
    return decode_head(
        record.head,
        maps,
        anchors=manifest.anchors,
        wh_scale=manifest.wh_scale,
        score_mode=manifest.score_mode,
        quality_power=manifest.quality_power,
    )


def _split(record: ExportRecord, outputs: Outputs) -> dict[str, NDArray[Any]]:
    """The maps of a raw map, whose channels hold the record's fields, anchor by anchor."""
    raw, count = outputs[record.outputs[0].name], len(outputs["anchors"])
    batch, channels, height, width = raw.shape
    view = raw.reshape(batch, count, channels // count, height, width)
    sizes = {"box": 4, "obj": 1, "quality": 1}
    sizes["cls"] = channels // count - sum(sizes[name] for name in record.fields if name != "cls")
    maps, first = {}, 0
    for name in record.fields:
        maps[name] = view[:, :, first : first + sizes[name]].reshape(batch, -1, height, width)
        first += sizes[name]
    return maps
