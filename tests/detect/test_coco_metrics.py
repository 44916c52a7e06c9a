from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.coco_oracle import mean, oracle, random_case
from uhd.detect.coco import BUCKET_SIDES, evaluate, size_buckets
from uhd.detect.coco_bench import bench_case, time_map
from uhd.detect.coco_curve import curve, match

STATS = (
    "map50_95", "map50", "map75", "map_small", "map_medium", "map_large",
    "recall1", "recall10", "recall100", "recall_small", "recall_medium", "recall_large",
)  # fmt: skip
CASE = {"seed": st.integers(0, 2**31), "images": st.integers(1, 6), "classes": st.integers(1, 3)}


@settings(max_examples=40, deadline=None)
@given(**CASE, ties=st.booleans())
def test_twelve_metrics_equal_pycocotools(seed: int, images: int, classes: int, ties: bool) -> None:
    truth, found = random_case(seed, images, classes, ties=ties)
    result = evaluate(truth, found)
    expected = oracle(truth, found)
    for name, value in zip(STATS, expected.stats, strict=True):
        assert getattr(result, name) == pytest.approx(value, abs=1e-6), name
    precision, recall = expected.eval["precision"], expected.eval["recall"]
    for size, name in enumerate(("small", "medium", "large"), start=1):
        assert getattr(result, f"map50_{name}") == pytest.approx(mean(precision[0, :, :, size, 2]), abs=1e-6)
    assert len(result.per_class) == precision.shape[2]
    for k, item in enumerate(result.per_class):
        values = [item.ap50_95, item.ap50, item.ap75, item.ap_small, item.ap_medium, item.ap_large, item.recall100]
        wanted = [precision[:, :, k, 0, 2], precision[0, :, k, 0, 2], precision[5, :, k, 0, 2]]
        wanted += [precision[:, :, k, size, 2] for size in (1, 2, 3)]
        assert values == pytest.approx([*map(mean, wanted), mean(recall[:, k, 0, 2])], abs=1e-6)


def test_areas_are_those_of_the_original_photo() -> None:
    box = np.array([[0, 0.5, 0.5, 0.2, 0.2]])
    hit = np.concatenate([[[0.9]], box], axis=1)
    small, large = evaluate([((100, 100), box)], [hit]), evaluate([((1000, 1000), box)], [hit])
    assert small.map_small == pytest.approx(1) and small.map_medium == small.map_large == -1
    assert large.map_large == pytest.approx(1) and large.map_small == large.map_medium == -1
    assert evaluate([((400, 400), box)], [hit]).map50_medium == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(**CASE, sides=st.lists(st.integers(1, 600), min_size=2, max_size=6, unique=True).map(sorted))
def test_size_buckets_equal_pycocotools(seed: int, images: int, classes: int, sides: list[int]) -> None:
    truth, found = random_case(seed, images, classes)
    buckets = size_buckets(truth, found, sides)
    areas = [w * h * height * width for (height, width), boxes in truth for w, h in boxes[:, 3:].astype(np.float64)]
    assert [(b.low, b.high) for b in buckets] == list(zip(sides, sides[1:], strict=False))
    assert [b.boxes for b in buckets] == [sum(b.low**2 <= a <= b.high**2 for a in areas) for b in buckets]
    if not any(b.boxes for b in buckets):
        assert all(b.ap50 == b.ap50_95 == b.recall100 == -1 for b in buckets)
        return
    expected = oracle(truth, found, [[a**2, b**2] for a, b in zip(sides, sides[1:], strict=False)])
    for k, bucket in enumerate(buckets):
        precision, recall = expected.eval["precision"][..., k, 0], expected.eval["recall"][..., k, 0]
        assert bucket.ap50 == pytest.approx(mean(precision[0]), abs=1e-6)
        assert bucket.ap50_95 == pytest.approx(mean(precision), abs=1e-6)
        assert bucket.recall100 == pytest.approx(mean(recall), abs=1e-6)


def test_default_buckets_contain_cocos_limits_and_everything() -> None:
    assert {32.0, 96.0} <= set(BUCKET_SIDES) and BUCKET_SIDES[0] == 0 and BUCKET_SIDES[-1] == 1e5
    truth, found = random_case(3, 5, 1)
    assert sum(b.boxes for b in size_buckets(truth, found)) == sum(len(boxes) for _, boxes in truth)


