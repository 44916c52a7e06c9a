from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.detections import decode_cell, logistic
from uhd.detect.decode import SCORE_MODES, decode_maps, score_factors, sigmoid, softplus, split_raw
from uhd.errors import ModelError

FACTORS = {
    "obj_quality_cls": ["obj", "quality", "cls"],
    "quality_cls": ["quality", "cls"],
    "obj_cls": ["obj", "cls"],
    "obj_quality": ["obj", "quality"],
    "quality": ["quality"],
    "obj": ["obj"],
    "cls": ["cls"],
}


def random_maps(seed: int, batch: int, anchors: int, classes: int, height: int, width: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    channels = {"box": 4 * anchors, "obj": anchors, "quality": anchors, "cls": anchors * classes}
    return {
        name: rng.normal(0, 3, (batch, count, height, width)).astype(np.float32)
        for name, count in channels.items()
        if count
    }


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)),
    mode=st.sampled_from(SCORE_MODES),
    power=st.sampled_from([1.0, 0.5, 2.0]),
)
def test_every_candidate_equals_the_scalar_formula(
    seed: int, shape: tuple[int, int, int, int, int], mode: str, power: float
) -> None:
    batch, count, classes, height, width = shape
    maps = random_maps(seed, *shape)
    rng = np.random.default_rng(seed)
    anchors, wh_scale = rng.uniform(0.01, 1, (2, count, 2)).astype(np.float32)
    scores, boxes = decode_maps(maps, anchors, wh_scale, mode, power)
    assert boxes.dtype == scores.dtype == np.float32
    columns = classes if "cls" in FACTORS[mode] else 1
    assert scores.shape == (batch, count * height * width, columns)
    for image, a, y, x in np.ndindex(batch, count, height, width):
        candidate = (a * height + y) * width + x
        np.testing.assert_allclose(
            boxes[image, candidate], decode_cell(maps, anchors, wh_scale, image, a, y, x), rtol=1e-5, atol=1e-7
        )
        for k in range(columns):
            expected = 1.0
            for name in FACTORS[mode]:
                channel = a * classes + k if name == "cls" else a
                factor = logistic(float(maps[name][image, channel, y, x]))
                expected *= factor**power if name == "quality" else factor
            assert scores[image, candidate, k] == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("mode", SCORE_MODES)
