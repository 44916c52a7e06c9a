"""Folders, files and patterns; photos in threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.infer import sample_pictures
from support.photos import random_rgb, save_png
from uhd import Detector, zoo
from uhd.device.build import float_onnx
from uhd.errors import DataError
from uhd.infer.inputs import Photo, find_files, photos_of
from uhd.infer.photos import CHUNK, find_on_photos


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.png", "b.JPG", "sub/a.png", "sub/deep/c.png", "[odd].png"):
        save_png((tmp_path / name).with_suffix(".png"), random_rgb(1)).rename(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_what_names_stand_for(tree: Path) -> None:
    def names(text: object) -> list[str]:
        return [str(path.relative_to(tree)) for path in find_files(str(text))]

    assert names(tree) == ["[odd].png", "a.png", "b.JPG"]
    assert names(tree / "**") == ["[odd].png", "a.png", "b.JPG", "sub/a.png", "sub/deep/c.png"]
    assert names(tree / "*/*.png") == ["sub/a.png"]
    assert names(tree / "[odd].png") == ["[odd].png"], "a file's own name is no pattern"
    (tree / "sub" / "film.mp4").write_bytes(b"x")
    (tree / "films").mkdir()
    (tree / "films" / "film.mp4").write_bytes(b"x")
    assert names(tree / "films") == ["films/film.mp4"]
    with pytest.raises(DataError, match="pictures and videos"):
        find_files(str(tree / "sub/*"))


@pytest.mark.parametrize("text", ["none", "*.gif", "empty"])
def test_nothing_there(tmp_path: Path, text: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=text.replace("*", r"\*")):
        find_files(str(tmp_path / text))


@given(st.lists(st.sampled_from(["x/a.png", "y/a.png", "x/b.png", "y/A.PNG", "z/x_a.png"]), unique=True))
def test_names_are_unique(names: list[str]) -> None:
    photos = photos_of([Path(name) for name in names])
    assert len({photo.name.lower() for photo in photos}) == len(names)
    assert [str(photo.path) for photo in photos] == names
    assert all(Path(photo.name).suffix.lower() == ".png" for photo in photos)


def test_photos_come_in_order_and_bad_ones_are_told(tmp_path: Path) -> None:
    detector = Detector.load(float_onnx(zoo.checkpoint_path("R")), threshold=0.1)
    pictures = sample_pictures()
    photos = [Photo(f"{index}.png", picture=pictures[index % len(pictures)]) for index in range(5 * CHUNK + 3)]
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff and no more")
    for place in (0, CHUNK, 2 * CHUNK + 1):
        photos[place] = Photo(f"{place}.png", tmp_path / "bad.jpg")
    drawn: dict[str, int] = {}
    for threads in (1, 3):
        drawn.clear()
        found = list(
            find_on_photos(detector, photos, lambda p, rgb, rows: drawn.update({p.name: len(rows)}), threads=threads)
        )
        assert [item.photo for item in found] == photos
        assert [index for index, item in enumerate(found) if item.problem] == [0, CHUNK, 2 * CHUNK + 1]
        assert "bad.jpg" in found[0].problem
        good = [item for item in found if not item.problem]
        assert drawn == {item.photo.name: len(item.rows) for item in good}
        for item in good:
            picture = item.photo.read()
            assert item.size == picture.shape[:2]
            assert np.allclose(item.rows, detector.rows([picture])[0], atol=1e-6)


def test_errors_of_drawing_end_the_run() -> None:
    detector = Detector.load(float_onnx(zoo.checkpoint_path("R")))
    photos = [Photo(f"{index}.png", picture=sample_pictures()[0]) for index in range(100)]
    calls: list[str] = []

    def full(photo: Photo, rgb: object, rows: object) -> None:
        calls.append(photo.name)
        raise DataError("the disk is full")

    with pytest.raises(DataError, match="disk is full"):
        list(find_on_photos(detector, photos, full, threads=2))
    assert len(calls) <= 8, "what was not begun is not begun any more"
