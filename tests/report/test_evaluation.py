from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.coco_oracle import random_case
from support.detections import iou
from support.report_runs import make_evaluation
from uhd.detect.coco import evaluate
from uhd.errors import DataError
from uhd.train.report.evaluation import MEASURE, THUMBNAIL, WORST, load, measure, save, thumbnail


def test_load_gives_what_was_saved(tmp_path: Path) -> None:
    evaluation, photos = make_evaluation()
    save(tmp_path, evaluation, picture=lambda i: photos[i])
    again = load(tmp_path)
    assert again.names == evaluation.names and again.class_names == ("person",)
    assert again.result == evaluation.result and again.buckets == evaluation.buckets
    assert again.info == {"epoch": 3, "data": "made/val"}
    for (size, boxes), (other_size, other) in zip(again.truth, evaluation.truth, strict=True):
        assert size == other_size and np.array_equal(boxes, other)
    for name in ("rows",):
        assert all(map(np.array_equal, getattr(again, name), getattr(evaluation, name)))
    for name in ("hits", "counted", "finders"):
        assert all(map(np.array_equal, getattr(again.matches, name), getattr(evaluation.matches, name)))
    for name in ("scores", "precision", "recall"):
        assert np.array_equal(getattr(again.curve, name), getattr(evaluation.curve, name))
    assert again.curve.boxes == evaluation.curve.boxes and again.threshold == evaluation.threshold
    assert np.array_equal(again.losses, evaluation.losses) and again.worst == evaluation.worst
    assert set(again.pictures) == set(evaluation.worst)
    shown = cv2.imdecode(np.frombuffer(again.pictures[again.worst[0]], np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(shown.astype(int) - photos[again.worst[0]]).mean() < 8
    assert {p.name for p in tmp_path.iterdir()} == {"evaluation.npz", "evaluation.json"}


def test_the_figures_are_also_readable(tmp_path: Path) -> None:
    evaluation, _ = make_evaluation()
    save(tmp_path, evaluation)
    figures = json.loads((tmp_path / "evaluation.json").read_text())
    assert figures["result"]["map50"] == evaluation.result.map50
    assert figures["best_threshold"] == evaluation.threshold
    assert [w["name"] for w in figures["worst"]] == [evaluation.names[i] for i in evaluation.worst]
    assert not load(tmp_path).pictures


def test_nothing_is_pickled(tmp_path: Path) -> None:
    evaluation, _ = make_evaluation(3)
    save(tmp_path, evaluation)
    with np.load(tmp_path / "evaluation.npz", allow_pickle=False) as stored:
        assert all(stored[name].dtype != object for name in stored.files)
    np.savez(tmp_path / "evaluation.npz", summary=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="damaged"):
        load(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.8, 0.99])
def test_a_damaged_file_is_refused(tmp_path: Path, keep: float) -> None:
    evaluation, _ = make_evaluation(3)
    save(tmp_path, evaluation)
    path = tmp_path / "evaluation.npz"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match=r"evaluation\.npz: damaged"):
        load(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="no evaluation here"):
        load(tmp_path)


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    evaluation, _ = make_evaluation(3)
    save(tmp_path, evaluation)
    with np.load(tmp_path / "evaluation.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    for name, value in (("row_count", arrays["row_count"] + 1), ("losses", arrays["losses"][:-1])):
        np.savez(tmp_path / "evaluation.npz", **{**arrays, name: value})
        with pytest.raises(DataError, match="damaged"):
            load(tmp_path)
    np.savez(tmp_path / "evaluation.npz", **{k: v for k, v in arrays.items() if k != "truth"})
    with pytest.raises(DataError, match="damaged"):
        load(tmp_path)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_loss_of_a_photo_by_hand(seed: int) -> None:
    """One class, so matching is greedy by score at IoU 0.5; boxes as COCO counts them, in pixels."""
    truth, found = random_case(seed, 4, 1)
    truth = [(size, boxes[:3]) for size, boxes in truth]
    found = [np.concatenate([rows[rows[:, 1] == 0][:6]]) for rows in found]
    evaluation = measure(truth, found)
    threshold = evaluation.threshold
    for number, (_, boxes) in enumerate(truth):
        free, loss = list(range(len(boxes))), 0.0
        for row in sorted(found[number].tolist(), key=lambda r: -r[0]):
            near = sorted((-iou(row[2:], boxes[b][1:]), b) for b in free)
            if any(abs(-value - 0.5) < 1e-3 for value, _ in near):
                return  # too close for single precision to say
            taken = near[0][1] if near and -near[0][0] >= 0.5 else None
            if taken is not None:
                free.remove(taken)
            if row[0] >= threshold and taken is None:
                loss += row[0] * math.sqrt(row[4] * row[5])
            if row[0] < threshold and taken is not None:
                loss += math.sqrt(boxes[taken][3] * boxes[taken][4])
        loss += sum(math.sqrt(boxes[b][3] * boxes[b][4]) for b in free)
        assert evaluation.losses[number] == pytest.approx(loss, abs=1e-5)
    assert "√(w·h)" in MEASURE


def test_worst_first_and_never_a_good_one() -> None:
    evaluation, _ = make_evaluation(45)
    losses = [evaluation.losses[i] for i in evaluation.worst]
    assert losses == sorted(losses, reverse=True) and min(losses) > 0
    assert len(losses) == min(WORST, int((evaluation.losses > 0).sum()))
    box = np.array([[0, 0.5, 0.5, 0.5, 0.5]])
    assert measure([((64, 64), box)], [np.concatenate([[[0.9]], box], 1)]).worst == []


def test_a_known_result_is_taken_as_it_is_and_names_are_counted() -> None:
    truth, found = random_case(1, 3, 2)
    known = evaluate(truth, found)
    assert measure(truth, found, result=known).result is known
    with pytest.raises(ValueError, match="3 photos but 1 names"):
        measure(truth, found, names=["a"])


def test_thumbnails() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (700, 1400, 3), np.uint8)
    small = cv2.imdecode(np.frombuffer(thumbnail(picture), np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (THUMBNAIL // 2, THUMBNAIL, 3)
    red = np.zeros((20, 3, 3), np.uint8)
    red[:, :, 0] = 255
    kept = cv2.imdecode(np.frombuffer(thumbnail(red), np.uint8), cv2.IMREAD_COLOR)
    assert kept.shape == (20, 3, 3) and kept[10, 1].tolist()[2] > 200 > 60 > kept[10, 1].tolist()[0]
