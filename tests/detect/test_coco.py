from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.detections import pycocotools_map
from uhd.detect.coco import evaluate


def scene(seed: int, images: int, classes: int, ties: bool) -> tuple[list, list]:
    """Random ground truth, and detections that are partly near it, partly duplicates, partly noise."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(images):
        size = (int(rng.integers(20, 500)), int(rng.integers(20, 500)))
        count = int(rng.integers(0, 6))
        boxes = np.concatenate(
            [rng.integers(0, classes, (count, 1)), rng.uniform(0, 1, (count, 2)), rng.uniform(0.01, 0.9, (count, 2))],
            axis=1,
        )
        near = boxes[rng.integers(0, count, int(rng.integers(0, 12)))] if count else np.empty((0, 5))
        near = near * np.concatenate([np.ones((len(near), 1)), rng.normal(1, 0.1, (len(near), 4))], axis=1)
        noise = rng.uniform(0.01, 1, (int(rng.integers(0, 5)), 5))
        noise[:, 0] = rng.integers(0, classes + 1, len(noise))
        rows = np.concatenate([near, noise])
        scores = rng.uniform(0, 1, (len(rows), 1))
        found.append(np.concatenate([np.round(scores, 1) if ties else scores, rows], axis=1))
        truth.append((size, boxes.astype(np.float32)))
    return truth, found


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), images=st.integers(1, 8), classes=st.integers(1, 3), ties=st.booleans())
def test_equals_pycocotools(seed: int, images: int, classes: int, ties: bool) -> None:
    truth, found = scene(seed, images, classes, ties)
    expected = pycocotools_map(truth, found)
    result = evaluate(truth, found)
    for name, value in expected.items():
        assert getattr(result, name) == pytest.approx(value, abs=1e-6), name
    assert result.images == images
    assert result.boxes == sum(len(boxes) for _, boxes in truth)
    assert result.detections == sum(map(len, found))


def test_more_than_a_hundred_detections_in_an_image() -> None:
    rng = np.random.default_rng(2)
    truth = [((300, 200), np.concatenate([np.zeros((150, 1)), rng.uniform(0.1, 0.9, (150, 4))], axis=1))]
    found = [np.concatenate([rng.uniform(0, 1, (150, 1)), truth[0][1]], axis=1)]
    result = evaluate(truth, found)
    assert result.map50 == pytest.approx(pycocotools_map(truth, found)["map50"], abs=1e-6)
    assert result.map50 < 0.7  # only 100 of 150 can be found


def test_perfect_and_useless_detections() -> None:
    boxes = np.array([[0, 0.3, 0.3, 0.2, 0.4], [2, 0.6, 0.6, 0.5, 0.5]])
    perfect = np.concatenate([[[0.9], [0.8]], boxes], axis=1)
    result = evaluate([((100, 200), boxes)], [perfect])
    assert result.map50 == pytest.approx(1.0) and result.map50_95 == pytest.approx(1.0)
    assert [(c.class_id, c.ap50) for c in result.per_class] == [(0, pytest.approx(1.0)), (2, pytest.approx(1.0))]
    assert evaluate([((100, 200), boxes)], [np.empty((0, 6))]).map50 == 0.0


def test_negatives_cost_precision() -> None:
    box = np.array([[0, 0.5, 0.5, 0.5, 0.5]])
    hit, false_alarm = np.array([[0.5, 0, 0.5, 0.5, 0.5, 0.5]]), np.array([[0.9, 0, 0.5, 0.5, 0.5, 0.5]])
    nothing = np.empty((0, 5))
    with_alarm = evaluate([((64, 64), box), ((64, 64), nothing)], [hit, false_alarm])
    without = evaluate([((64, 64), box), ((64, 64), nothing)], [hit, np.empty((0, 6))])
    assert without.map50 == pytest.approx(1.0)
    assert with_alarm.map50 == pytest.approx(0.5, abs=0.01)


def test_a_class_without_ground_truth_does_not_lower_the_mean() -> None:
    box = np.array([[0, 0.5, 0.5, 0.5, 0.5]])
    rows = np.array([[0.9, 0, 0.5, 0.5, 0.5, 0.5], [0.8, 5, 0.2, 0.2, 0.1, 0.1]])
    result = evaluate([((64, 64), box)], [rows])
    assert result.map50 == pytest.approx(1.0)
    assert [(c.class_id, c.ap50, c.boxes) for c in result.per_class][1] == (5, -1.0, 0)


def test_no_ground_truth_is_undefined() -> None:
    result = evaluate([((64, 64), np.empty((0, 5)))], [np.array([[0.9, 0, 0.5, 0.5, 0.5, 0.5]])])
    assert result.map50 == result.map50_95 == -1.0 and result.images == 1 and result.detections == 1
    assert evaluate([], []).map50 == -1.0


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="1 images but 0 lists"):
        evaluate([((64, 64), np.empty((0, 5)))], [])
    with pytest.raises(ValueError, match="not finite"):
        evaluate([((64, 64), np.empty((0, 5)))], [np.array([[np.nan, 0, 0.5, 0.5, 0.5, 0.5]])])


def test_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    evaluate([((64, 64), np.array([[0, 0.5, 0.5, 0.5, 0.5]]))], [np.array([[0.9, 0, 0.5, 0.5, 0.5, 0.5]])])
    out, err = capfd.readouterr()
    assert out == "" and err == ""
