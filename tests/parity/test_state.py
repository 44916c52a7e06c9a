"""The state file: whole or not at all, whatever ends the run; and only for its own run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from uhd.device.frames import FrameChange
from uhd.device.parity_record import (
    MOST_STEPS,
    Answer,
    PhotoRecord,
    pack_rows,
    step_histograms,
    unequal_integers,
    unpack_rows,
)
from uhd.device.parity_state import Journal, key_digest
from uhd.device.results import rows_from_q16
from uhd.errors import ConfigError, DataError

KEY = {"model": "ab", "engines": ["twin", "device"], "inject": "network"}


def record(number: int) -> PhotoRecord:
    rng = np.random.default_rng(number)
    rows = rows_from_q16(rng.integers(0, 65536, (3, 6)))
    return PhotoRecord(
        size=(10, 20 + number),
        network="n",
        answers={
            "onnx": Answer(rng.normal(size=(2, 6))),
            "device": Answer(rows, "d", "n", {"inference_us": 12, "round_trip_s": 0.1 + number}),
        },
        unequal={"twin/device": (3, 1)},
        steps={"box": [0, number, 1]},
        change=FrameChange(pixels=4096, chroma=7),
        link={"attempts": 2},
    )


def same(a: PhotoRecord, b: PhotoRecord) -> bool:
    return a.as_dict() == b.as_dict()


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.jsonl"
    with Journal(path, KEY) as journal:
        for number in range(5):
            journal.add(number, record(number))
        journal.add(2, record(12))
        journal.add_stats({"inferences": 5})
    with Journal(path, KEY, resume=True) as journal:
        assert sorted(journal.records) == [0, 1, 2, 3, 4] and journal.damaged == 0
        assert all(same(journal.records[n], record(12 if n == 2 else n)) for n in range(5))
        assert journal.stats == {"inferences": 5} and journal.runs == 2


def test_every_cut_keeps_the_whole_lines(tmp_path: Path) -> None:
    """A kill or a power cut at any byte: what was complete stays, and the run goes on in the same file."""
    path = tmp_path / "run.jsonl"
    with Journal(path, KEY) as journal:
        for number in range(3):
            journal.add(number, record(number))
    data = path.read_bytes()
    for cut in [*range(0, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:cut])
        whole = [json.loads(line) for line in data[:cut].split(b"\n")[:-1]]
        with Journal(path, KEY, resume=True) as journal:
            assert sorted(journal.records) == sorted(e["photo"] for e in whole if "photo" in e)
            journal.add(9, record(9))
        with Journal(path, KEY, resume=True) as journal:
            assert same(journal.records[9], record(9)) and journal.damaged == 0


def test_damaged_lines_count_as_not_written(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, KEY) as journal:
        journal.add(0, record(0))
    entry = {"photo": 1, **record(1).as_dict()}
    del entry["size"]
    bad = [b"\xff\xfe", b"[1]", b'{"photo": "x"}', json.dumps(entry).encode(), b"{}", b'{"photo": 4, "answers": null}']
    path.write_bytes(path.read_bytes() + b"\n".join(bad) + b"\n")
    with Journal(path, KEY, resume=True) as journal:
        assert sorted(journal.records) == [0] and journal.damaged == len(bad)


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    Journal(path, KEY).close()
    with pytest.raises(ConfigError, match=r"different: inject, model"):
        Journal(path, KEY | {"model": "cd", "inject": "camera"}, resume=True)
    path.write_text("a diary\n")
    with pytest.raises(DataError, match="not the state"):
        Journal(path, KEY, resume=True)
    assert path.read_text() == "a diary\n"
    assert key_digest(KEY) != key_digest(KEY | {"model": "cd"}) and len(key_digest(KEY)) == 12


def test_a_new_run_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, KEY) as journal:
        journal.add(0, record(0))
    old = path.read_bytes()
    with Journal(path, KEY) as journal:
        assert not journal.records and journal.runs == 1
    assert (tmp_path / "run.jsonl.old").read_bytes() == old


def test_two_runs_do_not_share_a_state(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, KEY):
        for resume in (True, False):
            with pytest.raises(ConfigError, match="in use|using this state"):
                Journal(path, KEY, resume=resume)
    Journal(path, KEY, resume=True).close()


@given(hnp.arrays(np.int64, st.tuples(st.integers(0, 5), st.just(6)), elements=st.integers(0, 65535)))
def test_rows_of_the_link_are_kept_as_integers(integers: NDArray[np.int64]) -> None:
    rows = rows_from_q16(integers)
    packed = json.loads(json.dumps(pack_rows(rows)))
    assert "whole" in packed
    np.testing.assert_array_equal(unpack_rows(packed), rows)


@given(hnp.arrays(np.float64, st.tuples(st.integers(0, 5), st.just(6)), elements=st.floats(-2, 2)))
def test_any_rows_are_kept_exactly(rows: NDArray[np.float64]) -> None:
    np.testing.assert_array_equal(unpack_rows(json.loads(json.dumps(pack_rows(rows)))), rows)


def test_histogram_of_steps() -> None:
    integers = {"box": np.array([[[[3, -128, 127, 0]]]], np.int8)}
    real = {"box": np.array([3.4, -500.0, 126.0, 2.0]).reshape(1, 4, 1, 1) / 16}
    counts = step_histograms(real, integers, {"box": -4})["box"]
    found = {i - MOST_STEPS: count for i, count in enumerate(counts) if count}
    assert found == {0: 2, 1: 1, -2: 1}, "a float beyond the range counts as its end"
    assert step_histograms(real, integers, {}) == {}


def test_integers_are_counted() -> None:
    a = {"x": np.array([1, 2, 3], np.int8), "y": np.array([7], np.int16)}
    assert unequal_integers(a, {k: v.astype(np.int64)[None] for k, v in a.items()}) == (0, 0)
    assert unequal_integers(a, a | {"x": np.array([1, -126, 4], np.int8)}) == (2, 128)
    assert unequal_integers(a, {"x": a["x"]}) == (4, -1)
