"""Decoded rows and NMS results of the reference, from its own raw maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.shared import ROOT, shared_dir
from uhd.detect.decode import decode_maps, split_raw
from uhd.detect.nms import detections, top_k_rows


def cases() -> list[str]:
    import os

    folder = Path(os.environ.get("UHD_SHARED", ROOT.parent / "shared")) / "fixtures" / "golden"
    index = folder / "index.json"
    if not index.exists():
        return ["absent"]
    return [name for name, case in json.loads(index.read_text()).items() if case["kind"] == "ultratinyod"]


def wh_scale_of(case: dict[str, Any]) -> np.ndarray:
    """The reference's deterministic weights are a function of the key: uniform 0.8..1.2 for wh_scale."""
    import zlib

    shape = (len(case["anchors"]), 2)
    return np.random.RandomState(zlib.crc32(b"head.wh_scale")).uniform(0.8, 1.2, shape).astype(np.float32)  # noqa: NPY002


def assert_rows_match(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """Equal as sets: scores in the same order, each row with a partner (equal scores may swap)."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found[:, 0], expected[:, 0], atol=tolerance, rtol=0)
    distance = np.abs(found[:, None] - expected[None]).max(axis=2)
    assert (distance.min(axis=1) <= tolerance).all()
    assert (distance.min(axis=0) <= tolerance).all()


def candidates(name: str, folder: Path, *, exported: bool) -> tuple[dict[str, Any], Any, Any]:
    case = json.loads((folder / "index.json").read_text())[name]
    raw = np.load(folder / name / "raw.npy")
    classes = 0 if case["config"].get("disable_cls") else case["num_classes"]
    maps = split_raw(raw, len(case["anchors"]), classes, case["has_quality"])
    power = case["config"].get("quality_power", 1.0)
    wh_scale = wh_scale_of(case)
    if exported and not case["config"].get("use_improved_head"):
        # without the improved head wh_scale is a buffer of ones, and the reference's exported graph leaves it out;
        # only these goldens, filled by key name, have other values there, and its Python decoder does apply them
        wh_scale = np.ones_like(wh_scale)
    scores, boxes = decode_maps(maps, case["anchors"], wh_scale, case["score_mode"], power)
    return case, scores, boxes


@pytest.mark.parametrize("name", cases())
def test_decoded_rows(name: str) -> None:
    folder = shared_dir("fixtures", "golden")
    _, scores, boxes = candidates(name, folder, exported=True)
    expected = np.load(folder / name / "decoded.npy")
    found = top_k_rows(scores, boxes, k=100)
    assert len(found) == len(expected)
    for image in range(len(expected)):
        # the 100th and 101st may tie: compare where the score is above the last one
        clear = expected[image, :, 0] > expected[image, -1, 0] + 1e-5
        assert_rows_match(found[image][clear], expected[image][clear])
        np.testing.assert_allclose(found[image, :, 0], expected[image, :, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", cases())
def test_suppressed_detections(name: str) -> None:
    folder = shared_dir("fixtures", "golden")
    case, scores, boxes = candidates(name, folder, exported=False)
    expected = json.loads((folder / name / "decode_nms.json").read_text())
    found = detections(scores, boxes, score_threshold=0.05, iou_threshold=0.5, top_k=None)
    assert [len(rows) for rows in found] == case["decode_nms"]["counts"]
    for rows, golden in zip(found, expected, strict=True):
        assert_rows_match(rows, np.array(golden))


def test_reference_decode_modes() -> None:
    golden = json.loads(shared_dir("fixtures", "losses", "losses.json").read_text())
    setup = golden["anchor_setup"]
    raw = np.random.RandomState(51).normal(0, 1.5, (1, 27, 4, 5)).astype(np.float32)  # noqa: NPY002
    maps = split_raw(raw, 3, 3, True)
    results = golden["decode_modes"]["results"]
    assert len(results) == 28
    for key, expected in results.items():
        mode, multi_label, power = key.split("|")
        scores, boxes = decode_maps(maps, setup["anchors"], setup["wh_scale"], mode, float(power[2:]), reference=True)
        (rows,) = detections(
            scores, boxes, score_threshold=0.4, iou_threshold=0.5, top_k=None, multi_label=multi_label == "ml1"
        )
        assert_rows_match(rows, np.array(expected).reshape(-1, 6))


def test_reference_suppression() -> None:
    golden = json.loads(shared_dir("fixtures", "losses", "losses.json").read_text())["map"]
    for rows, expected in zip(golden["preds"], golden["nms_0_5"], strict=True):
        table = np.array(rows, dtype=np.float32).reshape(1, -1, 6)
        scores = np.zeros((1, table.shape[1], 3), dtype=np.float32)
        np.put_along_axis(scores, table[..., 1:2].astype(np.int64), table[..., :1], axis=2)
        (found,) = detections(scores, table[..., 2:], iou_threshold=0.5, top_k=None)
        assert_rows_match(found, np.array(expected).reshape(-1, 6), 1e-6)
