"""A COCO download becomes labelled pictures: boxes equal, crowds handled, counts exact, nothing half-made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from support.coco_files import DOG, PERSON, coco_content, write_coco
from uhd.data.coco_person import CocoCounts, CocoOptions, convert, plan
from uhd.data.yolo import load_split
from uhd.errors import ConfigError, DataError

PICTURES = [("a.png", 100, 200), ("b.png", 50, 50), ("c.png", 60, 40), ("d.png", 30, 30), ("e.png", 30, 30)]
BOXES = [
    (1, [20.0, 10.0, 40.0, 60.0], PERSON, 0),
    (1, [190.0, 90.0, 50.0, 50.0], PERSON, 0),  # reaches over the edge
    (1, [0.0, 0.0, 20.0, 20.0], PERSON, 1),  # 2 % of the picture: a small crowd
    (2, [0.0, 0.0, 50.0, 25.0], PERSON, 1),  # half of the picture: a large one
    (2, [5.0, 5.0, 10.0, 10.0], PERSON, 0),
    (3, [1.0, 1.0, 5.0, 5.0], DOG, 0),
    (4, [10.0, 10.0, 0.4, 9.0], PERSON, 0),  # under a pixel wide
    (1, [300.0, 10.0, 5.0, 5.0], PERSON, 0),  # outside
]


def converted(tmp_path: Path, **options: object) -> tuple[CocoCounts, Path]:
    annotations, images = write_coco(tmp_path, coco_content(PICTURES, BOXES))
    output = tmp_path / "out"
    return convert(annotations, images, output, CocoOptions(negatives=10, **options)), output  # type: ignore[arg-type]


def test_defaults(tmp_path: Path) -> None:
    counts, output = converted(tmp_path)
    samples = {sample.image.name: sample.boxes for sample in load_split(output)}
    assert sorted(samples) == ["a.png", "c.png", "e.png"]  # b: a crowd; d: shows a person without a box
    np.testing.assert_allclose(samples["a.png"], [[0, 0.2, 0.4, 0.2, 0.6], [0, 0.975, 0.95, 0.05, 0.1]], atol=1e-6)
    assert len(samples["c.png"]) == len(samples["e.png"]) == 0
    assert (output / "a.png").is_symlink() and (output / "a.png").read_bytes()
    assert counts.as_dict() == {
        "pictures": 3, "with_persons": 1, "negatives": 2, "boxes": 2, "crowd_boxes_skipped": 1, "crowd_boxes_kept": 0,
        "crowd_pictures_dropped": 1, "small_boxes_skipped": 1, "invalid_boxes_skipped": 1, "pictures_missing": 0,
        "missing": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("crowds", "names", "boxes"), [("skip", "abce", 3), ("drop", "ce", 0), ("box", "abce", 5), ("auto", "ace", 2)]
)
def test_crowds(tmp_path: Path, crowds: str, names: str, boxes: int) -> None:
    if crowds == "drop":  # no picture with persons is left, so nothing asks for negatives
        counts, output = CocoCounts(), tmp_path / "out"
        with pytest.raises(DataError, match="no picture with a person is left"):
            converted(tmp_path, crowds=crowds)
        assert not output.exists()
        return
    counts, output = converted(tmp_path, crowds=crowds)
    assert sorted(s.image.stem for s in load_split(output)) == list(names)
    assert counts.boxes == boxes


@given(
    st.lists(
        st.tuples(
            st.integers(1, 4),
            st.lists(st.floats(-20, 120, allow_nan=False), min_size=4, max_size=4),
            st.sampled_from([PERSON, DOG]),
            st.integers(0, 1),
        ),
        max_size=12,
    )
)
def test_every_box_is_the_clipped_annotation(boxes: list[tuple[int, list[float], int, int]]) -> None:
    pictures = [(f"{i}.png", 60 + i, 80 + i) for i in range(4)]
    counts = CocoCounts()
    for picture in plan(coco_content(pictures, boxes), CocoOptions(crowds="skip", negatives=99), "x", counts):
        number = int(picture.name[0])
        _, height, width = pictures[number]
        wanted = []
        for owner, (x, y, w, h), category, crowd in boxes:
            left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
            if owner == number + 1 and category == PERSON and not crowd and right - left >= 1 and bottom - top >= 1:
                wanted.append((left, top, right, bottom))
        rows = np.array([line.split() for line in picture.lines], dtype=float).reshape(-1, 5)[:, 1:]
        corners = np.hstack([rows[:, :2] - rows[:, 2:] / 2, rows[:, :2] + rows[:, 2:] / 2])
        np.testing.assert_allclose(corners * ([width, height] * 2), np.array(wanted).reshape(-1, 4), atol=2e-4)
    skipped = counts.crowd_boxes_skipped + counts.small_boxes_skipped + counts.invalid_boxes_skipped
    assert skipped <= len(boxes)


def test_pycocotools_sees_the_same_boxes(tmp_path: Path) -> None:
    annotations, images = write_coco(tmp_path, coco_content(PICTURES, BOXES))
    convert(annotations, images, tmp_path / "out", CocoOptions(crowds="box"))
    coco = COCO(str(annotations))
    for sample in load_split(tmp_path / "out"):
        number = next(i for i, image in coco.imgs.items() if image["file_name"] == sample.image.name)
        entries = coco.loadAnns(coco.getAnnIds(imgIds=[number], catIds=[PERSON]))
        inside = [e for e in entries if e["bbox"][0] < coco.imgs[number]["width"]]
        assert len(inside) == len(sample.boxes)


def test_negatives_and_limit_are_chosen_by_seed(tmp_path: Path) -> None:
    content = coco_content(
        [(f"{i:02d}.png", 20, 20) for i in range(30)], [(i, [1, 1, 9, 9], PERSON, 0) for i in range(1, 21)]
    )

    def names(**options: object) -> list[str]:
        return [p.name for p in plan(content, CocoOptions(**options), "x", CocoCounts())]  # type: ignore[arg-type]

    assert len(names()) == 25 and len(names(negatives=0)) == 20 and len(names(negatives=9)) == 30
    assert len(names(limit=8)) == 10
    assert names(limit=8) == names(limit=8) != names(limit=8, seed=1)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("[]", "has no list 'images'; an instances"),
        ('{"images": [], "annotations": []}', "has no list 'categories'"),
        ("{", "is no JSON"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}', "no category 'person'"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "person"}]}', "file_name"),
        (
            '{"images": [], "annotations": [{"image_id": 1, "category_id": 1, "bbox": ["x", 0, 1, 1]}],'
            ' "categories": [{"id": 1, "name": "person"}]}',
            "'x' is no number",
        ),
    ],
)  # fmt: skip
def test_broken_annotations(tmp_path: Path, damage: str, complaint: str) -> None:
    (tmp_path / "pictures").mkdir()
    path = tmp_path / "instances.json"
    path.write_text(damage)
    with pytest.raises((DataError, ConfigError), match=complaint) as caught:
        convert(path, tmp_path / "pictures", tmp_path / "out")
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["instances.json", "pictures"]


def test_wrong_folders(tmp_path: Path) -> None:
    annotations, images = write_coco(tmp_path, coco_content(PICTURES, BOXES))
    with pytest.raises(DataError, match="no such folder"):
        convert(annotations, tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds none of the"):
        convert(annotations, tmp_path / "empty", tmp_path / "out")
    (images / "a.png").unlink()
    counts = convert(annotations, images, tmp_path / "out", CocoOptions(crowds="skip"))
    assert counts.missing == ["a.png"] and counts.pictures_missing == 1
    with pytest.raises(DataError, match="is not empty"):
        convert(annotations, images, tmp_path / "out")
    assert not list(tmp_path.glob(".*partial"))
    assert json.loads(json.dumps(counts.as_dict()))["missing"] == ["a.png"]
