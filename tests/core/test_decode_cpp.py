"""Boxes from integer maps in C++: equal to the formulas in exact arithmetic, close to the float decoder."""

from __future__ import annotations

import ctypes
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.fakemodel import FakeModel
from support.integer_decode import all_candidates, detect, iou, overlaps, product, random_outputs
from support.twinlib import SANITIZE, CppDevice, library
from uhd.detect.decode import decode_maps
from uhd.detect.nms import detections, iou_matrix
from uhd.device.client import DeviceClient
from uhd.errors import DeviceError

MODELS = {
    "quality_cls": FakeModel(),
    "obj_quality_cls": FakeModel(maps=("obj", "quality", "cls"), exponent=-5),
    "obj": FakeModel(maps=("obj",), grid_h=4, grid_w=7, exponent=-3),
    "cls of 5": FakeModel(maps=("cls",), classes=5, anchors=2),
    "int16": FakeModel(bits=16, exponent=-12),
    "int16 of 3": FakeModel(bits=16, maps=("obj", "cls"), classes=3, exponent=-12, grid_h=3, grid_w=5),
    "no classes, 70 cells": FakeModel(maps=("obj", "quality"), grid_h=7, grid_w=10, anchors=2),
    "2 classes, 72 cells": FakeModel(classes=2, grid_h=9, grid_w=8, anchors=1),
}
ALL = 10_000


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> FakeModel:
    return MODELS[request.param]


def rows_of(model: FakeModel, outputs: dict[str, NDArray[Any]], *settings: int) -> tuple[list[tuple[int, ...]], int]:
    rows, candidates = library(model).decode(outputs, *settings)
    return [tuple(int(v) for v in row) for row in rows], candidates


@pytest.mark.parametrize("seed", range(3))
def test_equals_exact_arithmetic(model: FakeModel, seed: int) -> None:
    generator = np.random.default_rng(seed)
    for spread in (1.0, 0.1):
        outputs = random_outputs(model, generator, spread)
        for threshold, nms, top_k in ((0, 65535, ALL), (9830, 32768, 100), (30000, 20000, 13), (1, 1, 40)):
            assert rows_of(model, outputs, threshold, nms, top_k) == detect(model, outputs, threshold, nms, top_k)


def test_one_picture_of_every_head(model: FakeModel) -> None:
    outputs = random_outputs(model, np.random.default_rng(9), 0.3)
    assert rows_of(model, outputs, 9830, 32768, 20) == detect(model, outputs, 9830, 32768, 20)


