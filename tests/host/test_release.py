"""The score threshold that a released model gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.scene_folder import write_scenes
from uhd import zoo
from uhd.data.yolo import load_split
from uhd.device import build
from uhd.device.detectors import EVERY_SCORE, OnnxDetector, Settings
from uhd.host import release
from uhd.image.files import read_rgb
from uhd.image.resize import network_input_u8
from uhd.manifest import load_manifest


def best_f1_by_hand(scores: list[float], right: list[bool], boxes: int) -> float:
    """The threshold at which 2 TP / (detections + boxes) is highest."""
    order = np.argsort(scores)[::-1]
    hits = np.cumsum(np.array(right)[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + boxes)
    return scores[order[int(f1.argmax())]]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    low = np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    high = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
    inter = float(np.prod(np.clip(high - low, 0, None)))
    return inter / (a[2] * a[3] + b[2] * b[3] - inter)


def test_threshold_is_that_of_the_best_f1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UHD_BUILD", str(tmp_path / "build"))
    monkeypatch.setattr(release, "THRESHOLD_EVERY", 2)
    folder = write_scenes(tmp_path / "scenes", 40)
    manifest = load_manifest(zoo.checkpoint_path("R").with_suffix(".json"))
    onnx = build.float_onnx(zoo.checkpoint_path("R"))
    found = release._with_threshold(manifest, onnx, folder, lambda items: items)
    assert found.training["score_threshold_from"] == "best F1 at IoU 0.5 on 20 photos of scenes"

    scores, right, boxes = [], [], 0
    detector = OnnxDetector(onnx, manifest, Settings(EVERY_SCORE, manifest.nms_iou))
    for sample in load_split(folder)[::2]:
        rows = detector.detect(network_input_u8(read_rgb(sample.image), (64, 64), manifest.resize_mode)).rows
        free = list(sample.boxes[:, 1:].astype(float))
        boxes += len(free)
        for row in sorted(rows.tolist(), reverse=True)[:100]:
            overlaps = [iou(np.array(row[2:]), box) for box in free]
            best = int(np.argmax(overlaps)) if overlaps else -1
            scores.append(row[0])
            right.append(best >= 0 and overlaps[best] >= 0.5)
            if right[-1]:
                free.pop(best)
    assert found.score_threshold == pytest.approx(best_f1_by_hand(scores, right, boxes), abs=0.011)

    next(folder.glob("*.txt")).unlink()
    assert release._with_threshold(manifest, onnx, folder, lambda items: items) == manifest
