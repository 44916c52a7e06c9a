from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.shared import shared_dir
from uhd.data.anchors import ALGORITHMS, auto_anchors, wh_iou
from uhd.errors import ConfigError, DataError


def test_goldens_of_the_reference() -> None:
    folder = shared_dir("fixtures", "preprocess")
    golden = json.loads((folder / "preprocess.json").read_text())["auto_anchors"]
    sizes = np.load(folder / "wh_boxes.npy")
    assert {key.split("|")[0] for key in golden} == set(ALGORITHMS)
    for key, expected in golden.items():
        algorithm, k, bias = key.split("|")
        found = auto_anchors(sizes, int(k[1:]), algorithm, bias=float(bias[1:]))
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0, err_msg=key)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(1, 80),
    k=st.integers(1, 12),
    algorithm=st.sampled_from(ALGORITHMS),
    bias=st.sampled_from([-1.0, 0.0, 0.2, 1.0, 3.0]),
)
def test_always_k_anchors_inside_the_range_of_the_boxes(
    seed: int, count: int, k: int, algorithm: str, bias: float
) -> None:
    sizes = np.random.default_rng(seed).uniform(0.01, 0.9, (count, 2)).astype(np.float32)
    anchors = auto_anchors(sizes, k, algorithm, bias=bias)
    assert anchors.shape == (k, 2) and anchors.dtype == np.float32
    assert (np.diff(anchors.prod(axis=1)) >= -1e-6).all()
    assert (anchors >= sizes.min(axis=0) * (1 - 1e-4)).all() and (anchors <= sizes.max(axis=0) * (1 + 1e-4)).all()
    np.testing.assert_array_equal(anchors, auto_anchors(sizes, k, algorithm, bias=bias))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_clear_clusters_are_found(algorithm: str) -> None:
    rng = np.random.default_rng(1)
    centres = np.array([[0.05, 0.1], [0.2, 0.3], [0.6, 0.8]])
    sizes = np.repeat(centres, 60, axis=0) * rng.uniform(0.95, 1.05, (180, 2))
    anchors = auto_anchors(sizes, 3, algorithm, bias=1.0)
    if algorithm in ("stratified", "stratified_large", "sml_fixed"):
        np.testing.assert_allclose(anchors, centres, rtol=0.06)
    else:  # k-means may start with two centres in one cluster; every anchor is still near a cluster or a mean of two
        assert wh_iou(sizes, anchors.astype(np.float64)).max(axis=1).mean() > 0.6


def test_many_kmeans_anchors_cover_better_than_one() -> None:
    sizes = np.random.default_rng(3).uniform(0.02, 0.9, (500, 2))
    cover = [wh_iou(sizes, auto_anchors(sizes, k, "kmeans").astype(np.float64)).max(axis=1).mean() for k in (1, 3, 8)]
    assert cover[0] < cover[1] < cover[2] and cover[2] > 0.65


def test_boxes_without_area_are_left_out() -> None:
    sizes = np.array([[0.2, 0.4], [0, 0.5], [0.3, 0], [np.nan, 0.1], [-0.1, 0.1]])
    np.testing.assert_allclose(auto_anchors(sizes, 2), [[0.2, 0.4], [0.2, 0.4]], rtol=1e-6)


def test_errors() -> None:
    with pytest.raises(DataError, match="no boxes"):
        auto_anchors(np.empty((0, 2)), 3)
    with pytest.raises(ConfigError, match="unknown anchor algorithm 'mean'"):
        auto_anchors(np.ones((3, 2)), 3, "mean")
    with pytest.raises(ConfigError, match="at least 1"):
        auto_anchors(np.ones((3, 2)), 0)
