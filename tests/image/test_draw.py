from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uhd.image.draw import PALETTE, contact_sheet, draw_boxes, enlarge


def test_small_pictures_are_enlarged_by_whole_pixels() -> None:
    small = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    large = enlarge(small)
    assert large.shape == (288, 384, 3)
    np.testing.assert_array_equal(large[::6, ::6], small)
    assert enlarge(large).shape == large.shape and enlarge(large) is not large


def test_box_edges_are_where_they_should_be() -> None:
    picture = np.zeros((400, 400, 3), np.uint8)
    drawn = draw_boxes(picture, np.array([[0.9, 1, 0.5, 0.5, 0.5, 0.25]]))
    assert not picture.any()
    ys, xs = np.nonzero((drawn == PALETTE[1]).all(axis=2))
    below = ys > 200
    assert (xs.min(), xs.max()) == (99, 300)  # lines are 2 pixels wide, centred on 100 and 299
    assert ys[below].max() in (249, 250)
    assert not drawn[160:240, 110:290].any()  # the inside stays visible


def test_labels_are_legible_inside_the_picture() -> None:
    picture = np.full((64, 64, 3), 90, np.uint8)
    drawn = draw_boxes(picture, np.array([[0.87, 0, 0.02, 0.02, 0.3, 0.3], [0.4, 0, 0.98, 0.98, 0.3, 0.3]]))
    assert drawn.shape == (384, 384, 3)
    changed = (drawn != 90).any(axis=2)
    plate = (drawn == PALETTE[0]).all(axis=2)
    assert plate.sum() > 300  # the filled plate behind the text
    ink = changed & ~plate
    assert ink[:20, :40].sum() > 20 and ink[-140:, -90:].sum() > 20  # text in both corners


def test_score_changes_the_label_and_names_show_with_several_classes() -> None:
    picture = np.zeros((400, 400, 3), np.uint8)
    row = np.array([[0.9, 0, 0.5, 0.5, 0.5, 0.5]])
    low = row.copy()
    low[0, 0] = 0.2
    one, two = draw_boxes(picture, row), draw_boxes(picture, low)
    assert (one != two).any()
    np.testing.assert_array_equal(one, draw_boxes(picture, row, class_names=["person"]))
    named = draw_boxes(picture, row, class_names=["person", "dog"])
    assert (named != one).any()


def test_ground_truth_is_white_and_empty_input_draws_nothing() -> None:
    picture = np.zeros((400, 400, 3), np.uint8)
    assert not draw_boxes(picture, np.empty((0, 6))).any()
    truth = draw_boxes(picture, np.empty((0, 6)), ground_truth=np.array([[0, 0.5, 0.5, 0.5, 0.5]]))
    assert set(np.unique(truth)) == {0, 255} and (truth[100, 100:299] == 255).all()


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    rows=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 20), *[st.floats(-2, 3)] * 4), max_size=6),
)
def test_any_box_on_any_picture(size: tuple[int, int], rows: list[tuple[float, ...]]) -> None:
    drawn = draw_boxes(np.zeros((*size, 3), np.uint8), np.array(rows))
    factor = -(-384 // max(size))
    assert drawn.shape == (size[0] * factor, size[1] * factor, 3) and drawn.dtype == np.uint8


def test_contact_sheet_places_every_picture() -> None:
    pictures = [np.full((20 + 10 * i, 40, 3), 40 * (i + 1), np.uint8) for i in range(5)]
    sheet = contact_sheet(pictures, columns=3, cell=100, gap=2)
    assert sheet.shape == (2 * 102 + 2, 3 * 102 + 2, 3)
    for i in range(5):
        y, x = 2 + i // 3 * 102 + 50, 2 + i % 3 * 102 + 50
        assert (sheet[y, x] == 40 * (i + 1)).all()
    assert contact_sheet(pictures[:1], columns=3, cell=100, gap=2).shape == (104, 104, 3)
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
