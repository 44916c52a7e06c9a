from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.photos import random_rgb, save_png
from uhd.data.problems import Problem, refuse_if_mostly_broken
from uhd.data.yolo import Sample, load_split, parse_label_line, read_labels, split_samples
from uhd.errors import ConfigError, DataError


def photo(path: Path, labels: str | None = "") -> Path:
    save_png(path, random_rgb(0, 4, 4))
    if labels is not None:
        path.with_suffix(".txt").write_text(labels)
    return path


def test_folder_sorted_with_negatives(tmp_path: Path) -> None:
    photo(tmp_path / "b.png", "0 0.5 0.5 0.25 0.125\n\n0 0.1 0.2 0.1 0.2 0.99 extra\n")
    photo(tmp_path / "a.PNG")
    photo(tmp_path / "c.jpg", "3 0.5 0.5 1 1\n")
    (tmp_path / "notes.txt").write_text("not a label of any picture")
    photo(tmp_path / "sub" / "d.png", "broken")
    samples = load_split(tmp_path)
    assert [s.image.name for s in samples] == ["a.PNG", "b.png", "c.jpg"]
    np.testing.assert_array_equal(
        samples[1].boxes, np.array([[0, 0.5, 0.5, 0.25, 0.125], [0, 0.1, 0.2, 0.1, 0.2]], np.float32)
    )
    assert samples[0].boxes.shape == samples[2].boxes.shape == (0, 5)
    assert all(s.boxes.dtype == np.float32 for s in samples)


def test_class_filter_renumbers(tmp_path: Path) -> None:
    photo(tmp_path / "a.png", "2 .1 .1 .1 .1\n5 .2 .2 .1 .1\n0 .3 .3 .1 .1\n5.0 .4 .4 .1 .1\n")

    def classes(class_ids: tuple[int, ...] | None) -> list[float]:
        return load_split(tmp_path, class_ids=class_ids)[0].boxes[:, 0].tolist()

    assert classes((5, 2)) == [1, 0, 0]
    assert classes((0,)) == [0]
    assert classes(None) == [2, 5, 0, 5]
    for wrong in [(1, 1), ()]:
        with pytest.raises(ConfigError, match="class ids"):
            classes(wrong)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.1", "4 fields"),
        ("0 0.5 0.5 x 0.1", "w is not a number: 'x'"),
        ("person 0.5 0.5 0.1 0.1", "class is not a number: 'person'"),
        ("0 0.5 nan 0.1 0.1", "cy is not finite"),
        ("0 inf 0.5 0.1 0.1", "cx is not finite"),
        ("-1 0.5 0.5 0.1 0.1", "class must be a whole number"),
        ("0.5 0.5 0.5 0.1 0.1", "class must be a whole number"),
        ("0 1.2 0.5 0.1 0.1", "cx = 1.2 is outside"),
        ("0 0.5 -0.01 0.1 0.1", "cy = -0.01 is outside"),
        ("0 0.5 0.5 64 32", "w = 64 is outside"),
        ("0 0.5 0.5 0.1 1.0011", "h = 1.0011 is outside"),
        ("0 0.5 0.5 0 0.1", "no area"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    photo(tmp_path / "a.png", f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(DataError) as caught:
        load_split(tmp_path)
    message = str(caught.value)
    assert f"{tmp_path / 'a.txt'}:3: " in message and reason in message and "\n" not in message


def test_rounding_just_outside_is_clamped() -> None:
    assert parse_label_line("0 1.0005 -0.0005 1.0009 1") == (0, 1.0, 0.0, 1.0, 1.0)


@given(
    label=st.integers(0, 1000),
    box=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(1e-6, 1), st.floats(1e-6, 1)),
    space=st.sampled_from([" ", "\t", "  "]),
)
def test_every_label_in_range_is_read_back(label: int, box: tuple[float, ...], space: str) -> None:
    assert parse_label_line(space.join([str(label), *map(repr, box)])) == (label, *box)


@given(st.text())
def test_any_line_is_a_label_or_a_value_error(line: str) -> None:
    try:
        label, cx, cy, w, h = parse_label_line(line)
    except ValueError as error:
        assert str(error)
    else:
        assert label >= 0 and 0 <= cx <= 1 and 0 <= cy <= 1 and 0 < w <= 1 and 0 < h <= 1


def test_windows_line_ends_byte_order_mark_and_binary(tmp_path: Path) -> None:
    labels = tmp_path / "a.txt"
    labels.write_bytes(b"\xef\xbb\xbf0 0.5 0.5 0.1 0.1\r\n0 0.6 0.6 0.1 0.1\r\n")
    assert len(read_labels(labels)) == 2
    labels.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match=r"a\.txt: not a text file"):
        read_labels(labels)


