from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from uhd.train.report import metrics
from uhd.train.report.axes import Scale, number, span
from uhd.train.report.charts import bar_chart, histogram, line_chart, pr_chart, size_chart, thinned
from uhd.train.report.log import pace, read_log
from uhd.train.report.run import Run, _defaults, files, settings


def test_rows_are_split() -> None:
    row = {
        "epoch": 3, "lr": 0.1, "zeta": 1, "box": 2.0, "loss": 3.0, "val_loss": 4.0, "val/obj": 5.0, "map50": 0.5,
        "AP@0.5_class1": 0.25, "coco_mAP50": 0.75, "attr": 1.5, "seconds": 9.0, "note": "x", "flag": True, "none": None,
    }  # fmt: skip
    train, val = metrics.split_row(row)
    assert list(train.items()) == [("loss", 3.0), ("box", 2.0), ("attr", 1.5), ("zeta", 1.0)]
    assert list(val.items()) == [
        ("loss", 4.0), ("obj", 5.0), ("map50", 0.5), ("AP@0.5_class1", 0.25), ("coco_mAP50", 0.75),
    ]  # fmt: skip
    nested = {"epoch": 3, "train": {"box": 1.0, "loss": 2.0}, "val": {"loss": 3.0, "mAP@0.5": 0.5}}
    assert metrics.split_row(nested) == ({"loss": 2.0, "box": 1.0}, {"loss": 3.0, "mAP@0.5": 0.5})


@pytest.mark.parametrize(
    "name", ["map50", "map50_95", "mAP@0.5", "AP@0.5_class0", "ap50_class12", "coco_AP_class3", "AR"]
)
def test_names_of_results(name: str) -> None:
    assert metrics.is_result(name)


@pytest.mark.parametrize("name", ["attr", "range", "loss", "approx", "area", "mapping", "obj"])
def test_names_of_losses(name: str) -> None:
    assert not metrics.is_result(name)


def test_series_and_what_is_not_finite() -> None:
    rows = [
        {"epoch": 1, "loss": 2.0},
        {"epoch": 2, "loss": math.nan, "map50": 0.1},
        {"epoch": 3, "loss": 1.0, "obj": 4},
    ]
    found = metrics.series(rows, "train")
    assert list(found) == ["loss", "obj"] and found["obj"] == [(3.0, 4.0)]
    assert metrics.series(rows, "val") == {"map50": [(2.0, 0.1)]}
    assert metrics.not_finite(rows) == [(2.0, "loss")]


def test_damaged_metrics(tmp_path: Path) -> None:
    assert metrics.read_metrics(tmp_path) == ([], "metrics.jsonl is missing: no epoch has been finished")
    (tmp_path / "metrics.jsonl").write_text("")
    assert "empty" in metrics.read_metrics(tmp_path)[1]
    (tmp_path / "metrics.jsonl").write_bytes(b'{"epoch": 1}\n\n[1]\n{"epoch": 2, "lo\n\xff\xfe\n')
    assert metrics.read_metrics(tmp_path) == ([{"epoch": 1}], "2 damaged lines of metrics.jsonl left out")


def test_the_pace_of_a_run_that_was_resumed(tmp_path: Path) -> None:
    lines = [
        "2026-01-01 10:00:00 uhd 0.1.0",
        "2026-01-01 10:01:00 epoch 1/4  loss 1.0  100 images/s  0:03:00 left",
        "2026-01-01 10:02:30 epoch 2/4  loss 1.0  200.5 images/s",
        "no time: epoch 9/9 900 images/s",
        "2026-01-01 12:00:00 uhd 0.1.0, resumed",
        "2026-01-01 12:00:50 epoch 2/4  loss 1.0  300 images/s",
        "2026-99-99 12:00:50 epoch 3/4  1 images/s",
    ]
    (tmp_path / "train.log").write_text("\n".join(lines))
    seconds, rates = pace(read_log(tmp_path))
    assert seconds == 60 + 50 and rates == [(1.0, 100.0), (2.0, 300.0)]
    assert pace([]) == (None, []) and read_log(tmp_path / "none") == []


def test_times_of_the_rows_come_first(tmp_path: Path) -> None:
    rows = [{"epoch": 1, "seconds": 5.0, "images_per_second": 10.0}, {"epoch": 2, "seconds": 7.0}]
    run = Run(
        tmp_path, rows, {"epochs": 2}, None, None, ["2026-01-01 10:00:00 a", "2026-01-01 11:00:00 epoch 1/2 9 images/s"]
    )
    assert (run.seconds, run.throughput, run.epochs_done, run.epochs_wanted) == (12.0, 10.0, 2, 2)
    later = Run(tmp_path, [], {}, None, None, run.log)
    assert (later.seconds, later.throughput) == (3600.0, 9.0)