@settings(max_examples=40, deadline=None)
@given(**CASE, ties=st.booleans(), iou=st.sampled_from([0.5, 0.75, 0.95]))
def test_matches_and_curve_equal_pycocotools(seed: int, images: int, classes: int, ties: bool, iou: float) -> None:
    truth, found = random_case(seed, images, classes, ties=ties)
    matches = match(truth, found, iou)
    if not any(map(len, found)) and not any(len(boxes) for _, boxes in truth):
        return
    place = round((iou - 0.5) / 0.05)
    right: dict[int, list[tuple[float, bool]]] = {i: [] for i in range(images)}
    pairs: dict[int, set[tuple[float, int]]] = {i: set() for i in range(images)}
    first_box = np.concatenate([[0], np.cumsum([len(boxes) for _, boxes in truth])])
    for item in oracle(truth, found).evalImgs:
        if item is None or item["aRng"][1] < 1e9 or item["aRng"][0] > 0:
            continue
        image = item["image_id"]
        for score, box in zip(item["dtScores"], item["dtMatches"][place], strict=True):
            right[image].append((score, box > 0))
            if box > 0:
                pairs[image].add((score, int(box) - 1 - int(first_box[image])))
    for i in range(images):
        mine = sorted(zip(found[i][:, 0].astype(float).tolist(), matches.hits[i].tolist(), strict=True))
        assert mine == sorted(right[i])
        assert matches.counted[i].all()
        named = {(float(found[i][row, 0]), box) for box, row in enumerate(matches.finders[i]) if row >= 0}
        assert named == pairs[i]
    everything = sorted((pair for part in right.values() for pair in part), reverse=True)
    result, boxes = curve(matches, found), int(first_box[-1])
    assert result.scores.tolist() == sorted({score for score, _ in everything}, reverse=True)
    for score, precision, recall in zip(result.scores, result.precision, result.recall, strict=True):
        kept = [hit for other, hit in everything if other >= score]
        assert precision == pytest.approx(sum(kept) / len(kept))
        assert recall == pytest.approx(sum(kept) / boxes if boxes else 0)
    f1 = [2 * p * r / (p + r) if p + r else 0 for p, r in zip(result.precision, result.recall, strict=True)]
    assert result.f1.tolist() == pytest.approx(f1)
    assert result.best == (f1.index(max(f1)) if f1 and max(f1) > 0 else None)


def test_only_a_hundred_of_an_image_count() -> None:
    rng = np.random.default_rng(1)
    boxes = np.concatenate([np.zeros((150, 1)), rng.uniform(0.1, 0.9, (150, 4))], axis=1)
    rows = np.concatenate([np.linspace(0.9, 0.1, 150)[:, None], boxes], axis=1)
    shuffled = rng.permutation(150)
    matches = match([((300, 200), boxes)], [rows[shuffled]])
    assert matches.counted[0].sum() == 100 and matches.counted[0][np.argsort(shuffled)][:100].all()
    assert curve(matches, [rows[shuffled]]).recall[-1] <= 100 / 150


def test_nothing_to_match() -> None:
    empty = curve(match([], []), [])
    assert empty.best is None and len(empty.scores) == 0
    none = match([((9, 9), np.zeros((0, 5)))], [np.zeros((0, 6))])
    assert [len(part[0]) for part in (none.hits, none.counted, none.finders)] == [0, 0, 0]
    box = np.array([[0, 0.5, 0.5, 0.5, 0.5]])
    missed = match([((64, 64), box)], [np.zeros((0, 6))])
    assert missed.finders[0].tolist() == [-1] and curve(missed, [np.zeros((0, 6))]).best is None
    alarm = match([((64, 64), box[:0])], [np.array([[0.5, 0, 0.5, 0.5, 0.5, 0.5]])])
    assert alarm.hits[0].tolist() == [False] and alarm.counted[0].tolist() == [True]
    with pytest.raises(ValueError, match="thresholds"):
        match([], [], 0.33)


def test_the_bench_measures_what_it_says() -> None:
    truth, found = bench_case(20, 30)
    assert len(truth) == len(found) == 20 and all(len(rows) == 30 for rows in found)
    assert evaluate(truth, found).map50 > 0
    figures = time_map(20, 30, repeats=2)
    assert figures["images"] == 20 and 0 < figures["best_seconds"] <= figures["median_seconds"] < 5