def test_missing_label_file(tmp_path: Path) -> None:
    photo(tmp_path / "a.png", None)
    with pytest.raises(DataError, match=r"a\.png: its label file a\.txt is missing"):
        load_split(tmp_path)
    assert load_split(tmp_path, unlabelled_as_negative=True)[0].boxes.shape == (0, 5)


def test_labels_in_the_twin_folder(tmp_path: Path) -> None:
    photo(tmp_path / "set" / "images" / "train" / "a.png", None)
    labels = tmp_path / "set" / "labels" / "train" / "a.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text("0 .5 .5 .5 .5")
    assert len(load_split(tmp_path / "set" / "images" / "train")[0].boxes) == 1


def test_list_file_tries_the_documented_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = photo(tmp_path / "lists" / "z.png")
    below = photo(tmp_path / "photos" / "sub" / "y.png")
    bare = photo(tmp_path / "photos" / "x.png")
    here = photo(tmp_path / "here" / "w.png")
    absolute = photo(tmp_path / "abs.png")
    monkeypatch.chdir(tmp_path / "here")
    listing = tmp_path / "lists" / "train.txt"
    listing.write_text(f"z.png\n\nsub/y.png\nelsewhere/x.png\nw.png\n{absolute}\n")
    samples = load_split(listing, tmp_path / "photos")
    assert [s.image.resolve() for s in samples] == [beside, below, bare, here, absolute]


def test_list_file_errors(tmp_path: Path) -> None:
    listing = tmp_path / "train.txt"
    photo(tmp_path / "a.png")
    listing.write_text("a.png\nmissing.png\n")
    with pytest.raises(DataError, match=r"train\.txt:2: no such picture: missing\.png"):
        load_split(listing)
    listing.write_text("\n")
    with pytest.raises(DataError, match="no pictures here"):
        load_split(listing)
    with pytest.raises(DataError, match="cannot read the list"):
        load_split(tmp_path / "absent.txt")
    with pytest.raises(DataError, match="this is a picture"):
        load_split(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures here"):
        load_split(tmp_path / "empty")


def samples_named(names: list[str]) -> list[Sample]:
    return [Sample(Path(name), np.empty((0, 5), np.float32)) for name in names]


def test_split_order_is_the_documented_shuffle() -> None:
    names = [f"img{i:03d}.jpg" for i in range(10)]
    train, val = split_samples(samples_named(names), 0.7, 0.3, seed=42)
    expected = ["7", "3", "2", "8", "5", "6", "9", "4", "0", "1"]
    assert [s.image.name for s in [*train, *val]] == [f"img00{i}.jpg" for i in expected]


@given(st.integers(2, 60), st.floats(0.1, 0.9), st.integers(0, 5))
def test_split_parts_are_disjoint_and_repeatable(count: int, train: float, seed: int) -> None:
    samples = samples_named([str(i) for i in range(count)])
    if not int(count * train) or not int(count * (1 - train)):
        with pytest.raises(ConfigError, match="too few"):
            split_samples(samples, train, 1 - train, seed)
        return
    first, second = split_samples(samples, train, 1 - train, seed)
    assert len(first) == int(count * train) and len(second) == int(count * (1 - train))
    assert not {s.image for s in first} & {s.image for s in second}
    assert [s.image for s in split_samples(samples, train, 1 - train, seed)[0]] == [s.image for s in first]


@pytest.mark.parametrize(("train", "val"), [(0.9, 0.2), (0, 0.5), (1.0, 0.0), (float("nan"), 0.1)])
def test_split_fractions(train: float, val: float) -> None:
    with pytest.raises(ConfigError, match="fractions"):
        split_samples(samples_named(["a", "b"]), train, val)


def test_pictures_with_broken_labels_are_left_out_and_told(tmp_path: Path) -> None:
    photo(tmp_path / "a.png", "0 .5 .5 .1 .1\n")
    photo(tmp_path / "b.png", "0 .5 .5 .1 .1\n0 nan .5 .1 .1\n")
    photo(tmp_path / "c.png", None)
    photo(tmp_path / "d.png")
    problems: list[Problem] = []
    assert [s.image.name for s in load_split(tmp_path, problems=problems)] == ["a.png", "d.png"]
    assert [(p.picture.name, p.reason.split("; ")[0]) for p in problems] == [
        ("b.png", f"{tmp_path}/b.txt:2: cx is not finite: nan"),
        ("c.png", f"{tmp_path}/c.png: its label file c.txt is missing"),
    ]
    with pytest.raises(DataError, match="2 of 4 pictures cannot be used, first .*b.txt:2.*dataset check"):
        refuse_if_mostly_broken(problems, 2, str(tmp_path))
    refuse_if_mostly_broken(problems, 8, str(tmp_path))
