"""What a path costs a model: the feeds against the libraries, and mAP on generated scenes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from support.photos import random_rgb
from support.scene_folder import write_scenes
from uhd import zoo
from uhd.data.yolo import load_split
from uhd.errors import DataError
from uhd.image.colour import yuv422_u8
from uhd.image.resize import resize_image
from uhd.image.yuyv import rgb_to_yuyv
from uhd.manifest import load_manifest
from uhd.resizing.cost import TRAINED, feed, feeds, measure, packed_then_picked
from uhd.resizing.ways import BY_NAME, WAYS

SIZE = (64, 64)
YUV = "opencv_inter_nearest_yuv422"


def test_feeds_are_the_way_and_then_the_colour() -> None:
    rgb = random_rgb(1, 120, 200)
    small = cv2.resize(rgb, (64, 64), interpolation=cv2.INTER_AREA)
    area = BY_NAME["opencv area"]
    want = cv2.cvtColor(small, cv2.COLOR_RGB2YUV_YUYV).astype(np.float32) / 255
    np.testing.assert_array_equal(feed(area, SIZE, YUV)(rgb), want)
    np.testing.assert_array_equal(feed(area, SIZE, "torch_bilinear")(rgb), small.astype(np.float32) / np.float32(255))
    luma = feed(area, SIZE, "opencv_inter_nearest_y_bin")(rgb)
    assert luma.shape == (*SIZE, 1) and set(np.unique(luma)) <= {0.0, 1.0}


def test_all_ways_are_there_and_the_trained_one_first() -> None:
    rgb = random_rgb(2, 96, 128)
    paths = feeds(SIZE, YUV)
    assert list(paths)[0] == TRAINED
    assert {way.name for way in WAYS if way.library != "uhd"} < set(paths)
    np.testing.assert_array_equal(paths[TRAINED](rgb), resize_image(rgb, SIZE, YUV))
    np.testing.assert_array_equal(paths["opencv nearest"](rgb), paths[TRAINED](rgb))
    frame = rgb_to_yuyv(rgb).reshape(96, 128, 2)
    luma = frame[np.arange(64) * 96 // 64][:, ::2, 0]
    np.testing.assert_array_equal(np.rint(255 * paths["camera frame"](rgb)[..., 0]), luma)
    assert "camera frame" not in feeds(SIZE, "torch_nearest")


def test_resizing_packed_planes_by_two_keeps_only_u() -> None:
    rgb = random_rgb(3, 128, 128)
    packed, found = yuv422_u8(rgb), packed_then_picked(rgb, SIZE)
    np.testing.assert_array_equal(found, packed[::2, ::2])  # even columns alone: u, never v
    assert np.array_equal(packed_then_picked(rgb[:64, :65], SIZE), yuv422_u8(rgb[:64, :64]))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), 24, size=(120, 160))


def test_map_of_a_shipped_model(scenes: Path) -> None:
    letter = zoo.shipped_variants()[0]
    found = measure(letter, load_split(scenes))
    by_way = {path.way: path for path in found.paths}
    assert found.mode == load_manifest(zoo.checkpoint_path(letter).with_suffix(".json")).resize_mode
    assert (found.photos, found.boxes > 0) == (24, True)
    trained, same, other = by_way[TRAINED], by_way["opencv nearest"], by_way["pillow bilinear"]
    assert trained.cost is None and (same.map50, same.map50_95) == (trained.map50, trained.map50_95)
    assert same.cost is not None and same.cost.map50 == 0 and same.cost.map50_error == 0
    assert other.cost is not None and other.cost.map50 == pytest.approx(trained.map50 - other.map50)
    assert other.cost.map50_error is not None
    assert len({path.map50_95 for path in found.paths}) > 3, "ways that differ give other boxes"


def test_photos_without_boxes(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), random_rgb(1))
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match="no photo has a box"):
        measure(zoo.shipped_variants()[0], load_split(tmp_path))