def test_torch_and_numpy_agree(mode: str) -> None:
    maps = random_maps(5, 2, 3, 2, 4, 6)
    anchors = [(0.1, 0.2), (0.3, 0.3), (0.5, 0.9)]
    ones = np.ones((3, 2))
    scores, boxes = decode_maps(maps, anchors, ones, mode, 2.0)
    tensors = {name: torch.from_numpy(value) for name, value in maps.items()}
    torch_scores, torch_boxes = decode_maps(tensors, anchors, torch.ones(3, 2), mode, 2.0)
    assert isinstance(torch_scores, torch.Tensor) and isinstance(torch_boxes, torch.Tensor)
    np.testing.assert_allclose(torch_scores.numpy(), scores, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(torch_boxes.numpy(), boxes, rtol=1e-5, atol=1e-7)


def test_gradients_reach_logits_and_wh_scale() -> None:
    maps = {name: torch.from_numpy(v).requires_grad_() for name, v in random_maps(1, 1, 2, 1, 2, 2).items()}
    scale = torch.ones(2, 2, requires_grad=True)
    scores, boxes = decode_maps(maps, [(0.1, 0.1), (0.2, 0.2)], scale, "quality_cls")
    (scores.sum() + boxes.sum()).backward()
    for tensor in (scale, maps["box"], maps["quality"], maps["cls"]):
        assert tensor.grad is not None and bool((tensor.grad != 0).all())
    assert maps["obj"].grad is None


def test_extreme_logits_stay_finite() -> None:
    x = np.array([-1e4, -100, -1, 0, 1, 100, 1e4], dtype=np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        s, p = sigmoid(x), softplus(x)
    np.testing.assert_allclose(s, torch.from_numpy(x).sigmoid().numpy(), atol=1e-7)
    np.testing.assert_allclose(p, torch.nn.functional.softplus(torch.from_numpy(x)).numpy(), rtol=1e-6, atol=1e-7)
    assert softplus(np.zeros(1))[0] == pytest.approx(math.log(2))


def test_integer_maps_are_read_as_numbers() -> None:
    maps = {"box": np.zeros((1, 4, 1, 1), np.int8), "obj": np.full((1, 1, 1, 1), 2, np.int8)}
    scores, boxes = decode_maps(maps, [(0.5, 0.5)], [(1.0, 1.0)], "obj")
    assert scores[0, 0, 0] == pytest.approx(logistic(2))
    np.testing.assert_allclose(boxes[0, 0], [0.5, 0.5, 0.5 * math.log(2), 0.5 * math.log(2)], rtol=1e-6)


@pytest.mark.parametrize(
    ("mode", "available", "expected"),
    [
        ("obj_quality_cls", "obj cls", ("obj", "cls")),
        ("quality_cls", "obj cls", ("obj", "cls")),
        ("quality", "obj cls", ("obj",)),
        ("obj_quality", "obj", ("obj",)),
        ("quality_cls", "quality", ("quality",)),
        ("obj_quality_cls", "obj quality", ("obj", "quality")),
        ("cls", "obj quality", ("obj",)),
        ("obj_cls", "obj", ("obj",)),
        ("cls", "cls", ("cls",)),
    ],
)
def test_missing_branches(mode: str, available: str, expected: tuple[str, ...]) -> None:
    assert score_factors(mode, frozenset(available.split())) == expected


def test_reference_switch_multiplies_an_existing_class() -> None:
    everything = frozenset({"obj", "quality", "cls"})
    assert score_factors("obj_quality", everything) == ("obj", "quality")
    assert score_factors("obj_quality", everything, reference=True) == ("obj", "quality", "cls")
    assert score_factors("obj_cls", everything, reference=True) == ("obj", "cls")
    assert score_factors("quality", frozenset({"quality"}), reference=True) == ("quality",)


@pytest.mark.parametrize("classes", [0, 1, 3])
@pytest.mark.parametrize("quality", [False, True])
def test_split_raw_takes_each_field_from_its_anchor(classes: int, quality: bool) -> None:
    fields = 5 + quality + classes
    raw = np.zeros((1, 2 * fields, 1, 1))
    raw[0, :, 0, 0] = [10 * a + f for a in range(2) for f in range(fields)]
    maps = split_raw(raw, 2, classes, quality)
    assert maps["box"].ravel().tolist() == [0, 1, 2, 3, 10, 11, 12, 13]
    assert maps["obj"].ravel().tolist() == [4, 14]
    assert ("quality" in maps) == quality and ("cls" in maps) == (classes > 0)
    if quality:
        assert maps["quality"].ravel().tolist() == [5, 15]
    if classes:
        first = 5 + quality
        assert maps["cls"].ravel().tolist() == [10 * a + first + k for a in range(2) for k in range(classes)]


def test_errors_name_the_problem() -> None:
    maps = random_maps(0, 1, 2, 1, 2, 2)
    anchors = [(0.1, 0.1), (0.2, 0.2)]
    with pytest.raises(ModelError, match="unknown score mode 'best'"):
        decode_maps(maps, anchors, anchors, "best")
    with pytest.raises(ModelError, match="needs the map obj"):
        decode_maps({k: maps[k] for k in ("box", "quality", "cls")}, anchors, anchors, "obj_cls")
    with pytest.raises(ModelError, match="does not fit anchors"):
        decode_maps(maps, anchors + anchors, anchors + anchors, "obj")
    with pytest.raises(ModelError, match="no map named box"):
        decode_maps({"obj": maps["obj"]}, anchors, anchors, "obj")
    with pytest.raises(ModelError, match="map obj has 3 channels"):
        decode_maps({**maps, "obj": np.zeros((1, 3, 2, 2))}, anchors, anchors, "obj")
    with pytest.raises(ModelError, match="differ in size"):
        decode_maps({**maps, "obj": np.zeros((1, 2, 3, 2))}, anchors, anchors, "obj")
    with pytest.raises(ModelError, match="12 channels, expected 2 anchors x 5 fields"):
        split_raw(np.zeros((1, 12, 1, 1)), 2, 0, False)
