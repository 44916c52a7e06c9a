"""Broken photos and labels are left out of a run, each told once; a mostly broken folder is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from support.scene_folder import write_scenes
from uhd.data.problems import Problem
from uhd.errors import DataError
from uhd.train.dataset import open_photos

BREAK = {
    "cut": "the picture is cut off",
    "zero": "the picture file is empty",
    "nan": "cx is not finite",
    "negative": "the box has no area",
    "missing": "its label file",
    "text": "not a picture",
}


def break_photo(picture: Path, how: str) -> None:
    labels = picture.with_suffix(".txt")
    if how == "cut":
        data = cv2.imencode(".jpg", cv2.imread(str(picture)))[1].tobytes()
        picture.write_bytes(data[: len(data) // 2])
    elif how == "zero":
        picture.write_bytes(b"")
    elif how == "text":
        picture.write_text("hello, I am no picture, but long enough to be looked at")
    elif how == "missing":
        labels.unlink()
    else:
        labels.write_text("0 nan .5 .1 .1\n" if how == "nan" else "0 .5 .5 -.0005 .1\n")


def test_what_is_broken_is_left_out_and_told_exactly(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "photos", 60, size=(24, 32))
    for number, how in enumerate(BREAK):
        break_photo(folder / f"scene_{5 * number:03d}.png", how)
    (folder / "scene_001.txt").write_text("")
    for _ in range(2):  # the second time from the cache
        problems: list[Problem] = []
        store, samples = open_photos(folder, (0,), cache_dir=tmp_path / "cache", problems=problems)
        assert len(store) == len(samples) == 54
        assert {p.picture.name for p in problems} == {f"scene_{5 * i:03d}.png" for i in range(6)}
        assert len(problems) == 6
        for problem in problems:
            how = list(BREAK)[int(problem.picture.stem[-3:]) // 5]
            assert BREAK[how] in problem.reason and problem.picture.stem in problem.reason
        for number, sample in enumerate(samples):  # pixels, labels and names still belong together
            assert tuple(store.sizes[number].tolist()) == (24, 32)
            assert (store.truth(number) == sample.boxes).all()
        assert len(store.truth([s.image.name for s in samples].index("scene_001.png"))) == 0
    with pytest.raises(DataError, match="scene_"):
        open_photos(folder, (0,), cache_dir=tmp_path / "cache")


def test_a_mostly_broken_folder_is_refused(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "photos", 8, size=(24, 32))
    for number in range(3):
        break_photo(folder / f"scene_{number:03d}.png", "zero")
    with pytest.raises(DataError, match=r"3 of 8 pictures cannot be used, first .*scene_000.*dataset check"):
        open_photos(folder, (0,), cache_dir=tmp_path / "cache", problems=[])
