"""The page of a parity run: valid, self-contained, safe with any file name, and with the figures of the JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.report_runs import Page
from support.scene_folder import write_scenes
from uhd.data.yolo import Sample, load_split
from uhd.detect.nms import detections
from uhd.device.detectors import Detection
from uhd.device.parity import ParityReport, run_parity
from uhd.device.parity_cases import MOST_CASES, disagreement, worst
from uhd.device.parity_page import About, printable, render, write_page
from uhd.device.parity_record import MOST_STEPS
from uhd.manifest import ModelManifest

MANIFEST = ModelManifest(name="<model> & co", anchors=[(0.1, 0.2)], wh_scale=[(1.0, 1.0)])
HOSTILE = "<img src=x onerror=alert(1)>&\"'\x07"


class Noisy:
    """Finds every labelled box, moved and weighed by chance; its integers are those of chance, too."""

    def __init__(self, name: str, samples: list[Sample], seed: int, timed: bool = False, other: int = 0) -> None:
        self.name, self._samples, self._random, self._timed = name, iter(samples), np.random.default_rng(seed), timed
        self._other = other

    def detect(self, network_input: Any) -> Detection:
        boxes = next(self._samples).boxes.astype(np.float64)
        rows = np.column_stack([self._random.uniform(0.3, 1, len(boxes)), boxes])
        rows[:, 2:] = np.clip(rows[:, 2:] + self._random.normal(0, 0.05, (len(boxes), 4)), 0.01, 1)
        base = np.random.default_rng(int(np.sum(network_input, dtype=np.int64)))
        if self.name == "onnx":
            return Detection(rows, {"box": base.normal(0, 2, (1, 8, 4, 4))})
        integers = base.integers(-40, 40, (1, 4, 4, 8)).astype(np.int8)
        integers.reshape(-1)[: self._other] += 3
        times = {"timestamp_us": 7, "inference_us": int(base.integers(9000, 9900)), "round_trip_s": 0.0625}
        return Detection(rows, {"box": integers}, timings=times if self._timed else {}, link={"attempts": 1})


def report_of(samples: list[Sample], other: int = 0, seeds: tuple[int, int] = (2, 2)) -> ParityReport:
    engines = [
        Noisy("onnx", samples, 1),
        Noisy("twin", samples, seeds[0]),
        Noisy("device", samples, seeds[1], timed=True, other=other),
    ]
    return run_parity(samples, MANIFEST, engines, exponents={"box": -4})


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = write_scenes(tmp_path_factory.mktemp("scenes"), 7, size=(60, 80))
    for suffix in ("png", "txt"):
        (folder / f"scene_003.{suffix}").rename(folder / f"{HOSTILE}.{suffix}")
        (folder / f"scene_004.{suffix}").rename(folder / os.fsdecode(b"not utf-8 \xff\xfe." + suffix.encode()))
    return load_split(folder)


def page_of(report: ParityReport, about: About | None = None) -> tuple[Page, str]:
    text = render(report, MANIFEST, about or About())
    page = Page(text)
    assert page.errors == []
    assert len(page.ids) == len(set(page.ids))
    return page, text


def numbers(value: Any) -> Iterator[float]:
    """All figures of a JSON document, but for histograms, which are drawn."""
    if isinstance(value, dict):
        for name, entry in value.items():
            if name != "counts":
                yield from numbers(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from numbers(entry)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_figures_are_those_of_the_json(samples: list[Sample]) -> None:
    for other in (0, 5):
        report = report_of(samples, other)
        figures = json.loads(json.dumps(report.as_dict()))
        page, _ = page_of(report)
        shown = set(page.values)
        missing = [value for value in numbers(figures) if value not in shown]
        assert not missing
        assert figures["pairs"][0]["other_integers"] == 7 * other
        assert figures["timings"]["device"]["round_trip_s"]["median"] == 0.0625
        assert "timestamp_us" not in figures["timings"]["device"]


def test_what_people_read_is_the_value_rounded(samples: list[Sample]) -> None:
    page, _ = page_of(report_of(samples))
    fractions = [(exact, shown) for exact, shown in page.data if re.fullmatch(r"[+-]?\d\.\d{4}", shown)]
    assert len(fractions) > 8
    for exact, shown in fractions:
        assert float(exact) == pytest.approx(float(shown), abs=5.1e-5)
    assert "62.50 ms" in page.words and "9." in page.words


def test_needs_nothing_from_outside_and_escapes_what_it_shows(samples: list[Sample], tmp_path: Path) -> None:
    about = About(["tag <b>"], f"/tmp/{HOSTILE}.jsonl", 2, f"python -m uhd.host parity --photos '{HOSTILE}'")
    page, text = page_of(report_of(samples), about)
    outside = [link for link in page.links if not link.startswith(("data:image/jpeg;base64,", "#"))]
    assert page.links and not outside
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert not re.search(r"https?://|@import|url\(|<script", text)
    assert "img" not in page.tags and "script" not in page.tags
    assert "<img src=x onerror=alert(1)>&\"'\N{REPLACEMENT CHARACTER}.png" in page.words
    assert "<model> & co" in page.words and "not utf-8" in page.words
    write_page(tmp_path / "deep" / "page.html", report_of(samples), MANIFEST, about)
    assert (tmp_path / "deep" / "page.html").read_text(encoding="utf-8") == text


def test_agreement_and_disagreement_are_said(samples: list[Sample]) -> None:
    page, text = page_of(report_of(samples))
    assert "Exact: twin and device gave the same integers and boxes for all 7 photos." in page.words
    assert 'class="verdict good"' in text
    page, text = page_of(report_of(samples, other=5))
    assert "Not exact" in page.words and 'class="verdict bad"' in text
    assert "twin and device: 35 other integers on 7 photos (up to 3 steps)." in page.words
    page, _ = page_of(report_of(samples, seeds=(2, 3)))
    assert "twin and device: other boxes on" in page.words
    lost = dataclasses.replace(report_of(samples), lost=[(Path(f"/x/{HOSTILE}"), "no answer <b>")])
    page, text = page_of(lost)
    assert "Exact as far as it went" in page.words and "no answer <b>" in page.words and 'verdict bad"' in text


def test_worst_photos_are_drawn_twice_and_embedded_once(samples: list[Sample]) -> None:
    report = report_of(samples)
    _, text = page_of(report)
    gallery = text[text.index('id="worst"') :]
    onnx, device = report.runs["onnx"].rows, report.runs["device"].rows
    chosen = worst(onnx, device, MANIFEST.score_threshold)
    assert len(chosen) == sum(len(sample.boxes) > 0 for sample in samples) > 3
    assert gallery.count("data:image/jpeg;base64,") == gallery.count('<use href="#photo') == len(chosen)
    places = [i for i, _ in chosen]
    assert gallery.count('<rect class="truth"') == 2 * sum(len(samples[i].boxes) for i in places)
    for style, rows in (("float", onnx), ("hit", device)):
        drawn = sum(int((rows[i][:, 0] >= MANIFEST.score_threshold).sum()) for i in places)
        assert gallery.count(f'<rect class="{style}"') == drawn


def test_a_photo_that_is_gone_leaves_a_blank(tmp_path: Path) -> None:
    samples = load_split(write_scenes(tmp_path / "s", 5, size=(60, 80)))
    report = report_of(samples)
    for sample in samples:
        sample.image.unlink()
    _, text = page_of(report)
    assert "data:image" not in text and 'class="blank"' in text


def test_no_labels_no_photos_one_engine(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "s", 2, size=(60, 80))
    for label in folder.glob("*.txt"):
        label.write_text("")
    samples = load_split(folder)
    page, _ = page_of(report_of(samples))
    assert "No labels beside the photos" in page.words
    page, _ = page_of(run_parity(samples, MANIFEST, [Noisy("twin", samples, 1)]))
    assert "Only one engine computes in integers" in page.words and "worst" not in page.ids


def test_disagreement_orders_what_people_would() -> None:
    def rows(*boxes: tuple[float, ...]) -> Any:
        return np.array(boxes, np.float64).reshape(-1, 6)

    box, moved = (0.9, 0, 0.5, 0.5, 0.4, 0.4), (0.9, 0, 0.52, 0.5, 0.4, 0.4)
    weak, other_class = (0.5, 0, 0.5, 0.5, 0.4, 0.4), (0.9, 1, 0.5, 0.5, 0.4, 0.4)
    assert disagreement(rows(box), rows(box), 0.15) == pytest.approx(0, abs=1e-12)
    assert disagreement(rows(), rows(), 0.15) == 0
    assert disagreement(rows(box), rows(weak), 0.15) == pytest.approx(0.4)
    assert disagreement(rows(box), rows(), 0.15) == disagreement(rows(), rows(box), 0.15) == pytest.approx(0.9)
    assert disagreement(rows(box), rows(other_class), 0.15) == pytest.approx(1.8)
    assert 0 < disagreement(rows(box), rows(moved), 0.15) < 0.1
    assert disagreement(rows(weak), rows(), 0.6) == 0, "boxes below the threshold do not count"
    many = [rows(box)] * 40
    assert len(worst(many, [rows()] * 40, 0.15)) == MOST_CASES
    assert worst(many, many, 0.15, [7, 3])[0][0] == 3


def test_the_measure_sees_suppressed_copies_as_alone() -> None:
    """Two boxes of one engine on one of the other: only one finds a partner."""
    scores = np.array([[[0.9, 0.8]]])
    boxes = np.array([[[0.5, 0.5, 0.4, 0.4], [0.52, 0.5, 0.4, 0.4]]])
    kept = detections(scores.transpose(0, 2, 1), boxes, score_threshold=0.1, iou_threshold=0.99, top_k=9)[0]
    assert len(kept) == 2
    assert disagreement(np.asarray(kept), np.asarray(kept)[:1], 0.15) == pytest.approx(0.8)


def test_long_runs_stay_small(samples: list[Sample]) -> None:
    report = report_of(samples)
    many = 200
    run = {
        name: dataclasses.replace(
            engine,
            rows=engine.rows * many,
            timings={stage: values * many for stage, values in engine.timings.items()},
        )
        for name, engine in report.runs.items()
    }
    long = dataclasses.replace(report, runs=run, photos=report.photos * many, truth=report.truth * many)
    _, text = page_of(long)
    assert len(text) < 3_000_000 and text.count('<figure class="pair">') == MOST_CASES


def test_names_may_hold_anything() -> None:
    assert printable("a\x00b\x1b\udcffc") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}?c"
    assert [len(counts) for counts in report_counts()] == [2 * MOST_STEPS + 1]


def report_counts() -> list[list[int]]:
    from uhd.device.parity_record import step_histograms

    ones = np.ones((1, 2, 2, 1), np.int8)
    return list(step_histograms({"a": np.ones((1, 1, 2, 2))}, {"a": ones}, {"a": 0}).values())