def float_decode(model: FakeModel, outputs: dict[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scores [N, classes] and boxes [N, 4] of the float decoder."""
    scale = np.ones_like(model.anchor_sizes)
    scores, boxes = decode_maps(model.real(outputs), model.anchor_sizes, scale, model.score_mode)
    return scores[0], boxes[0]


@pytest.mark.parametrize("seed", range(3))
def test_close_to_the_float_decoder(model: FakeModel, seed: int) -> None:
    outputs = random_outputs(model, np.random.default_rng(seed))
    rows = np.array(all_candidates(model, outputs))
    scores, boxes = float_decode(model, outputs)
    exact = np.concatenate([boxes[:, :2], np.minimum(boxes[:, 2:], 4)], axis=1)
    error = np.abs(rows[:, 2:] / 65535 - exact) * 65535
    # Between two knots of an int16 table the limit of four pictures is rounded off a little.
    at_limit = np.abs(exact - 4) < (0.05 if model.bits == 16 else 0)
    assert at_limit.mean() < 0.1
    assert error[~at_limit].max() <= 2
    assert (np.abs(rows[:, 0] / 65535 - scores.max(axis=1)) * 65535).max() <= 2
    sure = np.sort(scores, axis=1)
    sure = sure[:, -1] - sure[:, -2] > 4 / 65535 if scores.shape[1] > 1 else np.ones(len(scores), bool)
    np.testing.assert_array_equal(rows[sure, 1], scores.argmax(axis=1)[sure])
    assert sure.mean() > 0.7


def test_whole_detection_equals_the_float_one_where_nothing_is_close(model: FakeModel) -> None:
    """Same boxes as ``uhd.detect`` unless a score, an order or an overlap lies within rounding of its threshold."""
    compared, near = 0, 4 / 65535
    threshold, nms = 19661, 32768
    for seed in range(300):
        outputs = random_outputs(model, np.random.default_rng(1000 + seed), 0.6)
        scores, boxes = float_decode(model, outputs)
        boxes = np.minimum(boxes, 4)
        settings: dict[str, Any] = {"score_threshold": threshold / 65535}
        candidates = detections(scores[None], boxes[None], **settings, iou_threshold=None, top_k=None)[0]
        best, gaps = np.sort(scores, axis=1), np.diff(candidates[:, 0])
        unsure = (np.abs(best[:, -1] - threshold / 65535) < near).any() or ((gaps != 0) & (np.abs(gaps) < near)).any()
        if len(model.maps) > 1:  # rounding may part what is equal, or join what is not
            unsure = unsure or (gaps == 0).any()
        if best.shape[1] > 1:
            unsure = unsure or (best[:, -1] - best[:, -2] < near)[best[:, -1] > threshold / 65535].any()
        overlap = iou_matrix(candidates[:, 2:], candidates[:, 2:])
        unsure = unsure or (np.abs(overlap - nms / 65535) < 1e-4).any()
        if unsure:
            continue
        compared += 1
        kept = detections(scores[None], boxes[None], **settings, iou_threshold=nms / 65535, top_k=None)[0]
        rows, count = rows_of(model, outputs, threshold, nms, ALL)
        assert (len(rows), count) == (len(kept), len(candidates))
        ours = np.array(rows).reshape(-1, 6)
        np.testing.assert_array_equal(ours[:, 1], kept[:, 1])
        np.testing.assert_allclose(ours[:, [0, 2, 3]] / 65535, kept[:, [0, 2, 3]], atol=2.1 / 65535)
        size_error = 12 if model.bits == 16 else 2.1  # near the limit of four pictures, see above
        np.testing.assert_allclose(ours[:, 4:] / 65535, kept[:, 4:], atol=size_error / 65535)
        if compared == 5:
            return
    assert compared >= 1


@given(st.integers(0, 65535), st.integers(0, 65535))
@settings(max_examples=300)
def test_product_is_the_rounded_one(a: int, b: int) -> None:
    """The shortcut of model.hpp, here in Python, against division."""
    t = a * b + 32768
    assert (t + (t >> 16)) >> 16 == product(a, b)


def test_overlap_is_the_exact_quotient() -> None:
    """The comparison of whole numbers used here against fractions."""
    generator = np.random.default_rng(5)
    seen = set()
    for _ in range(300):
        boxes = [(1, 0, *(int(v) for v in generator.integers(0, [9, 9, 30, 30]) * 3000)) for _ in range(2)]
        nms = int(generator.integers(0, 40000))
        answer = iou(*boxes) >= Fraction(nms, 65535)
        assert overlaps(*boxes, nms) == answer
        seen.add(answer)
    assert seen == {True, False}


@pytest.mark.parametrize("value", [-128, 127, 0, -1])
def test_constant_maps(value: int) -> None:
    model = MODELS["quality_cls"]
    outputs = {n: np.full((1, 8, 8, c), value, np.int8) for n, c in model.output_channels.items()}
    for threshold, nms in ((0, 32768), (0, 0), (65535, 65535), (0, 65535)):
        assert rows_of(model, outputs, threshold, nms, 100) == detect(model, outputs, threshold, nms, 100)


def test_equal_scores_come_in_candidate_order() -> None:
    model = MODELS["quality_cls"]
    outputs = random_outputs(model, np.random.default_rng(1))
    outputs["quality"][:], outputs["cls"][:] = 90, 90
    rows, candidates = rows_of(model, outputs, 1, 65535, 30)
    assert candidates == 192
    assert rows == all_candidates(model, outputs)[:30]


def test_top_k_limits_what_enters_suppression() -> None:
    model = MODELS["quality_cls"]
    outputs = random_outputs(model, np.random.default_rng(2), 0.3)
    everything, candidates = rows_of(model, outputs, 0, 65535, ALL)
    assert len(everything) == candidates == 192
    for top_k in (1, 2, 57, 191, 192, 193):
        rows, count = rows_of(model, outputs, 0, 65535, top_k)
        assert rows == everything[:top_k]
        assert count == 192


def test_no_rows_are_wanted() -> None:
    outputs = random_outputs(MODELS["obj"], np.random.default_rng(2), 0.1)
    assert rows_of(MODELS["obj"], outputs, 0, 32768, 0) == ([], 84)


@pytest.mark.parametrize("nms", [0, 1, 20000, 65535])
def test_boxes_that_touch_or_cover_each_other(nms: int) -> None:
    """Equal, nested, touching and empty boxes: where the shortcuts of suppression could be wrong by one."""
    model = FakeModel(maps=("obj",), grid_h=2, grid_w=2, anchors=3, exponent=-3)
    generator = np.random.default_rng(nms)
    kept = set()
    for _ in range(150):
        outputs = random_outputs(model, generator)
        outputs["box"] = generator.choice(np.array([-128, -60, -8, 0, 8, 60, 127], np.int8), outputs["box"].shape)
        rows, _ = rows_of(model, outputs, 0, nms, ALL)
        assert rows == detect(model, outputs, 0, nms, ALL)[0]
        kept.add(len(rows))
    assert kept == {1} if nms == 0 else len(kept) > 2 or nms == 65535


def test_random_tensors_stay_in_range() -> None:
    """T12: any integers give at most top_k boxes, finite and in range, best first."""
    model = MODELS["quality_cls"]
    generator = np.random.default_rng(3)
    corners = np.array([-128, 127, -127, 0, 1], np.int8)
    for i in range(5000 if SANITIZE else 10_000):
        outputs = random_outputs(model, generator, generator.choice([1.0, 0.2]))
        if i % 3 == 0:
            outputs = {n: generator.choice(corners, v.shape) for n, v in outputs.items()}
        rows, candidates = library(model).decode(outputs, int(generator.integers(0, 40000)), 32768, 50)
        assert len(rows) <= min(50, candidates)
        if len(rows):
            assert (rows >= 0).all()
            assert (rows[:, [0, 2, 3]] <= 65535).all()
            assert (rows[:, 4:] <= 4 * 65535).all()
            assert (np.diff(rows[:, 0]) <= 0).all()
            assert rows[:, 1].max() < model.classes


TOO_MANY = FakeModel(maps=("obj",), grid_h=257, grid_w=256, anchors=1)


@pytest.mark.parametrize(
    "model",
    [*(FakeModel(broken=name) for name in ("anchors", "table", "index")), TOO_MANY],
    ids=["anchors", "table", "index", "candidates"],
)
def test_description_that_does_not_fit_is_refused(model: FakeModel) -> None:
    lib = library(model)
    outputs = random_outputs(FakeModel(), np.random.default_rng(0))
    arrays = list(outputs.values())
    pointers = (ctypes.c_void_p * 3)(*(a.ctypes.data for a in arrays))
    rows, candidates = np.zeros((10, 6), np.int32), ctypes.c_uint32()
    numbers = (ctypes.c_uint16(1), ctypes.c_uint16(1), ctypes.c_uint16(10))
    status = lib.c.uhd_twin_decode(pointers, *numbers, ctypes.c_void_p(rows.ctypes.data), ctypes.byref(candidates))
    assert status == -1
    device = CppDevice(lib)
    with pytest.raises(DeviceError, match="not ready.*model description"):
        DeviceClient(device, timeout=0.05).hello()
    device.close()
