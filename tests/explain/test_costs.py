"""mAP lost by a layer: the cost against ``evaluate``, and its error against the textbook's jackknife."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from uhd.detect.coco import GroundTruth, evaluate
from uhd.explain.accuracy import GROUPS, Judge, jackknife_error, worst_map


def labelled(count: int, seed: int = 0) -> tuple[list[GroundTruth], list[NDArray[Any]]]:
    """Boxes, and rows that find each of them exactly."""
    rng = np.random.default_rng(seed)
    truth, rows = [], []
    for _ in range(count):
        boxes = np.column_stack([np.zeros(2), rng.uniform(0.3, 0.7, (2, 2)), rng.uniform(0.1, 0.3, (2, 2))])
        truth.append(((100, 100), boxes))
        rows.append(np.column_stack([rng.uniform(0.2, 1, 2), boxes]))
    return truth, rows


def test_cost_is_the_difference_and_its_error_the_jackknife() -> None:
    truth, plain = labelled(30)
    found = [rows if index % 4 else rows[:1] for index, rows in enumerate(plain)]
    judge = Judge(truth, plain)
    assert judge.floating.map50 == pytest.approx(1.0)
    cost = judge.cost(found)
    whole = evaluate(truth, found)
    assert cost.map50 == pytest.approx(1.0 - whole.map50) and cost.map50 > 0.05
    assert cost.map50_95 == pytest.approx(1.0 - whole.map50_95)
    lost = []
    for group in range(GROUPS):
        kept = [index for index in range(30) if index % GROUPS != group]
        lost.append(1.0 - evaluate([truth[i] for i in kept], [found[i] for i in kept]).map50)
    spread = statistics.pvariance(lost) * (GROUPS - 1)
    assert cost.map50_error == pytest.approx(math.sqrt(spread))
    assert judge.cost(plain).map50 == 0 and judge.cost(plain).map50_error == 0


def test_too_few_pictures_have_no_error() -> None:
    truth, plain = labelled(2 * GROUPS - 1)
    assert Judge(truth, plain).cost(plain).map50_error is None
    assert jackknife_error([0.1]) is None


def test_error_of_a_mean_is_the_textbook_one() -> None:
    """For a mean the jackknife gives s / sqrt(n)."""
    values = np.random.default_rng(1).normal(0, 1, 12)
    left_out = [(values.sum() - value) / 11 for value in values]
    assert jackknife_error(left_out) == pytest.approx(values.std(ddof=1) / math.sqrt(12))


def test_worst_map() -> None:
    wanted = [{"a": np.array([3.0]), "b": np.array([10.0]), "silent": np.zeros(1)}]
    found = [{"a": np.array([3.3]), "b": np.array([10.1]), "silent": np.ones(1)}]
    assert worst_map(wanted, found) == pytest.approx(20.0)
    assert worst_map([{"silent": np.zeros(1)}], [{"silent": np.ones(1)}]) is None
