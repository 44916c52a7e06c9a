"""Calibration pictures: order, spread, what the network sees, and bad folders."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.photos import random_rgb, save_png
from uhd.errors import ConfigError, DataError
from uhd.image.resize import resize_image
from uhd.manifest import ModelManifest
from uhd.quantize.calibration import array_sha256, check_array, from_photos, from_scenes, list_photos, spread

MANIFEST = ModelManifest(name="m")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index in range(5):
        save_png(tmp_path / f"{'edcba'[index]}.png", random_rgb(index))
    (tmp_path / "notes.txt").write_text("not a photo")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def test_photos_come_in_the_order_of_their_names(photos: Path) -> None:
    assert [path.name for path in list_photos(photos)] == ["a.png", "b.png", "c.png", "d.png", "e.png"]


def test_pictures_are_what_the_network_sees(photos: Path) -> None:
    made = from_photos(photos, MANIFEST)
    assert made.array.shape == (5, 2, 64, 64) and made.array.dtype == np.float32
    expected = resize_image(random_rgb(4), (64, 64), "opencv_inter_nearest_yuv422")  # a.png is the fifth written
    np.testing.assert_array_equal(made.array[0], expected.transpose(2, 0, 1))
    assert made.description == f"5 photos of {photos.name}"


@pytest.mark.parametrize(
    ("mode", "channels"), [("opencv_inter_nearest", 3), ("torch_bilinear", 3), ("opencv_inter_nearest_y", 1)]
)
def test_every_colour_contract_fits(photos: Path, mode: str, channels: int) -> None:
    manifest = ModelManifest.model_validate(
        {"name": "m", "resize_mode": mode, "input_channels": channels, "input_height": 24, "input_width": 32}
    )
    assert from_photos(photos, manifest, 2).array.shape == (2, channels, 24, 32)


def test_equal_folders_give_equal_bytes_and_the_hash_says_so(photos: Path) -> None:
    first, second = from_photos(photos, MANIFEST, 3), from_photos(photos, MANIFEST, 3)
    assert first.sha256 == second.sha256 == hashlib.sha256(first.array.tobytes()).hexdigest()
    assert from_photos(photos, MANIFEST, 4).sha256 != first.sha256
    assert array_sha256(np.asfortranarray(first.array)) == first.sha256


@given(st.integers(1, 500), st.integers(1, 500))
def test_spread_is_even_and_ordered(count: int, wanted: int) -> None:
    indices = spread(count, wanted)
    assert len(indices) == min(count, wanted)
    assert indices == sorted(set(indices))
    assert indices[0] >= 0 and indices[-1] < count
    gaps = np.diff(indices)
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


def test_progress_is_told(photos: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    from_photos(photos, MANIFEST, 2, lambda *step: heard.append(step))
    assert heard == [("photos", 1, 2), ("photos", 2, 2)]


def test_scenes_say_what_they_are() -> None:
    made = from_scenes(MANIFEST, 3)
    assert made.array.shape == (3, 2, 64, 64)
    assert made.description == "3 generated scenes"
    assert made.sha256 == from_scenes(MANIFEST, 3).sha256
    assert 0 <= made.array.min() < made.array.max() <= 1


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        from_photos(tmp_path / "missing", MANIFEST)
    with pytest.raises(DataError, match="no photos directly in it"):
        from_photos(tmp_path, MANIFEST)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="not a folder"):
        from_photos(tmp_path / "file", MANIFEST)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 this is no picture")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        from_photos(tmp_path, MANIFEST)


@pytest.mark.parametrize("count", [0, -3])
def test_a_count_below_one_is_refused(photos: Path, count: int) -> None:
    with pytest.raises(ConfigError, match="take at least 1"):
        from_photos(photos, MANIFEST, count)
    with pytest.raises(ConfigError, match="take at least 1"):
        from_scenes(MANIFEST, count)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 2, 8, 8), np.float32), "no calibration pictures"),
        (np.zeros((4, 3, 8, 8), np.float32), r"shape \[4, 3, 8, 8\]"),
        (np.zeros((2, 8, 8), np.float32), r"shape \[2, 8, 8\]"),
        (np.full((1, 2, 8, 8), np.nan, np.float32), "not finite"),
        (np.zeros((1, 2, 8, 8), np.uint8), "not finite numbers"),
        (np.zeros((5001, 2, 8, 8), np.float16), "at most 5000"),
    ],
)
def test_arrays_that_cannot_calibrate_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_array(array, (1, 2, 8, 8))


def test_arrays_are_made_contiguous_float32() -> None:
    array = np.zeros((3, 8, 8, 2), np.float64).transpose(0, 3, 1, 2)
    checked = check_array(array, (1, 2, 8, 8))  # type: ignore[arg-type]
    assert checked.flags.c_contiguous and checked.dtype == np.float32
