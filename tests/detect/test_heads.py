"""Decoding of centre-point and DETR heads against scalar formulas, golden detections, and between array kinds."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.shared import shared_dir
from uhd.detect.decode import decode_maps, split_raw
from uhd.detect.heads import HEADS, decode_centernet, decode_detr, decode_head, suppression_iou
from uhd.detect.nms import detections
from uhd.errors import ModelError

CASES = ["cnn_anchor", "cnn_centernet", "cnn_microcspnet", "cnn_utrn_add", "cnn_utrn_cat", "transformer"]


def centre_maps(seed: int, batch: int, classes: int, height: int, width: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    hm = rng.uniform(0, 1, (batch, classes, height, width))
    off, wh = rng.uniform(-0.5, 1.5, (2, batch, 2, height, width))
    return {"hm": hm.astype(np.float32), "off": off.astype(np.float32), "wh": (2 * wh).astype(np.float32)}


def detr_maps(seed: int, batch: int, queries: int, classes: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "logits": rng.normal(0, 3, (batch, queries, classes + 1)).astype(np.float32),
        "boxes": rng.uniform(0, 1, (batch, queries, 4)).astype(np.float32),
    }


def tensors(maps: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in maps.items()}


def assert_same_rows(found: np.ndarray, expected: Any, tolerance: float = 1e-5) -> None:
    """Equal as sets of rows, for lists whose order is not by score and for ties."""
    want = np.array(expected, dtype=np.float64).reshape(-1, 6)
    assert len(found) == len(want)
    distance = np.abs(found[:, None] - want[None]).max(axis=2)
    assert (distance.min(axis=1, initial=9) <= tolerance).all()
    assert (distance.min(axis=0, initial=9) <= tolerance).all()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)),
)
def test_every_cell_equals_the_scalar_formula(seed: int, shape: tuple[int, int, int, int]) -> None:
    batch, classes, height, width = shape
    maps = centre_maps(seed, *shape)
    scores, boxes = decode_centernet(maps)
    assert scores.shape == (batch, height * width, classes)
    assert boxes.dtype == scores.dtype == np.float32
    for b, y, x in np.ndindex(batch, height, width):
        off, wh = maps["off"][b, :, y, x], maps["wh"][b, :, y, x]
        want = [(x + off[0]) / width, (y + off[1]) / height, wh[0] / width, wh[1] / height]
        np.testing.assert_allclose(boxes[b, y * width + x], want, rtol=1e-5, atol=1e-6)
        assert scores[b, y * width + x].tolist() == maps["hm"][b, :, y, x].tolist()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)),
    topk=st.integers(0, 70),
    ties=st.booleans(),
)
def test_the_best_pairs_of_cell_and_class(seed: int, shape: tuple[int, int, int, int], topk: int, ties: bool) -> None:
    maps = centre_maps(seed, *shape)
    if ties:
        maps["hm"] = np.round(maps["hm"] * 3) / 3
    scores, boxes = decode_centernet(maps, topk)
    all_scores, all_boxes = decode_centernet(maps)
    batch, classes, height, width = shape
    count = min(topk, classes * height * width)
    assert scores.shape == (batch, count, classes) and boxes.shape == (batch, count, 4)
    for b in range(batch):
        pairs = sorted(
            ((-all_scores[b, cell, label], label * height * width + cell) for label in range(classes)
             for cell in range(height * width)),
        )[:count]  # fmt: skip
        for row, (score, index) in enumerate(pairs):
            label, cell = divmod(index, height * width)
            assert scores[b, row, label] == -score
            assert np.count_nonzero(np.delete(scores[b, row], label)) == 0
            assert boxes[b, row].tolist() == all_boxes[b, cell].tolist()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), batch=st.integers(1, 3), queries=st.integers(1, 6), classes=st.integers(1, 4))
def test_queries_equal_the_scalar_formula(seed: int, batch: int, queries: int, classes: int) -> None:
    maps = detr_maps(seed, batch, queries, classes)
    scores, boxes = decode_detr(maps)
    assert scores.shape == (batch, queries, classes)
    assert np.array_equal(boxes, maps["boxes"])
    for b, q, label in np.ndindex(batch, queries, classes):
        powers = [math.exp(value) for value in maps["logits"][b, q].tolist()]
        assert scores[b, q, label] == pytest.approx(powers[label] / sum(powers), rel=1e-5)


@pytest.mark.parametrize("topk", [None, 7])
def test_torch_and_numpy_agree(topk: int | None) -> None:
    for head, maps in (("centernet", centre_maps(3, 2, 2, 4, 5)), ("detr", detr_maps(4, 2, 5, 3))):
        scores, boxes = decode_head(head, maps, topk=topk)
        torch_scores, torch_boxes = decode_head(head, tensors(maps), topk=topk)
        assert isinstance(torch_scores, torch.Tensor) and isinstance(torch_boxes, torch.Tensor)
        np.testing.assert_allclose(torch_scores.numpy(), scores, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(torch_boxes.numpy(), boxes, rtol=1e-6, atol=1e-7)


def test_half_precision_and_integers_are_read_as_numbers() -> None:
    maps = tensors(centre_maps(1, 1, 1, 3, 3))
    scores, boxes = decode_centernet({name: value.half() for name, value in maps.items()})
    assert scores.dtype == boxes.dtype == torch.float32
    assert torch.allclose(boxes, decode_centernet(maps)[1], atol=2e-3)
    integers = {"hm": np.ones((1, 1, 1, 2), np.int8), **{k: np.zeros((1, 2, 1, 2), np.int8) for k in ("off", "wh")}}
    assert decode_centernet(integers)[1].tolist() == [[[0, 0, 0, 0], [0.5, 0, 0, 0]]]


def test_extreme_logits_stay_finite() -> None:
    logits = np.array([[[1e4, -1e4, 0.0]]], np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        scores, _ = decode_detr({"logits": logits, "boxes": np.zeros((1, 1, 4), np.float32)})
    assert scores.tolist() == [[[1.0, 0.0]]]


def test_gradients_pass() -> None:
    for head, maps in (("centernet", centre_maps(3, 1, 2, 3, 3)), ("detr", detr_maps(4, 1, 3, 2))):
        leaves = {name: value.requires_grad_() for name, value in tensors(maps).items()}
        scores, boxes = decode_head(head, leaves)
        (scores.sum() + boxes.sum()).backward()
        assert all(value.grad is not None for value in leaves.values())


def test_anchor_heads_are_decoded_as_before() -> None:
    rng = np.random.default_rng(0)
    maps = {"box": rng.normal(size=(1, 8, 2, 3)), "obj": rng.normal(size=(1, 2, 2, 3))}
    anchors, scale = [(0.1, 0.2), (0.3, 0.4)], [(1.0, 1.0), (0.5, 2.0)]
    found = decode_head("anchor", maps, anchors=anchors, wh_scale=scale, score_mode="obj")
    for one, other in zip(found, decode_maps(maps, anchors, scale, "obj"), strict=True):
        assert np.array_equal(one, other)


def test_which_heads_are_suppressed() -> None:
    assert [suppression_iou(head, 0.5) for head in HEADS] == [0.5, 0.5, None]
    assert [suppression_iou(head, 0.5, reference=True) for head in HEADS] == [0.5, None, None]
    assert suppression_iou("anchor", None) is None


@pytest.mark.parametrize("name", CASES)
def test_golden_detections(name: str) -> None:
    folder = shared_dir("fixtures", "golden")
    case = json.loads((folder / "index.json").read_text())[name]
    maps = dict(np.load(folder / name / "outputs.npz"))
    decode, anchors = case["decode"], case["config"].get("anchors", [])
    if decode["fn"] == "anchor":
        maps = split_raw(maps["raw"], len(anchors), case["config"]["num_classes"], False)
    elif decode["fn"] == "detr":
        maps = {key: value.swapaxes(0, 1) for key, value in maps.items()}
    scores, boxes = decode_head(
        decode["fn"], maps, anchors=anchors, wh_scale=np.ones((len(anchors), 2)), topk=decode.get("topk")
    )
    iou = suppression_iou(decode["fn"], decode.get("nms_thresh"), reference=True)
    found = detections(scores, boxes, score_threshold=decode["conf_thresh"], iou_threshold=iou, top_k=None)
    expected = json.loads((folder / name / "decoded.json").read_text())
    for rows, want in zip(found, expected, strict=True):
        assert_same_rows(rows, want)


@pytest.mark.parametrize("kind", ["centernet", "detr"])
def test_golden_random_maps(kind: str) -> None:
    golden = json.loads(shared_dir("fixtures", "losses", "losses.json").read_text())[kind]
    random = np.random.RandomState(21 if kind == "centernet" else 31)  # noqa: NPY002 - the recipe's generator

    def logistic(values: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-values))

    if kind == "centernet":
        maps = {"hm": logistic(random.normal(0, 1.5, (3, 3, 5, 6))), "off": random.normal(0.5, 0.3, (3, 2, 5, 6))}
        maps["wh"] = random.normal(2, 1, (3, 2, 5, 6))
    else:
        maps = {"logits": random.normal(0, 1, (7, 3, 4)), "boxes": logistic(random.normal(0, 1, (7, 3, 4)))}
        maps = {key: value.swapaxes(0, 1) for key, value in maps.items()}
    scores, boxes = decode_head(kind, {key: value.astype(np.float32) for key, value in maps.items()}, topk=5)
    found = detections(scores, boxes, score_threshold=0.3, iou_threshold=None, top_k=None)
    for rows, want in zip(found, golden["decode"], strict=True):
        assert_same_rows(rows, want)


@pytest.mark.parametrize(
    ("head", "maps", "match"),
    [
        ("yolo", {}, "unknown head 'yolo'; choose one of anchor, centernet, detr"),
        ("centernet", {"hm": np.zeros((1, 1, 2, 2))}, "no map named off among: hm"),
        ("detr", {}, "no map named logits among: none"),
        ("centernet", {k: np.zeros((1, 1, 2, 2)) for k in ("hm", "off", "wh")}, "do not fit"),
        ("centernet", {k: np.zeros((1, 2, 2)) for k in ("hm", "off", "wh")}, "map hm has shape"),
        ("detr", {"logits": np.zeros((1, 2, 1)), "boxes": np.zeros((1, 2, 4))}, "do not fit"),
        ("detr", {"logits": np.zeros((1, 2, 2)), "boxes": np.zeros((1, 3, 4))}, "do not fit"),
    ],
)
def test_errors_name_the_problem(head: str, maps: dict[str, Any], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        decode_head(head, maps)
