"""Foreign .tflite files: what their outputs are, integers at their borders, anchors beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.infer import sample_pictures
from support.tflite import reshaping_model
from uhd import Detector
from uhd.detect.decode import decode_maps
from uhd.detect.nms import detections
from uhd.errors import ModelError
from uhd.image.resize import resize_image
from uhd.infer.tflite_model import layout_of

#: Its 192 numbers are 32 rows.
SIZE = (8, 8, 3)


@pytest.mark.parametrize("integers", [False, True])
def test_rows_are_taken_as_they_are(tmp_path: Path, integers: bool) -> None:
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / "rows_8x8_opencv_inter_nearest_float32.tflite"
    path.write_bytes(reshaping_model((1, *SIZE), (1, 32, 6), integers=integers))
    picture = np.random.default_rng(3).integers(1, 256, (48, 32, 3), np.uint8)
    detector = Detector.load(path, threshold=0.0, nms=False)
    seen = resize_image(picture, SIZE[:2], "opencv_inter_nearest")
    if integers:
        seen = (np.clip(np.rint(seen * 200) + 3, 0, 255) - 3) / 200
    rows = detector.rows([picture])[0]
    assert np.allclose(rows, seen.reshape(32, 6)[seen.reshape(32, 6)[:, 0] > 0], atol=1e-6)
    assert ("uint8" if integers else "float32") in detector.engine.what


def test_maps_with_anchors_beside_the_file(tmp_path: Path) -> None:
    """One anchor: a map of boxes behind two of scores, which are its first channel; anchors as arrays."""
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / "tiny_opencv_inter_nearest_y_full_integer_quant.tflite"
    path.write_bytes(reshaping_model((1, 16, 16, 1), (1, 8, 8, 4), [1, 1]))
    with pytest.raises(ModelError, match="without anchors"):
        Detector.load(path)
    anchors = np.array([[0.2, 0.3]], np.float32)
    np.save(tmp_path / "tiny_opencv_inter_nearest_y_anchors.npy", anchors)
    picture = sample_pictures()[0]
    detector = Detector.load(path, threshold=0.0, nms=False, limit=64)
    box = resize_image(picture, (16, 16), "opencv_inter_nearest_y").reshape(1, 8, 8, 4).transpose(0, 3, 1, 2)
    maps = {"box": box, "quality": box[:, :1], "cls": box[:, :1]}
    expected = detections(*decode_maps(maps, anchors, np.ones((1, 2)), "quality_cls"), iou_threshold=None)[0]
    assert len(expected) == 64 and np.allclose(detector.rows([picture])[0], expected, atol=1e-6)
    np.save(tmp_path / "tiny_opencv_inter_nearest_y_anchors.npy", np.ones((3, 2), np.float32))
    with pytest.raises(ModelError, match="not the maps of a detector with 3 anchors"):
        Detector.load(path)


@given(st.integers(1, 9), st.integers(1, 3), st.integers(1, 5), st.randoms(use_true_random=False))
def test_layouts(anchors: int, scores: int, classes: int, random: object) -> None:
    """Any order of maps: boxes are known by their depth, classes come last, and the score is the product of all."""
    depths = [4 * anchors] + [anchors] * (scores - 1) + [anchors * classes]
    if 4 in (classes, *(d // anchors for d in depths[1:])):  # as deep as boxes: nobody can tell
        return
    random.shuffle(depths)  # type: ignore[attr-defined]
    layout = layout_of([(1, 8, 8, depth) for depth in depths], anchors, Path("m.tflite"))
    assert layout.names[depths.index(4 * anchors)] == "box" and len(set(layout.names)) == len(depths)
    if classes > 1:
        assert layout.names[depths.index(anchors * classes)] == "cls"
    maps = {
        name: np.random.default_rng(i).normal(size=(1, depth, 8, 8))
        for i, (name, depth) in enumerate(zip(layout.names, depths, strict=True))
    }
    ones = np.ones((anchors, 2))
    got, boxes = decode_maps(maps, ones, ones, layout.score_mode)
    product = np.ones((1, anchors * 64, 1))
    for name, values in maps.items():
        if name != "box":
            chance = 1 / (1 + np.exp(-values.reshape(1, anchors, -1, 64)))
            product = product * chance.swapaxes(2, 3).reshape(1, anchors * 64, -1)
    assert np.allclose(got, product)
    assert detections(got, boxes)[0].shape[1] == 6
