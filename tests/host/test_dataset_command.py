"""``dataset``: what the three commands print, write and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from support.coco_files import PERSON, coco_content, write_coco
from support.scene_folder import write_scenes
from uhd.data.yolo import load_split
from uhd.host.__main__ import main


def test_check_names_everything_and_lists_the_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_scenes(tmp_path / "photos", 4)
    assert main(["dataset", "check", str(folder)]) == 0
    assert ["usable", "4"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    (folder / "scene_001.txt").write_text("0 2 .5 .1 .1\nx\n")
    good = tmp_path / "good.txt"
    assert main(["dataset", "check", str(folder), "--good-list", str(good)]) == 1
    out = capsys.readouterr().out
    assert f"error  {folder}/scene_001.txt:1: cx = 2 is outside 0..1" in out
    assert f"error  {folder}/scene_001.txt:2: 1 fields" in out
    assert len(load_split(good)) == 3
    assert main(["dataset", "check", str(folder), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["pictures"] == 4 and report["usable"] == 3 and len(report["findings"]) == 2


def test_show_draws_the_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in "ab":
        cv2.imwrite(str(folder / f"{name}.png"), np.zeros((64, 64, 3), np.uint8))
        (folder / f"{name}.txt").write_text("0 .5 .5 .5 .5\n" if name == "a" else "")
    for extra in ([], ["--network", "32x32"]):
        sheet = tmp_path / "sheets" / "sheet.png"
        assert main(["dataset", "show", str(folder), "--output", str(sheet), "--columns", "2", *extra]) == 0
        assert "2 of 2 pictures" in capsys.readouterr().out
        drawn = cv2.imread(str(sheet))
        assert drawn is not None and drawn.shape == (264, 524, 3)
        coloured = (drawn.max(2) - drawn.min(2)) > 100
        assert 300 < coloured.sum() < 3000  # one outline, on one of the two pictures
        halves = coloured[:, :262].sum(), coloured[:, 262:].sum()
        assert min(halves) == 0


def test_show_what_training_sees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_scenes(tmp_path / "photos", 5)
    (tmp_path / "grey.yaml").write_text("data_augment_post: {ToGray: 1}\n")
    sheets = {}
    for what in ("default", "aug", str(tmp_path / "grey.yaml")):
        path = tmp_path / "sheet.png"
        assert main(["dataset", "show", str(folder), "--augmented", what, "--output", str(path)]) == 0
        assert "5 of 5 pictures" in capsys.readouterr().out
        sheets[what] = cv2.imread(str(path)).astype(int)
    assert (sheets["default"].shape != sheets["aug"].shape) or (sheets["default"] != sheets["aug"]).any()
    colour = {what: float((sheet.max(2) - sheet.min(2)).mean()) for what, sheet in sheets.items()}
    assert colour[str(tmp_path / "grey.yaml")] < 0.5 * colour["default"]
    assert main(["dataset", "show", str(folder), "--augmented", "augg", "--output", str(tmp_path / "x.png")]) == 2
    assert "augg" in capsys.readouterr().err and not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["show", "{photos}", "--output", "sheet.gif"], "no picture format"),
        (["show", "{photos}", "--output", "sheet.png", "--network", "axb"], "is no size"),
        (["show", "{photos}", "--output", "sheet.png", "--classes", "person"], "no list of class ids"),
        (["check", "nowhere"], "nowhere"),
        (["coco-person", "--annotations", "no.json", "--images", "{photos}", "--output", "out"], "no.json"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str],
    complaint: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    folder = write_scenes(tmp_path / "photos", 1)
    assert main(["dataset", *(a.format(photos=folder) for a in arguments)]) == 2
    err = capsys.readouterr().err
    assert complaint in err and err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


def test_coco_person_prints_what_it_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = [("a.png", 20, 30), ("b.png", 20, 30)]
    annotations, images = write_coco(tmp_path, coco_content(pictures, [(1, [1, 2, 10, 10], PERSON, 0)]))
    words = ["dataset", "coco-person", "--annotations", str(annotations), "--images", str(images), "--negatives", "1"]
    assert main([*words, "--output", str(tmp_path / "one"), "--link", "copy"]) == 0
    out = capsys.readouterr().out
    assert "negatives" in out and "boxes" in out
    assert not (tmp_path / "one" / "a.png").is_symlink()
    assert main([*words, "--output", str(tmp_path / "two"), "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["pictures"], counts["with_persons"], counts["boxes"]) == (2, 1, 1)
