"""The comparison of ways: figures by hand, what holds on noise, and what is left out without a library."""

from __future__ import annotations

import dataclasses
import os

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from support.photos import random_rgb
from uhd.resizing import study as room
from uhd.resizing.colour import MODES, camera_device, colour_study, opencv_colour
from uhd.resizing.study import PUBLISHED, Difference, Study, claims, measure_times, ratios, study
from uhd.resizing.ways import BY_NAME, WAYS, to_u8

SIZE = (32, 48)


def smooth(seed: int, height: int = 150, width: int = 210) -> NDArray[np.uint8]:
    """Noise with a little of it left after averaging, as a photo has."""
    return cv2.GaussianBlur(random_rgb(seed, height, width), (0, 0), 2)


@pytest.fixture(scope="module")
def found() -> Study:
    return study([smooth(1), smooth(2, 240, 186)], (64, 64))


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), min_size=1, max_size=30), st.integers(1, 29))
def test_a_difference_is_that_of_all_at_once(pairs: list[tuple[int, int]], cut: int) -> None:
    first, second = np.array(pairs, np.uint8).T
    pooled = Difference()
    for part in (slice(0, cut), slice(cut, None)):
        if len(first[part]):
            pooled.add(first[part], second[part])
    gap = np.abs(first.astype(int) - second)
    assert pooled.max == gap.max()
    assert pooled.mean == pytest.approx(gap.mean()) and pooled.std == pytest.approx(gap.std(), abs=1e-5)


def test_kinds() -> None:
    zero = np.zeros(3, np.uint8)
    for second, real, kind in [(zero, 0.0, "equal"), (zero, 0.3, "rounding"), (zero + 1, 0.9, "rounding"),
                               (zero + 2, 1.6, "apart")]:  # fmt: skip
        gap = Difference()
        gap.add(zero, second, real)
        assert gap.kind == kind


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_every_way_keeps_a_plain_picture_and_its_colours(way: room.Way) -> None:
    plain = np.full((70, 90, 3), (10, 120, 250), np.uint8)
    small = way.real(plain, SIZE)
    assert small.shape == (*SIZE, 3)
    np.testing.assert_array_equal(to_u8(small), np.broadcast_to(plain[0, 0], (*SIZE, 3)))


def test_ways_are_what_they_are_named_after() -> None:
    rgb = smooth(3)
    planes = torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None].float()
    area = torch.nn.functional.adaptive_avg_pool2d(planes, SIZE)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(BY_NAME["torch area"].real(rgb, SIZE), area, atol=1e-3)
    box = np.asarray(Image.fromarray(rgb).resize(SIZE[::-1], Image.Resampling.BOX))
    assert np.array_equal(BY_NAME["pillow box"].real(rgb, SIZE), box)
    blocks = rgb[:64, :96].reshape(32, 2, 48, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(BY_NAME["opencv area"].real(rgb[:64, :96], SIZE), blocks, atol=0.51)


def test_what_holds_on_any_picture(found: Study) -> None:
    assert found.photos == 2 and not found.missing
    assert len(found.pairs) == len(WAYS) * (len(WAYS) - 1) // 2
    holds = {claim.text.split(" are ")[0]: claim.holds for claim in claims(found)}
    assert list(holds.values()) == [True, True, True, True, False, False, False, True]
    same = ("pillow nearest", "torch nearest-exact"), ("uhd opencv_inter_nearest", "opencv nearest")
    assert all(found.between(*pair).kind == "equal" for pair in same)  # type: ignore[union-attr]
    assert found.between("opencv nearest", "uhd opencv_inter_nearest") is found.between(*same[1])
    assert found.between("opencv nearest", "nothing") is None


def test_the_published_half_step_is_that_of_cutting(found: Study) -> None:
    """0.4949 between Pillow and torch: cut bytes of one, rounded ones of the other."""
    cut, rounded = found.published[0], found.between(PUBLISHED[0].first, PUBLISHED[0].second)
    assert cut is not None and rounded is not None
    assert cut.max == 1 and 0.4 < cut.mean < 0.6
    assert rounded.mean < 0.15


def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tuple(dataclasses.replace(way, package="no_such_package") if way.package == "PIL" else way for way in WAYS)
    monkeypatch.setattr(room, "WAYS", gone)
    found = study([smooth(1, 40, 60)], (16, 16))
    assert {way.library for way in found.missing} == {"pillow"}
    assert [gap is None for gap in found.published] == [True, True, False]
    assert [claim.holds is None for claim in claims(found)].count(True) == 3


def test_times() -> None:
    ways = [BY_NAME[name] for name in ("opencv nearest", "opencv linear", "opencv area", "torch nearest")]
    threads = cv2.getNumThreads(), torch.get_num_threads()
    times = measure_times(ways, smooth(1, 480, 640), (64, 64), budget_s=0.2)
    assert (cv2.getNumThreads(), torch.get_num_threads()) == threads
    assert list(times) == [way.name for way in ways] and min(times.values()) > 0
    assert ratios(times)["opencv nearest"] == 1
    assert times["opencv area"] > 2 * times["opencv nearest"], "every pixel is read, not one in 75"


def test_colour_modes_are_opencvs_and_the_camera_differs_in_chroma_alone() -> None:
    figures = colour_study([smooth(5, 128, 192), smooth(6, 64, 64)], (64, 64), None)
    assert figures["camera frame, C++ / Python"] is None
    for mode in MODES:
        gap = figures[f"{mode} / OpenCV"]
        assert gap is not None and gap.kind == "equal"
    luma, chroma = figures["camera frame / photo, Y"], figures["camera frame / photo, U and V"]
    assert luma is not None and luma.max == 0
    assert chroma is not None and chroma.max > 1
    assert not any("yuv" in name or "camera" in name for name in colour_study([smooth(5)], (5, 5), None))


def test_a_wrong_conversion_would_show() -> None:
    mode = "opencv_inter_nearest_yuv422"
    assert not np.array_equal(opencv_colour(smooth(1), SIZE, mode), opencv_colour(smooth(1)[..., ::-1], SIZE, mode))


def test_the_device_picks_what_python_picks() -> None:
    device, problem = camera_device()
    if device is None:
        pytest.skip(problem)
    figures = colour_study([smooth(7, 101, 151), smooth(8, 186, 240)], (64, 64), device)
    gap = figures["camera frame, C++ / Python"]
    assert gap is not None and gap.kind == "equal" and gap.count == 2 * 64 * 64 * 2


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    from uhd.device import compile as compiling

    monkeypatch.setattr(os, "environ", {**os.environ, "PATH": "/nowhere", "CXX": ""})
    for function in (compiling.find_compiler, compiling._machine):
        function.cache_clear()
    try:
        device, problem = camera_device()
    finally:
        for function in (compiling.find_compiler, compiling._machine):
            function.cache_clear()
    assert device is None and "no C++ compiler found" in problem
