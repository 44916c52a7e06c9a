"""Parity finds equal what is equal, and names what is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from support.scene_folder import write_scenes
from uhd.data.yolo import Sample, load_split
from uhd.device.detectors import Detection
from uhd.device.parity import run_parity
from uhd.device.parity_record import digest
from uhd.errors import DataError
from uhd.manifest import ModelManifest

MANIFEST = ModelManifest(name="m", anchors=[(0.1, 0.2)], wh_scale=[(1.0, 1.0)])


@dataclass
class Scripted:
    """A detector that says what it was told to, photo by photo."""

    name: str
    rows: list[list[list[float]]]
    integers: list[int]
    seen: list[NDArray[np.uint8]] = field(default_factory=list)

    def detect(self, network_input: NDArray[np.uint8]) -> Detection:
        index = len(self.seen)
        self.seen.append(network_input)
        rows = np.asarray(self.rows[index], np.float64).reshape(-1, 6)
        return Detection(rows, {"box": np.full((1, 2, 2, 4), self.integers[index], np.int8)})


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return load_split(write_scenes(tmp_path_factory.mktemp("scenes"), 4))


def perfect_rows(samples: list[Sample]) -> list[list[list[float]]]:
    """Every true box with score 0.9."""
    return [[[0.9, *box.tolist()] for box in sample.boxes] for sample in samples]


def test_perfect_boxes_score_one_and_agree(samples: list[Sample]) -> None:
    rows = perfect_rows(samples)
    twin, device = Scripted("twin", rows, [1, 2, 3, 4]), Scripted("qemu", rows, [1, 2, 3, 4])
    report = run_parity(samples, MANIFEST, [twin, device])
    assert report.exact and report.labelled
    for run in report.runs.values():
        assert run.result is not None and run.result.map50 == pytest.approx(1.0)
    assert all(np.array_equal(a, b) for a, b in zip(twin.seen, device.seen, strict=True))
    assert twin.seen[0].shape == (64, 64, 2)


def test_one_other_integer_is_named(samples: list[Sample]) -> None:
    rows = perfect_rows(samples)
    report = run_parity(samples, MANIFEST, [Scripted("twin", rows, [1, 2, 3, 4]), Scripted("qemu", rows, [1, 2, 0, 4])])
    assert not report.exact
    assert report.pairs[0].integers == [2] and report.pairs[0].boxes == []


def test_one_other_box_is_named_and_moves_map(samples: list[Sample]) -> None:
    rows = perfect_rows(samples)
    other = [list(photo) for photo in rows]
    victim = next(i for i, photo in enumerate(other) if photo)
    other[victim] = []
    report = run_parity(samples, MANIFEST, [Scripted("twin", rows, [0] * 4), Scripted("qemu", other, [0] * 4)])
    assert report.pairs[0].boxes == [victim] and not report.exact
    difference = report.as_dict()["engines"]["qemu"]["map50_difference"]
    assert difference < 0


def test_float_model_is_not_held_to_integers(samples: list[Sample]) -> None:
    rows = perfect_rows(samples)
    report = run_parity(samples, MANIFEST, [Scripted("onnx", rows, [0] * 4), Scripted("twin", rows, [9] * 4)])
    assert report.pairs == [] and report.exact


def test_no_photos_is_an_error() -> None:
    with pytest.raises(DataError, match="no photos"):
        run_parity([], MANIFEST, [])


arrays = hnp.arrays(np.int8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))


@given(arrays, st.data())
def test_digest_sees_every_element_and_no_container(values: NDArray[np.int8], data: st.DataObject) -> None:
    plain = digest({"a": values})
    assert plain == digest({"a": values.astype(np.int64)[None]})
    assert plain != digest({"b": values})
    index = data.draw(st.integers(0, values.size - 1))
    changed = values.copy()
    changed.reshape(-1)[index] ^= 1
    assert plain != digest({"a": changed})


def test_labels_missing_means_no_map(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "s", 2)
    for label in folder.glob("*.txt"):
        label.write_text("")
    rows: list[list[list[float]]] = [[], []]
    report = run_parity(load_split(folder), MANIFEST, [Scripted("twin", rows, [0, 0])])
    assert not report.labelled and report.runs["twin"].result is None
    assert report.as_dict()["engines"]["twin"] is None
