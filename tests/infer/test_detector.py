"""``uhd.Detector``: three lines for a library's user."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from support.infer import sample_pictures
from support.photos import save_png
from uhd import Detector, zoo
from uhd.device.build import float_onnx
from uhd.errors import ConfigError, DataError
from uhd.infer.box import boxes_of


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load(float_onnx(zoo.checkpoint_path("R")), threshold=0.2)


def test_import_is_light() -> None:
    code = "import sys, uhd\nassert not {'numpy', 'cv2', 'torch', 'onnx', 'pydantic'} & set(sys.modules)\nuhd.Detector"
    code += "\nassert 'torch' not in sys.modules and 'onnxruntime' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_unknown_names_of_the_package() -> None:
    import uhd

    with pytest.raises(AttributeError, match="Detektor"):
        _ = uhd.Detektor  # type: ignore[attr-defined]


def test_boxes_of_a_picture(detector: Detector, tmp_path: Path) -> None:
    picture = sample_pictures()[0]
    boxes = detector(picture)
    assert boxes and boxes == detector(save_png(tmp_path / "same.png", picture))
    assert [box.score for box in boxes] == sorted((box.score for box in boxes), reverse=True)
    height, width = picture.shape[:2]
    for box in boxes:
        assert box.class_name == "person" and 0.2 <= box.score <= 1
        assert 0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height
        assert box.normalised == (box.x0 / width, box.y0 / height, box.x1 / width, box.y1 / height)


def test_settings(detector: Detector) -> None:
    own = detector.settings
    picture = sample_pictures()[-1]
    try:
        detector.choose(threshold=0.05, nms=False, limit=1000)
        everything = detector(picture)
        detector.choose(nms_iou=0.3)
        kept = detector(picture)
        assert 0 < len(kept) < len(everything) and {box.score for box in kept} <= {box.score for box in everything}
        detector.choose(limit=2)
        assert detector(picture) == kept[:2]
    finally:
        detector.settings = own


def test_settings_out_of_range(detector: Detector) -> None:
    for wrong in ({"threshold": 1.5}, {"nms_iou": -0.1}, {"limit": 0}):
        with pytest.raises(ConfigError):
            detector.choose(**wrong)  # type: ignore[arg-type]


def test_what_is_no_picture(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="RGB"):
        detector(np.zeros((40, 40), np.uint8))
    with pytest.raises(DataError, match="none.jpg"):
        detector(tmp_path / "none.jpg")


@given(
    arrays(np.float64, (5, 6), elements=st.floats(-0.5, 1.5, width=32)),
    st.integers(1, 2000),
    st.integers(1, 2000),
)
def test_rows_become_edges_inside_the_picture(rows: np.ndarray, width: int, height: int) -> None:
    """Beside a loop over the definition of the edges."""
    rows[:, 1] = np.arange(5)
    expected = []
    for score, label, cx, cy, w, h in rows:
        x0, x1 = (min(max(edge, 0.0), 1.0) * width for edge in (cx - w / 2, cx + w / 2))
        y0, y1 = (min(max(edge, 0.0), 1.0) * height for edge in (cy - h / 2, cy + h / 2))
        if x0 < x1 and y0 < y1:
            name = "person" if label == 0 else f"class_{int(label)}"
            expected.append((score, name, x0, y0, x1, y1))
    found = [(b.score, b.class_name, b.x0, b.y0, b.x1, b.y1) for b in boxes_of(rows, width, height, ["person"])]
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    assert np.allclose([one[2:] for one in found], [one[2:] for one in expected])


def test_a_second_look_finds_weaker_boxes_only_where_there_are_no_others(detector: Detector) -> None:
    own = detector.settings
    pictures = sample_pictures()
    try:
        detector.choose(threshold=0.05)
        scores = sorted(boxes[0].score for boxes in detector.many(pictures) if boxes)
        assert len(scores) > 1 and scores[0] < scores[-1]
        for threshold in (scores[-1], scores[0] * 1.2, min(1.0, scores[-1] * 1.2)):
            detector.choose(threshold=threshold, second_look=False)
            strict = detector.many(pictures)
            detector.choose(threshold=max(0.05, threshold / 2))
            lax = detector.many(pictures)
            detector.choose(threshold=threshold, second_look=True)
            assert detector.many(pictures) == [a or b for a, b in zip(strict, lax, strict=True)]
            assert any(strict) or threshold > scores[-1]
    finally:
        detector.settings = own
