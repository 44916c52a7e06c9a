"""Everything that is wrong with a folder is found, counted and named; what is sound is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.photos import random_rgb, save_png
from support.scene_folder import write_scenes
from uhd.data.check import Report, check_dataset
from uhd.data.yolo import load_split
from uhd.errors import DataError


def found(report: Report) -> list[tuple[str, str, int]]:
    return sorted((f.kind, f.path.name, f.line) for f in report.findings)


def test_a_sound_folder(tmp_path: Path) -> None:
    write_scenes(tmp_path, 6)
    report = check_dataset(tmp_path)
    assert not report.findings and len(report.usable) == report.pictures == 6
    samples = load_split(tmp_path)
    assert report.boxes == {0: sum(len(s.boxes) for s in samples)}
    assert report.negatives == sum(len(s.boxes) == 0 for s in samples)
    assert report.shapes == {(120, 160): 6} and sum(report.sides.values()) == report.boxes[0]


def test_every_kind_of_finding(tmp_path: Path) -> None:
    for number, name in enumerate("abcdefgh"):
        save_png(tmp_path / f"{name}.png", random_rgb(number, 12, 14))
        (tmp_path / f"{name}.txt").write_text("0 .5 .5 .5 .5\n")
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:50])
    (tmp_path / "c.txt").unlink()
    (tmp_path / "d.txt").write_text("0 nan .5 .1 .1\n0 .5 .5 .1 .1\n0 .5 .5 -.1 .1\n")
    (tmp_path / "e.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "f.txt").write_text("7 .5 .5 .1 .1\n0 .5 .5 .01 .3\n\n0 .5 .5 .01 .3\n")
    (tmp_path / "g.png").write_bytes((tmp_path / "h.png").read_bytes())
    (tmp_path / "z.txt").write_text("0 .5 .5 .1 .1\n")
    (tmp_path / "readme.txt").write_text("these are photos\n")
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "other_name.png").write_bytes((tmp_path / "f.png").read_bytes())
    report = check_dataset(tmp_path, class_ids=(0,), against=[tmp_path / "val"])
    assert found(report) == [
        ("class", "f.txt", 1), ("duplicate box", "f.txt", 4), ("duplicate picture", "h.png", 0),
        ("label file", "c.png", 0), ("label file", "e.txt", 0), ("label line", "d.txt", 1), ("label line", "d.txt", 3),
        ("leak", "f.png", 0), ("orphan label", "z.txt", 0), ("picture", "a.png", 0), ("picture", "b.png", 0),
        ("tiny box", "f.txt", 2), ("tiny box", "f.txt", 4),
    ]  # fmt: skip
    assert [path.stem for path in report.usable] == ["f", "g", "h"]
    assert len(report.errors) == 6
    assert all("\n" not in str(finding) and finding.path.name in str(finding) for finding in report.findings)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["sound", "empty", "cut", "nan", "negative", "zero bytes", "no label"]), max_size=8))
def test_usable_pictures_are_those_that_load(tmp_path_factory: pytest.TempPathFactory, kinds: list[str]) -> None:
    folder = tmp_path_factory.mktemp("photos")
    for number, kind in enumerate([*kinds, "sound"]):
        picture = save_png(folder / f"{number}.png", random_rgb(number, 5, 5))
        labels = {"nan": "0 nan .5 .1 .1", "negative": "0 .5 .5 -.1 .1", "sound": "0 .5 .5 .1 .1"}.get(kind, "")
        if kind != "no label":
            picture.with_suffix(".txt").write_text(labels)
        if kind in ("cut", "zero bytes"):
            picture.write_bytes(picture.read_bytes()[: 30 if kind == "cut" else 0])
    report = check_dataset(folder)
    good = [i for i, kind in enumerate([*kinds, "sound"]) if kind in ("sound", "empty")]
    assert [int(path.stem) for path in report.usable] == good
    assert len({finding.path.stem for finding in report.errors}) == len(kinds) + 1 - len(good)


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pictures here"):
        check_dataset(tmp_path)


def test_sides_are_in_network_pixels(tmp_path: Path) -> None:
    picture = save_png(tmp_path / "a.png", random_rgb(0, 50, 100))
    sides = np.array([3.9, 4, 8, 31, 32, 64]) / 64
    picture.with_suffix(".txt").write_text("".join(f"0 .5 .5 {s} {s}\n" for s in sides))
    expected = {"under 4": 1, "under 8": 1, "under 16": 1, "under 32": 1, "32 and more": 2}
    assert check_dataset(tmp_path).sides == expected
    assert check_dataset(tmp_path, side=128).sides["under 4"] == 0
