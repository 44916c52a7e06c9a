from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.detections import greedy, iou
from uhd.detect.nms import detections, greedy_nms, iou_matrix, top_k_rows


def crowd(seed: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores [1,count,classes] with ties, and boxes [1,count,4] that overlap a lot."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(1, 50, (1, count, classes)).astype(np.float32) / 50
    centre = rng.choice([0.3, 0.5, 0.7], (1, count, 2)) + rng.normal(0, 0.05, (1, count, 2))
    return scores, np.concatenate([centre, rng.uniform(0.05, 0.4, (1, count, 2))], axis=2).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(0, 300),
    classes=st.integers(1, 3),
    iou_threshold=st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]),
    top_k=st.sampled_from([None, 1, 7, 100]),
    multi_label=st.booleans(),
)
def test_equals_plain_greedy(
    seed: int, count: int, classes: int, iou_threshold: float, top_k: int | None, multi_label: bool
) -> None:
    scores, boxes = crowd(seed, count, classes)
    (found,) = detections(
        scores, boxes, score_threshold=0.2, iou_threshold=iou_threshold, top_k=top_k, multi_label=multi_label
    )
    rows = []
    for n in range(count):
        labels = range(classes) if multi_label else [int(scores[0, n].argmax())]
        rows += [[scores[0, n, c], c, *boxes[0, n]] for c in labels if scores[0, n, c] >= np.float32(0.2)]
    rows.sort(key=lambda row: -row[0])
    expected = [rows[i] for i in greedy(rows, iou_threshold)][:top_k]
    np.testing.assert_array_equal(found, np.array(expected, dtype=np.float32).reshape(-1, 6))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_survivors_do_not_overlap_and_the_dropped_have_a_reason(seed: int) -> None:
    scores, boxes = crowd(seed, 200, 2)
    (every,) = detections(scores, boxes, iou_threshold=None, top_k=None)
    (kept,) = detections(scores, boxes, iou_threshold=0.5, top_k=None)
    assert len(every) == 200 and (np.diff(every[:, 0]) <= 0).all() and (np.diff(kept[:, 0]) <= 0).all()
    same = kept[:, None, 1] == kept[None, :, 1]
    overlap = iou_matrix(kept[:, 2:], kept[:, 2:]) >= 0.5
    assert not (overlap & same & ~np.eye(len(kept), dtype=bool)).any()
    reason = (iou_matrix(every[:, 2:], kept[:, 2:]) >= 0.5) & (every[:, None, 1] == kept[None, :, 1])
    reason &= kept[None, :, 0] >= every[:, None, 0]
    survived = (every[:, None] == kept[None]).all(axis=2).any(axis=1)
    assert (survived | reason.any(axis=1)).all()


def test_chain_of_suppressions() -> None:
    # a drops b, so b cannot drop c; c drops d, and so on: every second box of the row survives
    count = 400
    boxes = np.stack([np.arange(count) * 0.3, np.full(count, 0.5), np.ones(count), np.ones(count)], axis=1)
    np.testing.assert_array_equal(greedy_nms(boxes, np.zeros(count), 0.5), np.arange(0, count, 2))


def test_iou_matrix_equals_pairs() -> None:
    boxes = crowd(3, 40, 1)[1][0]
    matrix = iou_matrix(boxes[:15], boxes)
    for i, j in np.ndindex(15, 40):
        assert matrix[i, j] == pytest.approx(iou(boxes[i], boxes[j]), abs=1e-7)


def test_threshold_is_inclusive_zero_scores_and_absurd_values_are_dropped() -> None:
    scores = np.array([[[0.5], [0.4], [0.0], [np.nan], [0.9]]], dtype=np.float32)
    boxes = np.array([[0.1, 0.1, 0.1, 0.1]] * 4 + [[np.inf, 0.5, np.inf, np.nan]], dtype=np.float32)[None]
    (found,) = detections(scores, boxes, score_threshold=0.5)
    assert found[:, 0].tolist() == [np.float32(0.9), 0.5]
    (found,) = detections(scores, boxes, score_threshold=0.0, iou_threshold=None)
    assert found[:, 0].tolist() == [np.float32(0.9), 0.5, np.float32(0.4)]


def test_class_ids_and_batches() -> None:
    scores = torch.tensor([[[0.2, 0.9]], [[0.8, 0.1]]])
    boxes = torch.full((2, 1, 4), 0.5)
    first, second = detections(scores, boxes, class_ids=[7, 3])
    assert first[:, 1].tolist() == [3] and second[:, 1].tolist() == [7]
    with pytest.raises(ValueError, match="2 score columns but 1 class ids"):
        detections(scores, boxes, class_ids=[1])
    (empty,) = detections(torch.zeros(1, 0, 2), torch.zeros(1, 0, 4))
    assert empty.shape == (0, 6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), k=st.integers(1, 30), multi_label=st.booleans())
def test_top_k_rows(seed: int, k: int, multi_label: bool) -> None:
    scores, boxes = crowd(seed, 20, 3)
    (rows,) = top_k_rows(scores, boxes, k=k, score_threshold=0.3, multi_label=multi_label)
    clipped = np.where(scores[0] >= np.float32(0.3), scores[0], 0)
    pool = clipped.ravel() if multi_label else clipped.max(axis=1)
    np.testing.assert_array_equal(rows[:, 0], np.sort(pool)[::-1][:k])
    for score, label, *box in rows:
        owners = np.flatnonzero((boxes[0] == np.array(box, np.float32)).all(axis=1))
        assert score in clipped[owners, int(label)]


def test_speed_of_a_large_batch() -> None:
    """A guard against a loop over pairs: 16 x 3,933 candidates take some 50 ms, and a loop takes minutes."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1, (16, 3933, 1)).astype(np.float32)
    boxes = rng.uniform(0.05, 0.9, (16, 3933, 4)).astype(np.float32)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        found = detections(scores, boxes, score_threshold=0.0, top_k=100)
        times.append(time.perf_counter() - start)
    assert all(len(rows) == 100 for rows in found)
    assert min(times) < 1.0
