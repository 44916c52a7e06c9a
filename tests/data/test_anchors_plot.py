from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uhd.data.anchors import auto_anchors
from uhd.data.anchors_plot import anchor_plot, plot_path, write_anchor_plot


@pytest.mark.parametrize(
    ("base", "algorithm", "bias", "name"),
    [
        ("auto_anchors_wh.png", "kmeans", None, "auto_anchors_wh_kmeans.png"),
        ("runs/x/auto_anchors_wh", "stratified_large", 0.2, "runs/x/auto_anchors_wh_stratified_large_bias0.20.png"),
        ("a.b.PNG", "sml_fixed", None, "a.b_sml_fixed.png"),
        ("v1.5", "logkmeans", 1.5, "v1.5_logkmeans_bias1.50.png"),
    ],
)
def test_names(base: str, algorithm: str, bias: float | None, name: str) -> None:
    assert plot_path(Path(base), algorithm, bias) == Path(name)


def test_the_bias_is_named_where_it_counts(tmp_path: Path) -> None:
    wh = np.random.default_rng(0).uniform(0.01, 0.9, (50, 2))
    plain = write_anchor_plot(tmp_path / "new" / "wh.png", wh, auto_anchors(wh, 3), "kmeans", bias=0.3)
    large = write_anchor_plot(tmp_path / "wh", wh, auto_anchors(wh, 3), "stratified_large", bias=0.3)
    assert plain == tmp_path / "new" / "wh_kmeans.png" and large == tmp_path / "wh_stratified_large_bias0.30.png"
    assert cv2.imread(str(plain)).shape == cv2.imread(str(large)).shape
    assert sorted(p.name for p in tmp_path.rglob("*.png")) == [plain.name, large.name]


def filled(picture: np.ndarray) -> int:
    """Pixels with a colour of the histogram: neither grey nor white nor of a ring."""
    low, high = picture.min(axis=2).astype(int), picture.max(axis=2).astype(int)
    red = (picture[..., 2] > 200) & (picture[..., 0] < 200)
    return int(((high - low > 25) & ~red).sum())


def test_boxes_and_anchors_are_where_they_should_be() -> None:
    nothing = anchor_plot(np.zeros((0, 2)), np.zeros((0, 2)))
    assert filled(nothing) == 0
    box = np.array([[0.75, 0.25]])
    one = anchor_plot(box, np.zeros((0, 2)))
    differs = np.argwhere((one != nothing).any(axis=2))
    height, width = one.shape[:2]
    for upper in (True, False):  # the linear panels are on the left; the box is right of their middle and low
        panel = differs[(differs[:, 1] < width // 2) & ((differs[:, 0] < height // 2) == upper)]
        panel = panel[panel[:, 0] > 60]  # below the title, which counts the boxes
        x, y = panel[:, 1].mean(), panel[:, 0].mean()
        top = 44 + 40 + (0 if upper else (height - 44) // 2)
        assert x == pytest.approx(64 + 0.75 * 440, abs=8) and y == pytest.approx(top + 0.75 * 440, abs=8)
    ringed = anchor_plot(box, np.array([[0.75, 0.25]]))
    assert ((ringed[..., 2] > 200) & (ringed[..., 1] < 100)).sum() > 4 * 30  # four rings
    assert ((one[..., 2] > 200) & (one[..., 1] < 100)).sum() == 0


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(0, 300), anchors=st.integers(0, 9))
def test_any_sizes_can_be_drawn(seed: int, count: int, anchors: int) -> None:
    rng = np.random.default_rng(seed)
    wh = 10 ** rng.uniform(-6, 0.5, (count, 2))
    wh[rng.random(count) < 0.1] = rng.choice([0.0, -1.0, np.nan, np.inf])
    rings = 10 ** rng.uniform(-4, 0.5, (anchors, 2))
    picture = anchor_plot(wh, rings, "title")
    assert picture.dtype == np.uint8 and picture.shape == (44 + 2 * (40 + 440 + 56), 2 * (64 + 440 + 16), 3)
    usable = (np.isfinite(wh) & (wh > 0)).all(axis=1).any()
    assert (filled(anchor_plot(wh, rings[:0])) > 0) == bool(usable)