def test_defaults_of_settings() -> None:
    defaults = _defaults({"variant": "R"})
    assert {"lr", "epochs", "seed"} <= set(defaults) and json.dumps(defaults)
    lines = settings({**defaults, "lr": 9.0, "unknown": [1]})
    assert [line.name for line in lines if line.changed and line.name != "variant"] == ["lr"]
    assert next(line for line in lines if line.name == "unknown").default == ""
    assert next(line for line in lines if line.name == "lr").text


def test_files_with_their_sizes(tmp_path: Path) -> None:
    (tmp_path / "samples" / "heat").mkdir(parents=True)
    (tmp_path / "samples" / "heat" / "a.png").write_bytes(b"123")
    (tmp_path / "samples" / "b.png").write_bytes(b"12")
    for name, size in (
        ("best.safetensors", 7),
        ("events.out.tfevents.1.x", 3),
        (".lock", 1),
        ("report.html", 9),
        ("z", 0),
    ):
        (tmp_path / name).write_bytes(b"x" * size)
    found = files(tmp_path)
    assert [(f.name, f.size) for f in found] == [
        ("best.safetensors", 7), ("events.out.tfevents.1.x", 3), ("samples/", 5), ("z", 0),
    ]  # fmt: skip
    assert all(f.text for f in found[:3]) and found[3].text == ""


@example(values=[4503600164241408.0], zero=False, log=False, whole=True)
@example(values=[1.0, 1.0000000000000002], zero=False, log=False, whole=False)
@given(
    values=st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=6),
    zero=st.booleans(), log=st.booleans(), whole=st.booleans(),
)  # fmt: skip
def test_axes_of_any_values(values: list[float], zero: bool, log: bool, whole: bool) -> None:
    low, high = span(values, zero=zero, log=log, whole=whole)
    assert low < high and math.isfinite(low) and math.isfinite(high) and (not log or low > 0)
    inside = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    assert all(low <= v <= high for v in inside)
    scale = Scale(low, high, 60.0, 400.0, log)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 12 and ticks == sorted(ticks)
    assert scale(low) == pytest.approx(60) and scale(high) == pytest.approx(400)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (3.0, "3"), (12345, "12,345"), (0.25, "0.25"), (0.123456, "0.1235"), (-1.5, "−1.5"), (1234.5, "1,234"),
     (0.00002, "2e−5"), (1.25e-7, "1.25e−7"), (math.nan, "NaN"), (-math.inf, "−∞")],
)  # fmt: skip
def test_numbers_as_people_read_them(value: float, text: str) -> None:
    assert number(value) == text


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(width=32)), max_size=20), st.booleans())
def test_lines_through_any_points(points: list[tuple[int, float]], log: bool) -> None:
    svg = str(line_chart("a <b>", {"x&y": sorted(points), "empty": []}, log_y=log))
    assert "<b>" not in svg and "x&amp;y" in svg
    assert "nan" not in svg.lower().replace("nan:", "") or "NaN" in svg
    assert 'points="' not in svg or "inf" not in svg.split('points="')[1].split('"')[0]


def test_charts_without_data() -> None:
    nothing = np.zeros(0)
    assert 'polyline class="line' not in pr_chart(nothing, nothing, None, 0.0, 0.0)
    assert "<rect" not in histogram("h", np.linspace(0, 1, 5), {"a": np.zeros(4)}, x_label="x")
    assert "–" in bar_chart("b", [("one", (-1.0, math.nan))], ("p", "q"), "y")
    assert "cell" in size_chart(np.zeros((0, 2)), np.zeros((0, 2)))
    assert len(thinned([(float(i), 0.0) for i in range(5000)])) <= 600
    assert thinned([(float(i), 0.0) for i in range(5000)])[-1][0] == 4999


def test_bars_are_as_high_as_their_values() -> None:
    svg = str(histogram("h", np.linspace(0, 1, 4), {"a": np.array([1, 10, 100])}, x_label="x", mark=0.5))
    heights = [float(part.split('"')[0]) for part in svg.split('height="')[1:]]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2) and heights[0] > 0
    svg = str(bar_chart("b", [("one", (0.2, 0.4))], ("p", "q"), "y"))
    first, second = (float(part.split('"')[0]) for part in svg.split('height="')[1:])
    assert second == pytest.approx(2 * first, abs=0.2)
